"""The switches of the policy loss, against enumeration, differences and hands."""

from __future__ import annotations

import itertools
import math

import msgspec
import pytest
import torch
from torch import Tensor

from ponder.advantages import group_relative, leave_one_out
from ponder.knobs import AdvantageScale, Clip, Normaliser, Policy, Ratio
from tests.trainer.enumerated import ALL, REWARDS, THETA, expectation, gradient, logps, numeric_gradient
from trainer.losses import clipped_share, policy_terms, ratios, token_weights, value_loss

PLAIN = Policy(clip_low=0.2, clip_high=0.28)
OTHER = THETA + torch.tensor([[0.3, -0.6, 0.1], [0.5, 0.0, -0.7], [-0.2, 0.4, 0.9]], dtype=torch.float64)


def batch_loss(
    theta: Tensor, old: Tensor, answers: list[tuple[int, ...]], advantages: list[float], policy: Policy
) -> Tensor:
    lengths = torch.tensor([len(answer) for answer in answers])
    weights = token_weights(lengths.tolist(), policy.normaliser, max_new_tokens=2)
    terms = policy_terms(
        torch.cat([logps(theta, answer) for answer in answers]),
        torch.cat([logps(old, answer).detach() for answer in answers]),
        torch.tensor(advantages, dtype=torch.float64).repeat_interleave(lengths),
        torch.tensor(weights, dtype=torch.float64).repeat_interleave(lengths),
        lengths,
        policy,
    )
    return terms.sum()


