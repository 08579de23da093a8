"""The tokens that are learnt are the tokens that were sampled, under the distribution that they were sampled from."""

from __future__ import annotations

import copy
import struct

import pytest
import torch
from torch import Tensor

from ponder import metrics
from ponder.events import Finish
from ponder.knobs import Knobs, KnobValue, Reward, with_value
from ponder.recipe import Recipe
from tests.trainer.conftest import make_tiny_model
from tests.trainer.test_learning import answer_of, batch, gradient, knobs_with
from trainer.answers import Answer, read_answers
from trainer.learn import MicroBatch, make_learner
from trainer.policy import Policy
from trainer.reference import Reference
from trainer.rewards import Scored
from trainer.sampler import LocalSampler, Sampled
from trainer.tasks import find_task
from trainer.tasks.countdown import pose

COLD = 0.7


def answers_at(policy: Policy, temperature: float) -> list[Answer]:
    sampler = LocalSampler(policy.model, end_ids=policy.end_ids, pad_id=policy.pad_id)
    drawn = sampler.sample(
        [[20, 21, 22]], group_size=8, max_new_tokens=20, temperature=temperature,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    return [answer_of(one, prompt=[20, 21, 22], group=0, advantage=(-1.0) ** place) for place, one in enumerate(drawn)]


def logps_by_hand(model: torch.nn.Module, answer: Answer, temperature: float) -> Tensor:
    ids = torch.tensor([[*answer.prompt_ids, *answer.sampled.ids]])
    logits_TV = model(input_ids=ids).logits[0] / temperature
    start = len(answer.prompt_ids) - 1
    table_TV = torch.log_softmax(logits_TV[start:-1], -1)
    return table_TV[torch.arange(answer.length), torch.tensor(answer.sampled.ids)]


@pytest.mark.parametrize("minibatches", [1, 2])
def test_a_temperature_is_on_both_sides_of_the_ratio_and_of_the_divergence(
    policy: Policy, recipe: Recipe, minibatches: int
) -> None:
    """Trap 2: at 0.7 the first ratio is 1, and the divergence is that of the two distributions at 0.7."""
    answers = answers_at(policy, COLD)
    knobs = knobs_with(recipe, sampling_temperature=COLD, policy_minibatches=minibatches, optim_lr=0.0)
    reference = Reference(lambda: make_tiny_model(seed=1))
    reference.prepare(knobs)
    figures = make_learner(policy, knobs).learn(answers, knobs, reference)
    assert figures[metrics.RATIO_MEAN] == pytest.approx(1.0, abs=1e-5)
    assert figures[metrics.RATIO_MAX] == pytest.approx(1.0, abs=1e-5)
    assert figures[metrics.MISMATCH_MAX] < 1e-4
    other = make_tiny_model(seed=1)
    with torch.no_grad():
        k1 = torch.cat([logps_by_hand(policy.model, a, COLD) - logps_by_hand(other, a, COLD) for a in answers])
        warm = torch.cat([logps_by_hand(policy.model, a, 1.0) - logps_by_hand(other, a, 1.0) for a in answers])
    assert figures[metrics.KL_K1] == pytest.approx(k1.mean().item(), abs=1e-4)
    assert abs(k1.mean() - warm.mean()) > 0.05


def test_a_temperature_on_one_side_alone_would_show(policy: Policy, recipe: Recipe) -> None:
    figures = make_learner(policy, recipe.knobs).learn(
        answers_at(policy, COLD), knobs_with(recipe, sampling_temperature=1.0), Reference(lambda: policy.model)
    )
    assert figures[metrics.MISMATCH] > 0.1


def test_what_was_sampled_is_learnt_though_its_text_would_be_other_tokens(policy: Policy, recipe: Recipe) -> None:
    """Trap 18: text is for people and rewards; ids are kept, told and learnt, and nothing is ever tokenised again."""
    pad, end = policy.pad_id, policy.end_ids[0]
    ids = [[20, pad, pad, 21, end], [22, pad, end]]
    drawn = [Sampled(own, [-1.0] * len(own), [1.0] * len(own), Finish.END) for own in ids]
    read = read_answers(
        policy, find_task("countdown", {}), [pose((1, 2, 3), 10)], [[30, 31]], drawn,
        max_new_tokens=20, weights=Reward(),
    )  # fmt: skip
    for answer, own in zip(read, ids, strict=True):
        assert list(policy.tokenizer(answer.text)["input_ids"]) != own
        assert list(struct.unpack(f"<{len(own)}I", answer.to_rollout().token_ids)) == own
    for place, answer in enumerate(read):
        answer.advantage = (-1.0) ** place
    direct = [answer_of(one, prompt=[30, 31], group=0, advantage=(-1.0) ** place) for place, one in enumerate(drawn)]
    knobs = knobs_with(recipe)
    assert torch.equal(gradient(policy, read, knobs), gradient(policy, direct, knobs))


SWITCHES: list[dict[str, KnobValue]] = [
    {"policy.clip": "cispo"},
    {"policy.ratio": "sequence"},
    {"policy.clip": "none", "kl.estimator": "k2"},
    {"policy.minibatches": 2, "kl.estimator": "k3"},
]


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_old_and_reference_log_probs_are_numbers_and_pass_no_gradient_on(
    policy: Policy, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, switches: dict[str, KnobValue]
) -> None:
    """Trap 22: also in the second update, when the old policy is another one."""
    knobs: Knobs = knobs_with(recipe, optim_lr=0.01, policy_updates_per_batch=2)
    for name, value in switches.items():
        knobs = with_value(knobs, name, value)
    reference = Reference(lambda: make_tiny_model(seed=1))
    reference.prepare(knobs)
    learner = make_learner(policy, knobs)
    accumulate, seen = learner._accumulate, []

    def spy(piece: MicroBatch, knobs: Knobs) -> None:
        accumulate(piece, knobs)
        seen.append(piece)

    monkeypatch.setattr(learner, "_accumulate", spy)
    learner.learn(batch(policy), knobs, reference)
    assert len(seen) > 1
    for piece in seen:
        for logp_N in (piece.old_logp_N, piece.reference_logp_N):
            assert logp_N is not None and not logp_N.requires_grad
    assert isinstance(reference.model, torch.nn.Module)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in reference.model.parameters())


