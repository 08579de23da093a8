"""The losses on rankings against sums over every order, finite differences and what symmetry demands, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise as neighbours
from itertools import permutations, product

import pytest
import torch
from torch import Tensor

from ponder.choices import RankingLoss
from ponder.ranking import Ranks, tiers
from trainer.preferences import (
    MOST_ANSWERS,
    bradley_terry,
    centering,
    pairwise,
    plackett_luce,
    ranking_loss,
)

RANKINGS: list[Ranks] = [
    [1, 2],
    [2, 1, 3],
    [3, 1, 2, 4],
    [1, 1, 2],
    [2, 1, 1, 1],
    [1, 2, 2, None],
    [None, 2, None, 1],
    [1, None, None, None, None],
    [2, 2, 1, 1, None],
    [4, 4, 4, 9, 9, None],
]
ALL = pytest.mark.parametrize("ranks", RANKINGS, ids=str)
BOTH = pytest.mark.parametrize("kind", list(RankingLoss))


def scores(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 1.5


def fits(order: Sequence[int], ranks: Ranks) -> bool:
    """Whether no answer is picked after one that is ranked below it."""
    level = {place: number for number, tier in enumerate(tiers(ranks)) for place in tier}
    picked = [level[place] for place in order]
    return picked == sorted(picked)


def order_probability(score_K: Tensor, order: Sequence[int]) -> Tensor:
    """Plackett-Luce as it is defined: one softmax a pick."""
    probability = torch.ones((), dtype=score_K.dtype)
    for place in range(len(order)):
        probability = probability * torch.softmax(score_K[list(order[place:])], 0)[0]
    return probability


def enumerated(score_K: Tensor, ranks: Ranks) -> Tensor:
    """Minus the log of the probability of all orders that fit the ranking."""
    fitting = [order for order in permutations(range(len(ranks))) if fits(order, ranks)]
    return -torch.log(torch.stack([order_probability(score_K, order) for order in fitting]).sum())


def gradient(loss: Callable[[Tensor], Tensor], score_K: Tensor) -> Tensor:
    leaf = score_K.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(leaf), leaf)
    return found


def differences(loss: Callable[[Tensor], Tensor], score_K: Tensor, step: float = 1e-6) -> Tensor:
    """The gradient by central finite differences."""
    moves = torch.eye(len(score_K), dtype=torch.float64) * step
    return torch.stack([(loss(score_K + move) - loss(score_K - move)) / (2 * step) for move in moves])


@ALL
def test_plackett_luce_is_the_sum_over_every_order_that_fits(ranks: Ranks) -> None:
    score_K = scores(len(ranks))
    assert plackett_luce(score_K, ranks).item() == pytest.approx(enumerated(score_K, ranks).item(), abs=1e-12)
    own = gradient(lambda s: plackett_luce(s, ranks), score_K)
    assert torch.allclose(own, gradient(lambda s: enumerated(s, ranks), score_K), atol=1e-12)


@ALL
@BOTH
def test_gradients_are_those_of_finite_differences(ranks: Ranks, kind: RankingLoss) -> None:
    score_K = scores(len(ranks), 1)

    def loss(score_K: Tensor) -> Tensor:
        return ranking_loss(score_K, ranks, kind) + 0.3 * centering(score_K)

    assert torch.allclose(gradient(loss, score_K), differences(loss, score_K), atol=1e-8)


@pytest.mark.parametrize("ranks", [[1, 2], [2, 1], [1, None], [None, 7]])
def test_two_answers_are_bradley_terry(ranks: Ranks) -> None:
    score_K = scores(2, 2)
    better, worse = (0, 1) if ranks[0] and (ranks[1] is None or ranks[0] < ranks[1]) else (1, 0)
    expected = bradley_terry(score_K[better : better + 1], score_K[worse : worse + 1])[0]
    assert expected.item() == pytest.approx(math.log1p(math.exp(score_K[worse] - score_K[better])), abs=1e-12)
    for kind in RankingLoss:
        assert ranking_loss(score_K, ranks, kind).item() == pytest.approx(expected.item(), abs=1e-14)


@ALL
@BOTH
def test_a_constant_added_to_all_scores_changes_nothing(ranks: Ranks, kind: RankingLoss) -> None:
    score_K = scores(len(ranks), 3)
    there, elsewhere = ranking_loss(score_K, ranks, kind), ranking_loss(score_K + 41.0, ranks, kind)
    assert there.item() == pytest.approx(elsewhere.item(), abs=1e-12)
    assert gradient(lambda s: ranking_loss(s, ranks, kind), score_K).sum().item() == pytest.approx(0.0, abs=1e-13)


@ALL
@BOTH
def test_tied_answers_can_change_places(ranks: Ranks, kind: RankingLoss) -> None:
    score_K = scores(len(ranks), 4)
    for tier in tiers(ranks):
        for one, other in neighbours(tier):
            swapped_K = score_K.clone()
            swapped_K[[one, other]] = score_K[[other, one]]
            here, there = (gradient(lambda s: ranking_loss(s, ranks, kind), at) for at in (score_K, swapped_K))
            assert here[one].item() == pytest.approx(there[other].item(), abs=1e-13)
            assert ranking_loss(score_K, ranks, kind).item() == pytest.approx(
                ranking_loss(swapped_K, ranks, kind).item(), abs=1e-12
            )


@BOTH
def test_only_the_order_of_ranks_counts_and_the_unranked_are_one_more_rank(kind: RankingLoss) -> None:
    score_K = scores(4, 5)
    losses = [
        ranking_loss(score_K, ranks, kind).item() for ranks in ([1, 2, 3, 3], [-4, 0, 90, 90], [1, 2, None, None])
    ]
    assert losses == [losses[0]] * 3


def test_the_probabilities_of_all_rankings_sum_to_one() -> None:
    score_K = scores(4, 6)
    strict = [ranks for ranks in product(range(4), repeat=4) if len(set(ranks)) == 4]
    assert sum(math.exp(-plackett_luce(score_K, ranks)) for ranks in strict) == pytest.approx(1.0, abs=1e-12)
    best_two = [
        [1 if place in pair else None for place in range(4)]
        for pair in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
    ]
    assert sum(math.exp(-plackett_luce(score_K, ranks)) for ranks in best_two) == pytest.approx(1.0, abs=1e-12)


@BOTH
def test_scores_far_apart_stay_finite(kind: RankingLoss) -> None:
    score_K = torch.tensor([-3e4, 2e4, 0.0, 3e4], dtype=torch.float64)
    for ranks in ([1, 2, 3, 4], [1, 1, 2, None], [4, 3, 2, 1]):
        loss = ranking_loss(score_K, ranks, kind)
        assert math.isfinite(loss.item())
        assert gradient(lambda s, r=ranks: ranking_loss(s, r, kind), score_K).isfinite().all()  # type: ignore[misc]  # bound early


def test_the_longest_tie_is_summed_in_a_moment_and_right() -> None:
    """Equal scores: each choice of the best 15 of 16 is as probable as any other."""
    score_K = torch.zeros(MOST_ANSWERS, dtype=torch.float64)
    ranks = [1] * (MOST_ANSWERS - 1) + [2]
    assert plackett_luce(score_K, ranks).item() == pytest.approx(math.log(MOST_ANSWERS), abs=1e-11)


def test_a_margin_asks_for_more_and_smoothing_for_doubt() -> None:
    one, two = torch.tensor([1.0], dtype=torch.float64), torch.tensor([0.4], dtype=torch.float64)
    assert bradley_terry(one, two, margin=0.5).item() == pytest.approx(math.log1p(math.exp(-0.1)), abs=1e-14)
    doubted = 0.9 * math.log1p(math.exp(-0.6)) + 0.1 * math.log1p(math.exp(0.6))
    assert bradley_terry(one, two, label_smoothing=0.1).item() == pytest.approx(doubted, abs=1e-14)
    sure = torch.tensor([math.log(9.0)], dtype=torch.float64)
    slope = gradient(lambda s: bradley_terry(s, torch.zeros_like(s), label_smoothing=0.1).sum(), sure)
    assert slope.item() == pytest.approx(0.0, abs=1e-15)  # 0.1 of doubt is satisfied with odds of nine to one


def test_centering_with_two_answers_is_the_published_one() -> None:
    score_K = torch.tensor([0.7, -0.1], dtype=torch.float64)
    assert centering(score_K).item() == pytest.approx(0.6**2, abs=1e-14)
    assert centering(torch.tensor([2.0, 2.0, 2.0])).item() == pytest.approx(16.0)


@pytest.mark.parametrize("ranks", [[1, 1], [None, None], [3, 3, 3]])
def test_a_ranking_that_decides_nothing_is_no_loss_of_zero(ranks: Ranks) -> None:
    for loss in (plackett_luce, pairwise):
        with pytest.raises(ValueError, match="decides no pair"):
            loss(scores(len(ranks)), ranks)
