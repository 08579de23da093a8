"""Rewards, penalties and values into advantages: by hand, and by enumeration."""

from __future__ import annotations

import itertools
import random
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
import torch
from torch import Tensor

from ponder.advantages import generalised, group_relative, leave_one_out, normalised, uncompared
from ponder.knobs import AdvantageEstimator, AdvantageScale, KlEstimator, KlPlace, Knobs, Normaliser
from tests.trainer.enumerated import (
    ALL,
    KNOBS,
    REWARDS,
    START,
    THETA,
    answer_of,
    divergence,
    expectation,
    gradient,
    logps,
    unscored,
)
from trainer.answers import Answer
from trainer.credit import give_credit
from trainer.critic import Critic
from trainer.kl_control import KlControl
from trainer.losses import kl_values, policy_terms
from trainer.policy import Policy
from trainer.reference import Reference

NOBODY = cast(Policy, None)
KL = 0.3


def knobs_with(advantage: AdvantageEstimator, scale: AdvantageScale, *, lam: float = 1.0, gamma: float = 1.0) -> Knobs:
    return msgspec.structs.replace(
        KNOBS,
        policy=msgspec.structs.replace(KNOBS.policy, advantage=advantage, advantage_scale=scale),
        kl=msgspec.structs.replace(KNOBS.kl, where=KlPlace.REWARD),
        critic=msgspec.structs.replace(KNOBS.critic, gae_lambda=lam, gamma=gamma),
    )


def critic_saying(first: float, second: tuple[float, float], last: float) -> Critic:
    """A critic that knows the state: before the first token, after a 1 or a 2, and after a cut."""

    def foretell(answers: list[Answer], _: int) -> None:
        for answer in answers:
            ids = answer.sampled.ids
            middle = [second[ids[0] - 1]] if len(ids) > 1 else []
            answer.values = [first, *middle, last]

    return cast(Critic, SimpleNamespace(foretell=foretell))


def credit(answers: list[Answer], knobs: Knobs, kl: float = 0.0, critic: Critic | None = None) -> dict[str, float]:
    nothing = Reference(lambda: pytest.fail("no reference is loaded here"))
    return give_credit(answers, knobs, policy=NOBODY, reference=nothing, critic=critic, kl=kl)


def loss_of(theta: Tensor, answers: list[Answer]) -> Tensor:
    """The summed token loss, each answer of equal weight."""
    new = torch.cat([logps(theta, answer.sampled.ids) for answer in answers])
    old = torch.cat([logps(THETA, answer.sampled.ids) for answer in answers])
    advantage = torch.tensor([a for answer in answers for a in answer.advantages], dtype=torch.float64)
    lengths = torch.tensor([answer.length for answer in answers])
    policy = msgspec.structs.replace(KNOBS.policy, normaliser=Normaliser.CONSTANT)
    return policy_terms(new, old, advantage, torch.full_like(advantage, 1 / len(answers)), lengths, policy).sum()


TRUE = gradient(lambda theta: expectation(theta, lambda answer: REWARDS[answer]) - KL * divergence(theta))


