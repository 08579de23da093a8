"""The critic: what it foretells does not depend on padding, how it learns not on how a batch is cut."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path

import msgspec
import pytest
import torch

from ponder import metrics
from ponder.events import CommandApplied, Finish, StepDone
from ponder.knobs import CriticModel, Knobs
from ponder.recipe import Recipe, parse_recipe
from tests.trainer.conftest import RECIPE, make_tiny_model
from tests.trainer.test_learning import batch, knobs_with
from tests.trainer.test_loop import go, of, tensors_of, what_was_learnt
from trainer.answers import Answer
from trainer.credit import give_credit
from trainer.critic import Critic, before_tokens, critic_figures, make_critic
from trainer.learn import Learner, make_learner
from trainer.policy import Policy
from trainer.reference import Reference
from trainer.rewards import Scored

BOTH = pytest.mark.parametrize("model", list(CriticModel))


def ppo(recipe: Recipe, model: CriticModel = CriticModel.HEAD, **changes: object) -> Knobs:
    wanted = {"policy_advantage_scale": "batch", "policy_advantage": "gae", "kl_coef": 0.0, "critic_model": str(model)}
    return knobs_with(recipe, **wanted, **changes)


def learner_with(policy: Policy, knobs: Knobs) -> tuple[Learner, Critic]:
    """A learner whose critic has an opinion."""
    learner = make_learner(policy, knobs)
    learner.prepare(knobs, make_tiny_model)
    assert learner.critic is not None
    torch.manual_seed(3)
    torch.nn.init.normal_(learner.critic.head.weight)
    return learner, learner.critic


def rewarded(policy: Policy) -> list[Answer]:
    answers = batch(policy)
    for place, answer in enumerate(answers):
        answer.scored = Scored(float(place % 3), {}, "")
    return answers


def credit(answers: list[Answer], knobs: Knobs, policy: Policy, critic: Critic) -> dict[str, float]:
    nothing = Reference(lambda: policy.model)
    return give_credit(answers, knobs, policy=policy, reference=nothing, critic=critic, kl=0.0)


@BOTH
def test_values_do_not_depend_on_who_else_is_in_the_batch(policy: Policy, recipe: Recipe, model: CriticModel) -> None:
    _, critic = learner_with(policy, ppo(recipe, model))
    answers = batch(policy)
    critic.foretell(answers, 100_000)
    together = [answer.values for answer in answers]
    critic.foretell(answers, 16)
    for answer, values in zip(answers, together, strict=True):
        assert answer.values is not None and values is not None
        assert len(values) == answer.length + 1
        assert answer.values == pytest.approx(values, abs=1e-5)


def test_the_value_before_a_token_is_that_of_the_token_before_it(policy: Policy, recipe: Recipe) -> None:
    """V before token t is read at the place whose logits draw it; the last value at the answer's last token."""
    _, critic = learner_with(policy, ppo(recipe))
    answer = batch(policy)[0]
    critic.foretell([answer], 1000)
    ids = torch.tensor([[*answer.prompt_ids, *answer.sampled.ids]])
    with torch.no_grad():
        hidden = policy.model.base_model(input_ids=ids).last_hidden_state[0]
        by_place = (hidden @ critic.head.weight[0] + critic.head.bias).tolist()
    assert answer.values == pytest.approx(by_place[len(answer.prompt_ids) - 1 :], abs=1e-5)


def test_the_value_after_the_last_token_is_left_out_of_the_loss() -> None:
    values = torch.tensor([1.0, 2.0, 9.0, 3.0, 9.0])
    assert before_tokens(values, torch.tensor([2, 1])).tolist() == [1.0, 2.0, 3.0]


@BOTH
@pytest.mark.parametrize("clip", [0.0, 0.2])
def test_the_gradient_does_not_depend_on_how_the_batch_is_cut(
    policy: Policy, recipe: Recipe, model: CriticModel, clip: float
) -> None:
    answers, gradients, figures = rewarded(policy), [], []
    for tokens in (100_000, 16, 60):
        knobs = ppo(recipe, model, optim_micro_batch_tokens=tokens, critic_clip=clip, critic_lr=0.0, optim_lr=0.0)
        learner, critic = learner_with(policy, knobs)
        told = credit(answers, knobs, policy, critic)
        figures.append({**told, **learner.learn(answers, knobs, Reference(lambda: policy.model))})
        moved = [*policy.model.parameters(), *critic.named_parameters().values()]
        gradients.append(torch.cat([p.grad.flatten() for p in moved if p.grad is not None]))
    for other in gradients[1:]:
        assert (gradients[0] - other).abs().max() <= 1e-5 * max(1.0, float(gradients[0].abs().max()))
    for name in (metrics.VALUE_LOSS, metrics.VALUE_EXPLAINED, metrics.VALUE_MEAN, metrics.VALUE_CLIPPED):
        assert [told[name] for told in figures[1:]] == pytest.approx([figures[0][name]] * 2, abs=1e-5)


