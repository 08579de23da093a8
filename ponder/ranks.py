"""What the ranks of a ranking say: which answers stand together, and which pairs are decided.

    ranks      1 is best, equal ranks are a tie, None is worse than every rank
    tiers      the places of each rank, the best first; the unranked are the last tier

The unranked are in no order among each other: of two of them nothing is said, while of two answers with one rank it is
said that they are tied. Deliberately left out: what is learnt from them (`trainer.preferences`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

Ranks = Sequence[int | None]

MOST_ANSWERS = 16
"""Of one ranking: Plackett-Luce sums over all subsets of a tied tier, and there are 2 to the power of its size."""


def tiers(ranks: Ranks) -> list[list[int]]:
    """The places of each rank, the best first; unranked ones come last.

    >>> tiers([2, 1, None, 2, None])
    [[1], [0, 3], [2, 4]]
    """
    known = sorted({rank for rank in ranks if rank is not None})
    found = [[place for place, rank in enumerate(ranks) if rank == wanted] for wanted in known]
    unranked = [place for place, rank in enumerate(ranks) if rank is None]
    return [*found, unranked] if unranked else found


def decided_pairs(ranks: Ranks) -> list[tuple[int, int]]:
    """(better, worse) places of every pair that the ranking decides.

    >>> decided_pairs([1, 2, 2, None])
    [(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)]
    """
    found = tiers(ranks)
    return [
        (better, worse)
        for place, tier in enumerate(found)
        for better in tier
        for lower in found[place + 1 :]
        for worse in lower
    ]


def tied_pairs(ranks: Ranks) -> list[tuple[int, int]]:
    """Places of every pair of which the ranking says that they are tied.

    >>> tied_pairs([1, 2, 2, None, None])
    [(1, 2)]
    """
    return [
        (one, other)
        for one, other in combinations(range(len(ranks)), 2)
        if ranks[one] is not None and ranks[one] == ranks[other]
    ]
