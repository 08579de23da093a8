"""What a reward model's scores are worth: how often they are right, how sure they may be, and whether they like length.

    difference     score of one answer less that of the other
    seen           1 when a person found the one better, 0 the other, 1/2 a tie
    promised       sigmoid(difference / temperature): the probability that the scores give; Bradley and Terry

A pair has no first answer, so that each is turned until its difference is at least 0: promises are 0.5 to 1. Of too
little nothing is said: None. Deliberately left out: where scores come from, and people (`ponder.agreement`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Sequence

from msgspec import Struct

from ponder.ranking import Ranks, decided_pairs
from ponder.shares import LEAST_RANKINGS, Z_95, Share, share_of

BINS = 5
LEAST_PAIRS = 100
"""Of fewer a calibration is noise."""
LEAST_ANSWERS = 20
COOLEST, HOTTEST = 1 / 64, 64.0
"""A temperature is looked for between these."""


class Bin(Struct, frozen=True):
    """Pairs that were promised about the same."""

    promised: float
    """The mean."""
    seen: float
    n: int


class Calibration(Struct, frozen=True):
    """How promises and judgements fit."""

    bins: list[Bin]
    """Those that have a pair, the least sure first."""
    error: float
    """ECE: the mean distance of promised and seen over the bins, weighed by their pairs."""
    temperature: float
    """By which differences are to be divided: above 1 the scores are too sure."""
    error_tempered: float
    """ECE with that temperature."""
    n: int


class Correlation(Struct, frozen=True):
    """Spearman's rank correlation with its interval."""

    value: float
    low: float
    high: float
    n: int


def accuracy(ranked: Iterable[tuple[Sequence[float], Ranks]], *, least: int = LEAST_RANKINGS) -> Share | None:
    """The share of decided pairs that the scores order alike, from (scores, ranks) of each ranking.

    Equal scores are half right. None of fewer rankings than `least`.
    """
    counts = []
    for scores, ranks in ranked:
        differences = [scores[better] - scores[worse] for better, worse in decided_pairs(ranks)]
        counts.append((sum(_step(difference) for difference in differences), len(differences)))
    return share_of(counts, least=least)


def calibrate(pairs: Iterable[tuple[float, float]], *, least: int = LEAST_PAIRS) -> Calibration | None:
    """From (difference, seen) of each pair; None of fewer than `least`.

    Bins and ECE: Guo et al. 2017, arXiv:1706.04599, section 2, which also fits the temperature.
    """
    turned = [(difference, seen) if difference >= 0 else (-difference, 1.0 - seen) for difference, seen in pairs]
    if len(turned) < max(least, 1):
        return None
    temperature = fit_temperature(turned)
    bins = _bins(turned, 1.0)
    return Calibration(bins, _error(bins), temperature, _error(_bins(turned, temperature)), len(turned))


def fit_temperature(pairs: Collection[tuple[float, float]]) -> float:
    """The temperature with the least cross-entropy, between COOLEST and HOTTEST.

    sum_i difference_i (sigmoid(difference_i / T) - seen_i) falls with T, and is 0 at the best one.
    """

    def slope(temperature: float) -> float:
        return math.fsum(difference * (sigmoid(difference / temperature) - seen) for difference, seen in pairs)

    low, high = math.log(COOLEST), math.log(HOTTEST)
    for _ in range(40):
        middle = (low + high) / 2
        if slope(math.exp(middle)) > 0:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


def sigmoid(difference: float) -> float:
    """1 / (1 + exp(-difference)), for any number.

    >>> sigmoid(0.0), sigmoid(-1e9), sigmoid(1e9)
    (0.5, 0.0, 1.0)
    """
    return 0.5 * (1.0 + math.tanh(0.5 * difference))


def _bins(turned: Sequence[tuple[float, float]], temperature: float) -> list[Bin]:
    filled: list[list[tuple[float, float]]] = [[] for _ in range(BINS)]
    for difference, seen in turned:
        promised = sigmoid(difference / temperature)
        filled[min(int((promised - 0.5) * 2 * BINS), BINS - 1)].append((promised, seen))
    return [
        Bin(statistics.fmean(promised for promised, _ in own), statistics.fmean(seen for _, seen in own), len(own))
        for own in filled
        if own
    ]


def _error(bins: Sequence[Bin]) -> float:
    return sum(own.n * abs(own.promised - own.seen) for own in bins) / sum(own.n for own in bins)


def _step(difference: float) -> float:
    return 0.5 if difference == 0 else float(difference > 0)


def correlation(one: Sequence[float], other: Sequence[float], *, least: int = LEAST_ANSWERS) -> Correlation | None:
    """Spearman's, as of scores and lengths; None of fewer than `least`, or where one of them never changes.

    The interval is Fisher's, with the variance 1.06 / (n - 3) of Fieller, Hartley and Pearson 1957.
    """
    n = len(one)
    if n < max(least, 4) or len(set(one)) == 1 or len(set(other)) == 1:
        return None
    value = statistics.correlation(_places(one), _places(other))
    half, middle = Z_95 * math.sqrt(1.06 / (n - 3)), math.atanh(max(-1 + 1e-12, min(1 - 1e-12, value)))
    return Correlation(value, min(value, math.tanh(middle - half)), max(value, math.tanh(middle + half)), n)


def _places(values: Sequence[float]) -> list[float]:
    """Each value's place in their order; equal values share the mean of theirs.

    >>> _places([5.0, 1.0, 5.0])
    [2.5, 1.0, 2.5]
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    places = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for at in order[start:end]:
            places[at] = (start + 1 + end) / 2
        start = end
    return places