@BOTH
def test_the_value_loss_moves_the_backbone_only_where_it_is_shared(
    policy: Policy, recipe: Recipe, model: CriticModel
) -> None:
    answers = rewarded(policy)
    gradients = []
    for weight in (0.0, 1.0):
        knobs = ppo(recipe, model, critic_weight=weight, optim_lr=0.0, critic_lr=0.0)
        learner, critic = learner_with(policy, knobs)
        credit(answers, knobs, policy, critic)
        learner.learn(answers, knobs, Reference(lambda: policy.model))
        gradients.append(torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None]))
    assert torch.allclose(gradients[0], gradients[1], atol=1e-7) is (model is CriticModel.SEPARATE)


def test_explained_variance_is_the_one_computed_by_hand(policy: Policy) -> None:
    one, two, unscored = batch(policy)[:3]
    one.values, one.returns = [0.1, 0.4, 7.0], [1.0, 0.5]
    two.values, two.returns = [0.3, -7.0], [0.0]
    unscored.values, unscored.returns = [5.0, 5.0], None
    figures = critic_figures([one, two, unscored])
    returns, values = [1.0, 0.5, 0.0], [0.1, 0.4, 0.3]
    left = [got - foretold for got, foretold in zip(returns, values, strict=True)]
    by_hand = 1 - statistics.pvariance(left) / statistics.pvariance(returns)
    assert figures == {
        metrics.VALUE_MEAN: pytest.approx(0.8 / 3),
        metrics.VALUE_MIN: 0.1,
        metrics.VALUE_MAX: 0.4,
        metrics.VALUE_EXPLAINED: pytest.approx(by_hand),
    }


def test_a_new_critic_foretells_nothing_and_draws_no_random_number(policy: Policy, recipe: Recipe) -> None:
    before = torch.get_rng_state()
    critic = make_critic(policy, ppo(recipe), lambda: policy.model)
    answers = batch(policy)
    critic.foretell(answers, 1000)
    assert torch.equal(before, torch.get_rng_state())
    assert all(value == 0.0 for answer in answers for value in answer.values or [1.0])


@BOTH
def test_a_critic_learns_what_is_to_be_expected(policy: Policy, recipe: Recipe, model: CriticModel) -> None:
    answers = rewarded(policy)
    for answer in answers:  # after a truncated one it would learn to expect what it expects
        answer.sampled = dataclasses.replace(answer.sampled, finish=Finish.END)
    knobs = ppo(
        recipe, model, critic_lr=0.02, critic_clip=0.0, critic_weight=1.0, optim_lr=0.0, critic_gae_lambda=1.0,
        policy_updates_per_batch=10,
    )  # fmt: skip
    learner = make_learner(policy, knobs)
    learner.prepare(knobs, make_tiny_model)
    explained = []
    for _ in range(6):
        assert learner.critic is not None
        explained.append(credit(answers, knobs, policy, learner.critic)[metrics.VALUE_EXPLAINED])
        learner.learn(answers, knobs, Reference(lambda: policy.model))
    assert explained[0] == pytest.approx(0.0, abs=1e-6)
    assert explained[-1] > 0.1


@pytest.fixture
def ppo_recipe(tiny_folder: Path) -> Recipe:
    overrides = {
        "policy.preset": "ppo", "policy.updates_per_batch": "2", "policy.minibatches": "2", "kl.target": "0.5",
        "kl.horizon": "20", "critic.lr": "0.01", "kl.estimator": "k1", "kl.where": "reward",
    }  # fmt: skip
    return parse_recipe(RECIPE.format(model=tiny_folder), "tiny.toml", overrides)


@BOTH
def test_a_resumed_run_with_a_critic_is_bit_identical(ppo_recipe: Recipe, tmp_path: Path, model: CriticModel) -> None:
    critic = msgspec.structs.replace(ppo_recipe.critic, model=model)
    recipe = msgspec.structs.replace(ppo_recipe, critic=critic)
    whole = go(recipe, tmp_path / "whole")
    go(msgspec.structs.replace(recipe, stage=msgspec.structs.replace(recipe.stage, steps=2)), tmp_path / "halved")
    resumed = go(recipe, tmp_path / "halved")
    assert what_was_learnt(resumed) == what_was_learnt(whole, after=2)
    for name, tensor in tensors_of(tmp_path / "whole", 4).items():
        assert torch.equal(tensor, tensors_of(tmp_path / "halved", 4)[name]), name
    weights = [event.metrics[metrics.KL_COEF] for event in of(whole, StepDone)]
    assert len(set(weights)) > 1
    figures = of(whole, StepDone)[-1].metrics
    assert {metrics.VALUE_LOSS, metrics.VALUE_EXPLAINED, metrics.VALUE_CLIPPED, metrics.VALUE_MEAN} <= set(figures)


def test_a_critic_can_be_asked_for_while_the_run_goes_on(recipe: Recipe, tmp_path: Path) -> None:
    from ponder.wire import KnobOrder
    from tests.trainer.test_loop import ordering

    orders = {
        1: [KnobOrder("policy.advantage", "gae")],
        2: [KnobOrder("policy.advantage_scale", "none"), KnobOrder("policy.advantage", "gae")],
    }
    link = go(recipe, tmp_path, ordering({step: [*actions] for step, actions in orders.items()}))
    assert [event.name for event in of(link, CommandApplied)] == ["policy.advantage_scale", "policy.advantage"]
    told = [metrics.VALUE_LOSS in event.metrics for event in of(link, StepDone)]
    assert told == [False, False, True, True]