def expected_gradient_of_pairs(estimate: object, scale: AdvantageScale, policy: Policy) -> Tensor:
    """The expected gradient of a group of two, all 49 pairs of answers enumerated, on policy."""
    assert callable(estimate)

    def objective(theta: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for first, second in itertools.product(ALL, ALL):
            chance = (logps(THETA, first).sum() + logps(THETA, second).sum()).exp()
            advantages = estimate([REWARDS[first], REWARDS[second]], scale)
            total = total + chance * batch_loss(theta, THETA, [first, second], advantages, policy)
        return total

    return gradient(objective)


TRUE = gradient(lambda theta: expectation(theta, lambda answer: REWARDS[answer]))
CONSTANT = msgspec.structs.replace(PLAIN, normaliser=Normaliser.CONSTANT)


@pytest.mark.parametrize("clip", list(Clip))
def test_rloo_with_a_constant_normaliser_has_the_gradient_of_the_expected_reward(clip: Clip) -> None:
    policy = msgspec.structs.replace(CONSTANT, clip=clip)
    got = expected_gradient_of_pairs(leave_one_out, AdvantageScale.NONE, policy)
    assert torch.allclose(-2 * got, TRUE, atol=1e-12)  # 2 is the token limit that the constant divides by


def test_dr_grpo_has_that_gradient_too_but_for_the_share_of_siblings() -> None:
    got = expected_gradient_of_pairs(group_relative, AdvantageScale.NONE, CONSTANT)
    assert torch.allclose(-2 * got, TRUE * 1 / 2, atol=1e-12)  # (G - 1) / G


def test_grpo_does_not_have_it_for_it_divides_by_length_and_deviation() -> None:
    sequence = msgspec.structs.replace(PLAIN, normaliser=Normaliser.SEQUENCE)
    got = -expected_gradient_of_pairs(group_relative, AdvantageScale.GROUP_STD, sequence)
    straight = torch.nn.functional.cosine_similarity(got.flatten(), TRUE.flatten(), dim=0)
    assert 0.5 < straight < 0.999

    def by_hand(theta: Tensor) -> float:
        total = 0.0
        for first, second in itertools.product(ALL, ALL):
            chance = math.exp(float(logps(THETA, first).sum() + logps(THETA, second).sum()))
            if REWARDS[first] == REWARDS[second]:
                continue
            centre, spread = (REWARDS[first] + REWARDS[second]) / 2, abs(REWARDS[first] - REWARDS[second]) / 2
            for answer in (first, second):
                ratio = (logps(theta, answer) - logps(THETA, answer)).exp().mean()
                total += chance * float(ratio) * (REWARDS[answer] - centre) / (spread + 1e-6) / 2
        return total

    assert torch.allclose(got, numeric_gradient(by_hand, THETA), atol=1e-8)


@pytest.mark.parametrize("level", list(Ratio))
@pytest.mark.parametrize("normaliser", list(Normaliser))
def test_away_from_the_old_policy_the_clipped_objective_is_the_papers(level: Ratio, normaliser: Normaliser) -> None:
    """Off policy, against a plain-number transcription of PPO's eq. 7 and GSPO's eq. 5 to 7, differentiated by
    differences."""
    answers, advantages = list(ALL), [0.7, -1.1, 0.4, -0.2, 1.3, -0.9, 0.5]
    policy = msgspec.structs.replace(PLAIN, ratio=level, normaliser=normaliser)

    def by_hand(theta: Tensor) -> float:
        total, tokens = 0.0, sum(map(len, answers))
        for answer, advantage in zip(answers, advantages, strict=True):
            differences = [float(d) for d in logps(theta, answer) - logps(THETA, answer)]
            if level is Ratio.SEQUENCE:
                differences = [sum(differences) / len(differences)] * len(differences)
            weight = {
                Normaliser.TOKEN: 1 / tokens,
                Normaliser.SEQUENCE: 1 / (len(answers) * len(answer)),
                Normaliser.CONSTANT: 1 / (len(answers) * 2),
            }[normaliser]
            for difference in differences:
                ratio = math.exp(difference)
                total -= weight * min(ratio * advantage, min(max(ratio, 0.8), 1.28) * advantage)
        return total

    def loss(theta: Tensor) -> Tensor:
        return batch_loss(theta, THETA, answers, advantages, policy)

    assert loss(OTHER).item() == pytest.approx(by_hand(OTHER), abs=1e-12)
    assert torch.allclose(gradient(loss, OTHER), numeric_gradient(by_hand, OTHER), atol=1e-8)
    assert not torch.allclose(gradient(loss, OTHER), gradient(loss, THETA), atol=1e-2)


def test_cispo_weighs_every_token_with_a_clipped_ratio_that_has_no_gradient() -> None:
    policy = msgspec.structs.replace(PLAIN, clip=Clip.CISPO, clip_low=1.0, clip_high=0.1)
    new = torch.tensor([0.5, -0.2, 0.0], requires_grad=True)
    advantage, weight = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([0.5, 0.25, 0.25])
    terms = policy_terms(new, torch.zeros(3), advantage, weight, torch.tensor([3]), policy)
    torch.autograd.backward(terms.sum())
    assert new.grad is not None
    clipped = [1.1, math.exp(-0.2), 1.0]
    by_hand = [-w * c * a for w, c, a in zip([0.5, 0.25, 0.25], clipped, [1.0, -2.0, 3.0], strict=True)]
    assert new.grad.tolist() == pytest.approx(by_hand)


def test_without_a_clip_the_ratio_is_a_plain_importance_weight() -> None:
    policy = msgspec.structs.replace(PLAIN, clip=Clip.NONE)
    got = gradient(lambda theta: batch_loss(theta, THETA, [(1, 2)], [1.5], policy), OTHER)
    true = gradient(lambda theta: -1.5 * (logps(theta, (1, 2)) - logps(THETA, (1, 2))).exp().mean(), OTHER)
    assert torch.allclose(got, true, atol=1e-12)


def test_the_answers_ratio_is_the_geometric_mean_of_its_tokens_and_knows_its_neighbours_not() -> None:
    new, old = torch.tensor([0.1, 0.3, -0.4]), torch.zeros(3)
    got = ratios(new, old, torch.tensor([2, 1]), Ratio.SEQUENCE)
    assert got.tolist() == pytest.approx([math.exp(0.2), math.exp(0.2), math.exp(-0.4)])
    assert ratios(new, new, torch.tensor([2, 1]), Ratio.SEQUENCE).tolist() == [1.0] * 3


@pytest.mark.parametrize(
    ("ratio", "advantage", "clip", "low", "high"),
    [
        (0.5, -1.0, Clip.PPO, True, False), (0.5, 1.0, Clip.PPO, False, False),
        (1.5, 1.0, Clip.PPO, False, True), (1.5, -1.0, Clip.PPO, False, False),
        (0.5, 1.0, Clip.CISPO, True, False), (1.5, -1.0, Clip.CISPO, False, True),
        (0.5, -1.0, Clip.NONE, False, False), (1.5, 1.0, Clip.NONE, False, False),
    ],
)  # fmt: skip
def test_what_is_counted_as_clipped_is_what_the_clip_acts_on(
    ratio: float, advantage: float, clip: Clip, low: bool, high: bool
) -> None:
    policy = msgspec.structs.replace(PLAIN, clip=clip)
    got_low, got_high = clipped_share(torch.tensor([ratio]), torch.tensor([advantage]), policy)
    assert (bool(got_low), bool(got_high)) == (low, high)


@pytest.mark.parametrize(
    ("normaliser", "share"), [(Normaliser.TOKEN, 1.0), (Normaliser.CONSTANT, 1.0), (Normaliser.SEQUENCE, 10.0)]
)
def test_the_length_bias_of_each_normaliser_is_the_documented_one(normaliser: Normaliser, share: float) -> None:
    """Two answers of 10 and 100 tokens with the same |A|: the gradient at each token."""
    lengths = torch.tensor([10, 100])
    new = torch.zeros(110, requires_grad=True)
    weights = token_weights([10, 100], normaliser, max_new_tokens=200)
    policy = msgspec.structs.replace(PLAIN, normaliser=normaliser)
    advantage = torch.tensor([1.0, -1.0]).repeat_interleave(lengths)
    terms = policy_terms(
        new, torch.zeros(110), advantage, torch.tensor(weights).repeat_interleave(lengths), lengths, policy
    )
    torch.autograd.backward(terms.sum())
    assert new.grad is not None
    assert abs(new.grad[0] / new.grad[-1]) == pytest.approx(share)
    assert new.grad[0] < 0 < new.grad[-1]


def test_the_value_loss_takes_the_worse_of_value_and_held_value() -> None:
    new = torch.tensor([1.0, 0.3, 0.05, -1.0], requires_grad=True)
    old, returns = torch.zeros(4), torch.tensor([2.0, 0.0, 1.0, 1.0])
    loss, clipped = value_loss(new, old, returns, torch.full((4,), 0.25), clip=0.2)
    # |1-2| held 0.2: 1.8^2 > 1; |0.3-0| held 0.2: 0.09 > 0.04; inside; |-1-1| held -0.2: 4 > 1.44
    assert loss.item() == pytest.approx(0.5 * 0.25 * (1.8**2 + 0.3**2 + 0.95**2 + 4.0))
    assert clipped.tolist() == [True, False, False, False]
    torch.autograd.backward(loss)
    assert new.grad is not None
    assert new.grad.tolist() == pytest.approx([0.0, 0.25 * 0.3, 0.25 * -0.95, 0.25 * -2.0])
    free, nobody = value_loss(new, old, returns, torch.full((4,), 0.25), clip=0.0)
    assert free.item() == pytest.approx(0.5 * 0.25 * (1.0 + 0.09 + 0.95**2 + 4.0)) and not nobody.any()
