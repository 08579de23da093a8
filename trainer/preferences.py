"""What is made smaller when scores are learnt from rankings: Bradley-Terry, Plackett-Luce, and the scores' zero point.

Ranks and tiers are those of `ponder.ranking`: a ranking says in which order the tiers come and nothing about the order
inside one. So a tie is no claim that two answers are worth the same, and the unranked are in no order among each other.
Scores matter by their differences alone; `centering` keeps them near zero. They may be those of a reward model, or the
implicit ones of `trainer.dpo`.

Legend: B rankings, K answers of one, M of them in one tier, S subsets of a tier, N pairs. Deliberately left out: where
scores come from, how sure they are, and ties as a judgement of equal worth (Davidson).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

import torch
from torch import Tensor

from ponder.choices import RankingLoss
from ponder.ranking import Ranks, decided_pairs, tiers

MOST_ANSWERS = 16
"""Of one ranking: Plackett-Luce sums over all subsets of a tied tier, and there are 2 to the power of its size."""


def bradley_terry(better_N: Tensor, worse_N: Tensor, *, margin: float = 0.0, label_smoothing: float = 0.0) -> Tensor:
    """The loss of each pair, (N,).

    d = better - worse - margin;   -(1 - s) log sigmoid(d) - s log sigmoid(-d)

    Bradley and Terry 1952; as a loss InstructGPT, arXiv:2203.02155, eq. 1. The margin is Llama 2's, arXiv:2307.09288,
    eq. 2. The smoothing `s` takes each label to be wrong so often: Mitchell 2023, "A note on DPO with noisy
    preferences & relationship to IPO".
    """
    difference_N = better_N - worse_N - margin
    agrees_N = torch.nn.functional.logsigmoid(difference_N)
    if label_smoothing == 0.0:
        return -agrees_N
    return -(1.0 - label_smoothing) * agrees_N - label_smoothing * torch.nn.functional.logsigmoid(-difference_N)


def pairwise(score_K: Tensor, ranks: Ranks, *, margin: float = 0.0, label_smoothing: float = 0.0) -> Tensor:
    """The mean of `bradley_terry` over the pairs that one ranking decides.

    All pairs of a ranking are one element of a batch, since they are not independent: InstructGPT, arXiv:2203.02155,
    section 3.5. Raises ValueError if the ranking decides none.
    """
    pairs = decided_pairs(ranks)
    if not pairs:
        raise ValueError("the ranking decides no pair")
    better, worse = (torch.tensor(places, device=score_K.device) for places in zip(*pairs, strict=True))
    return bradley_terry(score_K[better], score_K[worse], margin=margin, label_smoothing=label_smoothing).mean()


def plackett_luce(score_K: Tensor, ranks: Ranks) -> Tensor:
    """Minus the log-probability of one ranking when answers are picked one by one, the best first.

    P(order) = prod_i exp(r_i) / sum_{j not yet picked} exp(r_j);   P(ranking) = sum of P over all orders that fit it

    Plackett 1975, Luce 1959. With two answers this is Bradley-Terry; with one best and the rest unranked it is a
    softmax. The sum over the orders of a tie is the exact one, in 2^M terms and not M!. The last tier costs nothing.
    Raises ValueError if the ranking decides no pair.
    """
    found = tiers(ranks)
    if len(found) < 2:
        raise ValueError("the ranking decides no pair")
    return ordered_plackett_luce(score_K[[place for tier in found for place in tier]], [len(tier) for tier in found])


def ordered_plackett_luce(score_BK: Tensor, sizes: Sequence[int]) -> Tensor:
    """`plackett_luce` of many rankings at once, (B,), whose answers stand in the order of their tiers.

    `sizes` are those of the tiers, the best first, the same for all. Any number of axes may stand before K.

    It is convex in the scores, ties and all: that one group of answers beats another is a polyhedron in the scores and
    the Gumbel noise of each, whose density is log-concave, and so is then its integral (Prekopa 1973).
    """
    loss_B = score_BK.new_zeros(score_BK.shape[:-1])
    end = 0
    for size in sizes[:-1]:
        start, end = end, end + size
        loss_B = loss_B - _log_first(score_BK[..., start:end], torch.logsumexp(score_BK[..., end:], -1))
    return loss_B


def _log_first(tier_BM: Tensor, below_B: Tensor) -> Tensor:
    """log P(all of the tier are picked before anything of total weight exp(below)), in whichever order, (B,).

    first(S) = log sum_{i in S} exp( first(S - i) + r_i - left(S - i) ), over ever larger subsets S of the tier, where
    left(S) = log( exp(below) + sum_{i not in S} exp(r_i) ). All terms are positive, so nothing cancels.
    """
    size = tier_BM.shape[-1]
    is_out_SM, levels = _subsets(size)
    weights_BSM = torch.where(is_out_SM.to(tier_BM.device), tier_BM[..., None, :], -torch.inf)
    below_BS1 = below_B[..., None, None].expand(*weights_BSM.shape[:-1], 1)
    left_BS = torch.logsumexp(torch.cat([weights_BSM, below_BS1], -1), -1)
    first_BS = tier_BM.new_zeros((*tier_BM.shape[:-1], 1))
    for before, subset, last in levels:
        first_BS = torch.logsumexp(first_BS[..., before] + tier_BM[..., last] - left_BS[..., subset], -1)
    return first_BS[..., 0]


@lru_cache(maxsize=MOST_ANSWERS)
def _subsets(size: int) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
    """(who is not in each subset, by bit mask; for the subsets of 1, 2, ... members how each can have come to be).

    Of a subset: each way to have one member come last, as (its place among the smaller subsets, that subset's mask,
    the member).
    """
    is_out = torch.tensor([[not mask >> member & 1 for member in range(size)] for mask in range(1 << size)])
    levels = []
    places = {0: 0}
    for count in range(1, size + 1):
        chosen = list(combinations(range(size), count))
        masks = [sum(1 << member for member in members) for members in chosen]
        ways = [[(mask ^ (1 << member), member) for member in m] for mask, m in zip(masks, chosen, strict=True)]
        levels.append(
            (
                torch.tensor([[places[smaller] for smaller, _ in way] for way in ways]),
                torch.tensor([[smaller for smaller, _ in way] for way in ways]),
                torch.tensor([[member for _, member in way] for way in ways]),
            )
        )
        places = {mask: place for place, mask in enumerate(masks)}
    return is_out, levels


def centering(score_K: Tensor) -> Tensor:
    """(2 * mean score)^2: what holds a ranking's scores near zero, which no ranking can.

    With two answers this is (r_chosen + r_rejected)^2 of arXiv:2312.09244, for more answers its like.
    """
    return (2.0 * score_K.mean()) ** 2


def ranking_loss(score_K: Tensor, ranks: Ranks, kind: RankingLoss, *, margin: float = 0.0) -> Tensor:
    """The loss of one ranking; a margin raises the scores of those that are worse, and is for pairs alone."""
    if kind is RankingLoss.PAIRS or margin:
        return pairwise(score_K, ranks, margin=margin)
    return plackett_luce(score_K, ranks)
