"""Medians and their spread, of pairs that took turns: how every figure of bench/ is told.

Deliberately left out: what was measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def middle(values: Sequence[float], unit: str = "", digits: int = 2) -> str:
    """The median with the smallest and the largest.

    >>> middle([3.0, 1.0, 2.0], " s")
    '2.00 s (1.00 .. 3.00)'
    """
    return f"{statistics.median(values):.{digits}f}{unit} ({min(values):.{digits}f} .. {max(values):.{digits}f})"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """How many times as long theirs took as ours, pair by pair.

    >>> ratios([1.0, 2.0], [3.0, 5.0])
    [3.0, 2.5]
    """
    return [other / own for own, other in zip(ours, theirs, strict=True)]


def describe_lengths(lengths: Sequence[int], limit: int) -> str:
    """How long answers were: the mean, the tenth and ninetieth of a hundred, and the share that reached the limit.

    >>> describe_lengths([4, 8, 8, 8], 8)
    'mean 7.0, p10 4, p90 8, 75 % at the limit'
    """
    ordered = sorted(lengths)
    tenth, ninetieth = ordered[len(ordered) // 10], ordered[len(ordered) * 9 // 10]
    share = sum(length >= limit for length in lengths) / len(lengths)
    return f"mean {statistics.fmean(lengths):.1f}, p10 {tenth}, p90 {ninetieth}, {share:.0%} at the limit".replace(
        "%", " %"
    )
