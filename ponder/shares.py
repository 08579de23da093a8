"""Shares with their intervals: of things that are independent, and of pairs that came in rankings.

The pairs of one ranking are not independent, so that an interval from their number alone would be too narrow. Here a
share of them has the interval of as many independent ones as its rankings scatter like. A share of too few is None,
which people read as "not yet known". Deliberately left out: what is counted (`ponder.agreement`, `ponder.calibration`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

Z_95 = 1.96
Z_SURE = 3.0
"""What is looked at again and again must not cry wolf: 99.7 %."""

LEAST_RANKINGS = 10
"""Nothing is said of fewer."""

NOT_YET_KNOWN = "not yet known"


class Share(Struct, frozen=True):
    """A share, its interval, and how many things and rankings it is a share of."""

    value: float
    low: float
    high: float
    n: int
    rankings: int


def wilson_interval(hits: float, trials: float, z: float = Z_95) -> tuple[float, float]:
    """The score interval of a share, 95 % at z = 1.96; Wilson 1927.

    (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)

    >>> [round(end, 3) for end in wilson_interval(10, 100)]
    [0.055, 0.174]
    """
    if trials == 0:
        return 0.0, 1.0
    p, n = hits / trials, trials
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)


def share_of(counts: Sequence[tuple[float, int]], *, least: int = LEAST_RANKINGS, z: float = Z_95) -> Share | None:
    """The share of hits among all, from (hits, things) of each ranking; None of fewer rankings than `least`.

    design effect = sum_i (h_i - p n_i)^2 * G / (G - 1) / (N p (1 - p)),   and N / design effect independent things

    Kish 1965, with the interval of Wilson as in Korn and Graubard 1998. Where all or none are hits nothing scatters,
    and each ranking counts as one.

    >>> share_of([(1, 1)] * 9), share_of([(1, 2)] * 100).n
    (None, 200)
    """
    counts = [(hits, things) for hits, things in counts if things]
    total, groups = sum(things for _, things in counts), len(counts)
    if groups < max(least, 2):
        return None
    p = sum(hits for hits, _ in counts) / total
    scatter = sum((hits - p * things) ** 2 for hits, things in counts) * groups / (groups - 1)
    alike = total * p * (1 - p)
    independent = total / max(1.0, scatter / alike) if alike > 0 else groups
    low, high = wilson_interval(p * independent, independent, z)
    return Share(p, low, high, total, groups)


def share_words(share: Share | None) -> str:
    """A share as a person reads it.

    >>> share_words(Share(0.713, 0.648, 0.77, 402, 67)), share_words(None)
    ('71.3% (64.8..77.0, n 402)', 'not yet known')
    """
    if share is None:
        return NOT_YET_KNOWN
    return f"{share.value * 100:.1f}% ({share.low * 100:.1f}..{share.high * 100:.1f}, n {share.n:,})"