def test_an_answer_is_told_what_it_was_to_the_last_pass(policy: Policy, recipe: Recipe) -> None:
    """Ratio, clip and term of the loss of the second pass, by hand from the weights that the first has left."""
    knobs = knobs_with(recipe, policy_updates_per_batch=2, optim_lr=0.05, policy_clip_low=0.1, policy_clip_high=0.1)
    answers, after_one = batch(policy), copy.deepcopy(policy)
    once = with_value(knobs, "policy.updates_per_batch", 1)
    old = [logps_by_hand(policy.model, answer, 1.0).detach() for answer in answers]
    for learner, passes in ((make_learner(after_one, once), once), (make_learner(policy, knobs), knobs)):
        torch.manual_seed(0)
        learner.learn(answers, passes, Reference(lambda: policy.model))
    told = [answer.learnt for answer in answers]
    assert any(learnt is not None and learnt.clipped for learnt in told)
    for answer, learnt, old_T in zip(answers, told, old, strict=True):
        ratio_T = torch.exp(logps_by_hand(after_one.model, answer, 1.0).detach() - old_T)
        assert learnt is not None
        assert learnt.ratio_mean == pytest.approx(ratio_T.mean().item(), rel=1e-3)
        assert learnt.ratio_min == pytest.approx(ratio_T.min().item(), rel=1e-3)
        assert learnt.ratio_max == pytest.approx(ratio_T.max().item(), rel=1e-3)
        beyond_T = ratio_T > 1.1 if answer.advantage > 0 else ratio_T < 0.9
        assert learnt.clipped == pytest.approx(beyond_T.float().mean().item(), abs=1e-6)
        terms_T = torch.minimum(ratio_T * answer.advantage, ratio_T.clamp(0.9, 1.1) * answer.advantage)
        assert learnt.weight == pytest.approx(1 / sum(one.length for one in answers))
        assert learnt.loss == pytest.approx(-learnt.weight * terms_T.sum().item(), rel=1e-3)


def test_what_is_left_out_is_told_nothing(policy: Policy, recipe: Recipe) -> None:
    answers = batch(policy)
    for answer in answers[:4]:
        answer.advantage = 0.0  # a flat group
    answers[5].scored = Scored(None, {}, "")
    knobs = knobs_with(recipe, policy_drop_flat_groups=True)
    make_learner(policy, knobs).learn(answers, knobs, Reference(lambda: policy.model))
    assert [answer.learnt is None for answer in answers] == [True] * 4 + [False, True, False, False]