def test_kl_in_the_reward_of_rloo_has_the_gradient_of_reward_less_divergence() -> None:
    knobs = knobs_with(AdvantageEstimator.LEAVE_ONE_OUT, AdvantageScale.NONE)

    def objective(theta: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for pair in itertools.product(ALL, ALL):
            answers = [answer_of(ids) for ids in pair]
            credit(answers, knobs, KL)
            chance = torch.stack([logps(THETA, ids).sum() for ids in pair]).sum().exp()
            total = total + chance * loss_of(theta, answers)
        return total

    assert torch.allclose(-gradient(objective), TRUE, atol=1e-6)


def values_under(theta: Tensor, kl: float) -> tuple[float, tuple[float, float]]:
    """The true value before the first token and after a 1 or a 2."""
    table, start = torch.log_softmax(theta, -1), torch.log_softmax(START, -1)

    def one(state: int, after: list[float]) -> float:
        return sum(
            table[state, token].exp().item() * (after[token] - kl * (table - start)[state, token].item())
            for token in range(3)
        )

    second = (one(1, [REWARDS[1, t] for t in range(3)]), one(2, [REWARDS[2, t] for t in range(3)]))
    return one(0, [REWARDS[(0,)], *second]), second


@pytest.mark.parametrize(("lam", "is_true_critic"), [(1.0, False), (1.0, True), (0.0, True), (0.5, True)])
def test_gae_has_the_gradient_of_reward_less_divergence(lam: float, is_true_critic: bool) -> None:
    """With lambda 1 whatever the critic says, with less when it says the truth. A cut is worth nothing further on."""
    first, second = values_under(THETA, KL) if is_true_critic else (0.4, (-0.7, 0.3))
    knobs = knobs_with(AdvantageEstimator.GAE, AdvantageScale.NONE, lam=lam)

    def objective(theta: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for ids in ALL:
            answer = answer_of(ids)
            credit([answer], knobs, KL, critic_saying(first, second, 0.0))
            total = total + logps(THETA, ids).sum().exp() * loss_of(theta, [answer])
        return total

    assert torch.allclose(-gradient(objective), TRUE, atol=1e-6)


def test_only_k1_has_the_right_gradient_in_a_reward() -> None:
    """Why `kl.estimator` must be k1 there: E[f grad log pi] is the gradient of the divergence for no other f."""
    true = gradient(divergence)

    def charged(estimator: KlEstimator) -> Tensor:
        def objective(theta: Tensor) -> Tensor:
            def value(ids: tuple[int, ...]) -> Tensor:
                estimate = kl_values(logps(THETA, ids), logps(START, ids), estimator)
                to_come = estimate.flip(0).cumsum(0).flip(0)
                return (to_come * logps(theta, ids)).sum()

            return torch.stack([logps(THETA, ids).sum().exp() * value(ids) for ids in ALL]).sum()

        return gradient(objective)

    assert torch.allclose(charged(KlEstimator.K1), true, atol=1e-12)
    assert not torch.allclose(charged(KlEstimator.K2), true, atol=1e-2)
    assert not torch.allclose(charged(KlEstimator.K3), true, atol=1e-2)


def test_gae_is_the_one_computed_by_hand() -> None:
    rewards, values = [0.1, 0.0, 1.0], [0.5, 0.6, 0.7, 0.25]
    d1, d2, d3 = 0.1 + 0.9 * 0.6 - 0.5, 0.9 * 0.7 - 0.6, 1.0 + 0.9 * 0.25 - 0.7
    mixed = [d1 + 0.72 * (d2 + 0.72 * d3), d2 + 0.72 * d3, d3]
    assert generalised(rewards, values, gamma=0.9, lam=0.8) == pytest.approx(mixed)
    assert generalised(rewards, values, gamma=0.9, lam=0.0) == pytest.approx([d1, d2, d3])
    to_come = [0.1 + 0.81 + 0.729 * 0.25, 0.9 + 0.81 * 0.25, 1.0 + 0.9 * 0.25]
    by_hand = [got - value for got, value in zip(to_come, values, strict=False)]
    assert generalised(rewards, values, gamma=0.9, lam=1.0) == pytest.approx(by_hand)


def test_an_end_is_worth_nothing_further_on_and_a_cut_what_the_critic_says() -> None:
    knobs = knobs_with(AdvantageEstimator.GAE, AdvantageScale.NONE, lam=0.95)
    ended, cut = answer_of((1, 0), reward=1.0), answer_of((1, 2), reward=1.0)
    figures = credit([ended, cut], knobs, critic=critic_saying(0.2, (0.5, 0.0), 0.4))
    assert ended.token_advantages == pytest.approx([0.5 - 0.2 + 0.95 * (1 - 0.5), 1 - 0.5])
    assert cut.token_advantages == pytest.approx([0.5 - 0.2 + 0.95 * (1 + 0.4 - 0.5), 1 + 0.4 - 0.5])
    assert ended.returns is not None and cut.returns is not None
    assert ended.returns[-1] == pytest.approx(1.0)
    assert cut.returns[-1] == pytest.approx(1.4)
    assert figures["value/mean"] == pytest.approx(0.35)


def test_leave_one_out_compares_with_scored_siblings_alone() -> None:
    assert leave_one_out([1.0, 0.0, 0.5], AdvantageScale.NONE) == pytest.approx([0.75, -0.75, 0.0])
    assert leave_one_out([1.0, 0.0, None], AdvantageScale.NONE) == [1.0, -1.0, 0.0]
    rewards: list[float | None] = [0.1, 0.9, 0.4, -0.2]
    centred = group_relative(rewards, AdvantageScale.NONE)
    assert leave_one_out(rewards, AdvantageScale.NONE) == pytest.approx([advantage * 4 / 3 for advantage in centred])


def test_without_a_baseline_an_answer_gets_its_reward_and_the_expected_gradient_stays_true() -> None:
    assert uncompared([1.0, None, 0.5], AdvantageScale.NONE) == [1.0, 0.0, 0.5]
    assert uncompared([1.0, 1.0], AdvantageScale.BATCH_STD, batch_std=0.5) == pytest.approx([2.0, 2.0], rel=1e-5)
    knobs = knobs_with(AdvantageEstimator.NONE, AdvantageScale.NONE)

    def objective(theta: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for ids in ALL:
            answer = answer_of(ids)
            credit([answer], knobs)
            total = total + logps(THETA, ids).sum().exp() * loss_of(theta, [answer])
        return total

    true = gradient(lambda theta: expectation(theta, lambda answer: REWARDS[answer]))
    assert torch.allclose(-gradient(objective), true, atol=1e-6)


@pytest.mark.parametrize("estimator", [AdvantageEstimator.GROUP, AdvantageEstimator.LEAVE_ONE_OUT])
@pytest.mark.parametrize("scale", list(AdvantageScale))
def test_the_scale_of_rewards_matters_only_without_a_deviation(
    estimator: AdvantageEstimator, scale: AdvantageScale
) -> None:
    def advantages(factor: float) -> list[float]:
        answers = [
            answer_of((1, 0), group=place // 3, reward=factor * reward)
            for place, reward in enumerate([1.0, 0.0, 0.0, 2.0, 5.0, 3.0])
        ]
        credit(answers, knobs_with(estimator, scale))
        return [answer.advantage for answer in answers]

    factor = 1.0 if scale is not AdvantageScale.NONE else 10.0
    assert advantages(10.0) == pytest.approx([factor * advantage for advantage in advantages(1.0)], rel=1e-4)


def test_the_batchs_deviation_weighs_groups_of_little_spread_less() -> None:
    answers = [answer_of((1, 0), group=place // 2, reward=reward) for place, reward in enumerate([1.0, 0.0, 0.1, 0.0])]
    credit(answers, knobs_with(AdvantageEstimator.GROUP, AdvantageScale.BATCH_STD))
    spread = torch.tensor([1.0, 0.0, 0.1, 0.0]).std(correction=0).item()
    assert [answer.advantage for answer in answers] == pytest.approx(
        [0.5 / spread, -0.5 / spread, 0.05 / spread, -0.05 / spread], rel=1e-4
    )


def test_batch_advantages_are_normalised_over_the_tokens_of_the_batch() -> None:
    knobs = knobs_with(AdvantageEstimator.BATCH, AdvantageScale.BATCH_STD)
    answers = [answer_of((0,), reward=1.0), answer_of((1, 0), reward=0.0), unscored(answer_of((1, 2)))]
    credit(answers, knobs)
    tokens = torch.tensor([1.0, 0.0, 0.0])
    by_hand = ((tokens - tokens.mean()) / tokens.std(correction=0)).tolist()
    assert answers[0].advantages + answers[1].advantages == pytest.approx(by_hand, rel=1e-4)
    assert answers[2].advantages == [0.0, 0.0]


def test_a_charge_for_divergence_falls_on_its_token_and_those_before() -> None:
    knobs = knobs_with(AdvantageEstimator.BATCH, AdvantageScale.NONE)
    answer = answer_of((1, 2), reward=1.0)
    credit([answer], knobs, KL)
    k1 = (logps(THETA, (1, 2)) - logps(START, (1, 2))).tolist()
    raw = [1.0 - KL * (k1[0] + k1[1]), 1.0 - KL * k1[1]]
    centre = sum(raw) / 2
    assert answer.token_advantages == pytest.approx([value - centre for value in raw])


@pytest.mark.parametrize("rows", [[], [[]], [[0.3], [0.3, 0.3]], [[0.1 + 0.2, 0.1 + 0.2]]])
def test_advantages_that_do_not_differ_are_exactly_nothing(rows: list[list[float]]) -> None:
    assert normalised(rows, AdvantageScale.BATCH_STD) == [[0.0] * len(row) for row in rows]


def test_nobody_is_credited_where_nothing_could_be_scored() -> None:
    for estimator in (AdvantageEstimator.BATCH, AdvantageEstimator.GAE):
        answers = [unscored(answer_of((1, 0))), unscored(answer_of((0,)))]
        credit(answers, knobs_with(estimator, AdvantageScale.BATCH_STD), KL, critic_saying(0.0, (0.0, 0.0), 0.0))
        assert [answer.advantages for answer in answers] == [[0.0, 0.0], [0.0]]


def test_siblings_are_found_by_their_group_and_not_by_their_place() -> None:
    rewards = [1.0, 0.0, 0.5, 3.0, 1.0, 0.0]
    answers = [answer_of((1, 0), group=place // 3, reward=reward) for place, reward in enumerate(rewards)]
    knobs = knobs_with(AdvantageEstimator.GROUP, AdvantageScale.GROUP_STD)
    credit(answers, knobs)
    told = {id(answer): answer.advantage for answer in answers}
    for seed in range(5):
        random.Random(seed).shuffle(answers)
        credit(answers, knobs)
        assert {id(answer): answer.advantage for answer in answers} == told


def test_the_controller_steers_the_weight_as_ziegler_et_al_do() -> None:
    kl = msgspec.structs.replace(KNOBS.kl, coef=0.1, target=6.0, horizon=1000)
    control = KlControl()
    assert control.weight(kl) == 0.1
    control.steer(kl, 6.6, 100)
    assert control.weight(kl) == pytest.approx(0.1 * (1 + 0.1 * 0.1))
    control.steer(kl, 60.0, 100)
    assert control.weight(kl) == pytest.approx(0.1 * 1.01 * (1 + 0.2 * 0.1))
    control.steer(kl, 0.0, 100)
    assert control.weight(kl) == pytest.approx(0.1 * 1.01 * 1.02 * (1 - 0.2 * 0.1))
    turned = msgspec.structs.replace(kl, coef=0.5)
    assert control.weight(turned) == 0.5
    assert control.weight(msgspec.structs.replace(turned, target=0.0)) == 0.5
