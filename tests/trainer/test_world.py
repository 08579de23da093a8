"""What is written by turns: the world's words are read and never drawn, and nothing of them is learnt."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import msgspec
import pytest
import torch

from ponder.events import Finish
from ponder.knobs import Knobs, with_value
from ponder.recipe import Recipe
from tests.trainer.models import policy_of
from trainer import sampler
from trainer.answers import Answer
from trainer.credit import give_credit
from trainer.learn import make_learner
from trainer.policy import Policy, token_logps
from trainer.reference import Reference
from trainer.reflection import Reflections
from trainer.rewards import Scored
from trainer.sampler import Sampled, sampler_of
from trainer.tasks import Environment, Problem, Reply, find_task
from trainer.tasks.countdown import Countdown
from trainer.trail import Trail
from trainer.world import world_of

LIMIT = 24
SAYINGS = ("1 2 3", "4 5 6")


class Clerk(Countdown):
    """An environment: a turn of the policy is two words, the world says three, and the third turn is the last."""

    def reply(self, problem: Problem, text: str, dice: Random) -> Reply | None:  # noqa: ARG002  # it asks nothing
        turns, words = divmod(len(text.split()), 5)
        if words != 2:
            return None
        return Reply(dice.choice(SAYINGS)) if turns < 2 else Reply("", is_over=True)


def draw(policy: Policy, *, trail: Trail | None = None, seed: int = 1) -> tuple[list[list[int]], list[Sampled]]:
    clerk = Clerk()
    problems = clerk.held_out(3)
    prompts = [policy.prompt_ids("solve 1 2"), policy.prompt_ids("solve 7"), policy.prompt_ids("check 1 2 3 4")]
    world = world_of(clerk, policy, problems, 4, "dice")
    drawn = sampler_of(policy).sample(
        prompts, group_size=4, max_new_tokens=LIMIT, temperature=1.0, trail=trail, world=world,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    return prompts, drawn


def answers_of(prompts: list[list[int]], drawn: list[Sampled]) -> list[Answer]:
    return [
        Answer(
            problem=Problem("", ""), prompt_ids=prompts[row // 4], group=row // 4, index=row % 4, sampled=one, text="",
            scored=Scored(float(row % 3), {}, ""), candidates=[], reflections=Reflections([], False, False, False),
            true_steps=0, written_steps=0, advantage=(-1.0) ** row * (1 + row / 4),
        )
        for row, one in enumerate(drawn)
    ]  # fmt: skip


def gradient(policy: Policy, answers: list[Answer], knobs: Knobs) -> torch.Tensor:
    still = msgspec.structs.replace(knobs, optim=msgspec.structs.replace(knobs.optim, lr=0.0, grad_clip=0.0))
    make_learner(policy, still).learn(answers, still, Reference(lambda: policy.model))
    return torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None])


def test_a_task_that_speaks_is_told_from_one_that_does_not() -> None:
    assert isinstance(Clerk(), Environment) and isinstance(find_task("nim", {}), Environment)
    assert not isinstance(find_task("countdown", {}), Environment)


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen2"])
def test_the_worlds_words_stand_where_it_said_them_and_are_nobodys_choice(name: str) -> None:
    policy = policy_of(name)
    _, drawn = draw(policy)
    said = {tuple(policy.inner_ids(words)) for words in SAYINGS}
    spoke = 0
    for one in drawn:
        assert one.own is not None and len(one.own) == len(one.ids) == len(one.logps) == len(one.entropies)
        assert one.own[0]
        for logp, entropy, is_own in zip(one.logps, one.entropies, one.own, strict=True):
            assert is_own or logp == entropy == 0.0
        block: list[int] = []
        for token, is_own in [*zip(one.ids, one.own, strict=True), (0, True)]:
            if is_own and block:
                assert tuple(block) in said
                spoke, block = spoke + 1, []
            elif not is_own:
                block.append(token)
        assert one.drawn == sum(one.own) == len(one.of_own(one.logps))
        assert one.finish is Finish.END or len(one.ids) == LIMIT
    assert spoke > 3


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen2"])
def test_what_was_sampled_between_the_worlds_words_is_what_is_learnt(name: str) -> None:
    policy = policy_of(name)
    prompts, drawn = draw(policy)
    rows = [prompts[row // 4] for row in range(len(drawn))]
    with torch.no_grad():
        logp_N, _ = token_logps(
            policy, policy.model, rows, [one.ids for one in drawn], 1.0, own=[one.own for one in drawn]
        )
    sampled = [logp for one in drawn for logp in one.of_own(one.logps)]
    assert logp_N.tolist() == pytest.approx(sampled, abs=1e-4)


def test_how_rows_are_batched_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of("llama")
    _, together = draw(policy)
    monkeypatch.setattr(sampler, "ROWS_AT_ONCE", 4)
    _, in_waves = draw(policy)
    assert [(one.ids, one.own) for one in together] == [(one.ids, one.own) for one in in_waves]


def test_the_gradient_is_that_of_the_drawn_tokens_alone(recipe: Recipe) -> None:
    policy = policy_of("llama")
    prompts, drawn = draw(policy)
    answers = answers_of(prompts, drawn)
    knobs = with_value(recipe.knobs, "kl.coef", 0.0)
    got = gradient(policy, answers, knobs)
    policy.model.zero_grad()
    rows = [answer.prompt_ids for answer in answers]
    logp_N, _ = token_logps(policy, policy.model, rows, [one.ids for one in drawn], 1.0)
    own_N = torch.tensor([flag for one in drawn for flag in one.own or []])
    advantage_N = torch.tensor([answer.advantage for answer in answers for _ in answer.sampled.ids])
    loss = -(logp_N * advantage_N * own_N).sum() / own_N.sum()
    torch.autograd.backward(loss)
    wanted = torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None])
    assert torch.allclose(got, wanted, atol=1e-5)
    assert wanted.abs().sum() > 0


def test_states_that_sampling_has_kept_give_the_same_gradient(recipe: Recipe) -> None:
    policy = policy_of("llama")
    trail = Trail(policy.model, 100_000_000)
    prompts, kept = draw(policy, trail=trail)
    assert all(one.steps is not None for one in kept)
    knobs = with_value(recipe.knobs, "kl.coef", 0.0)
    with_states = gradient(policy, answers_of(prompts, kept), knobs)
    without = gradient(policy, answers_of(prompts, [replace(one, steps=None) for one in kept]), knobs)
    assert torch.allclose(with_states, without, atol=1e-5)


@pytest.mark.parametrize("estimator", ["group", "leave_one_out", "batch", "gae"])
def test_only_drawn_tokens_have_an_advantage(recipe: Recipe, estimator: str) -> None:
    policy = policy_of("llama")
    knobs = recipe.knobs
    for name, value in {"policy.advantage": estimator, "policy.advantage_scale": "batch", "kl.where": "reward"}.items():
        knobs = with_value(knobs, name, value)
    prompts, drawn = draw(policy)
    answers = answers_of(prompts, drawn)
    reference = Reference(lambda: policy_of("llama", seed=4).model)
    learner = make_learner(policy, knobs)
    reference.prepare(knobs)
    learner.prepare(knobs, reference.load_start)
    give_credit(answers, knobs, policy=policy, reference=reference, critic=learner.critic, kl=0.1)
    assert all(len(answer.advantages) == answer.drawn < answer.length for answer in answers)
    figures = learner.learn(answers, knobs, reference)
    assert figures["ratio/mean"] == pytest.approx(1.0, abs=1e-4)


def test_the_store_is_told_whose_each_token_is() -> None:
    policy = policy_of("llama")
    prompts, drawn = draw(policy)
    rollout = answers_of(prompts, drawn)[0].to_rollout()
    assert list(rollout.own) == [int(flag) for flag in drawn[0].own or []] and 0 in rollout.own
