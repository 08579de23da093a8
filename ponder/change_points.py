"""When did a curve change? Change points of rates and of levels, as they come and once all is known.

    as they come    the generalised likelihood ratio of every split of what was seen since the last change, against a
                    threshold that holds at any time: beta(t) = ln(3 t^(3/2) / delta)    Besson et al., arXiv:1902.01575
    at the end      optimal segmentation, each change at a cost of 3 ln n: BIC as Zhang and Siegmund 2007 mend it for
                    places; by dynamic programming with pruning     PELT, Killick et al., arXiv:1101.1438
    a split's gain  binomial: log L(two rates) - log L(one)
                    Gaussian: n1 n2 / (n1 + n2) (m1 - m2)^2 / (2 s^2)

A gain is divided by how much more the curve scatters from one point to the next than its model says (the median over
the points, so that neither a jump nor a ramp counts): answers to one prompt are not independent. Changes one after the
other in one direction are one change, with a beginning and an end: what learns does not jump. Deliberately left out:
which curves are looked at and what may have caused a change (`ponder.turn_story`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

FALSE_ALARM = 0.05
"""delta: the chance of ever crying wolf over a curve that never changes."""
HOLDS = 5
"""A change lasts so many points, at least."""
LEAST_RATIO = 2.0
LEAST_DIFFERENCE = 0.02
"""Of rates."""
MOST_Q = 0.05
NEWEST_SPLITS = 64
"""So many of the newest places are tried as splits; of those before, every `n`-th, growing."""
LEAST_VARIANCE = 1e-6
"""Of levels that are the same again and again."""
PENALTY = 3.0
MEDIAN_OF_CHI2 = 0.4549
"""Of one degree of freedom."""
MEDIAN_DEVIATION = 0.6745
"""Of a standard normal: half of its values lie as near to 0."""


@dataclass(frozen=True)
class Series:
    """A curve. With `trials` its values are rates of so many things each; without, levels with Gaussian noise."""

    steps: Sequence[int]
    values: Sequence[float]
    trials: Sequence[float] | None = None

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True)
class Change:
    """The curve went from one level to another, between two of its points."""

    first: int
    """The step at which it began: the first point of a new level."""
    at: int
    """The step of its greatest single change."""
    last: int
    """The first point of the level at which it stays."""
    before: float
    after: float
    points: int
    """Points so far that lie nearer to the new level than to the old one."""
    p: float
    """The chance that a curve without a change looks like this anywhere."""

    @property
    def ratio(self) -> float:
        """The greater level over the smaller one; infinite from or to nothing."""
        low, high = sorted((self.before, self.after))
        return high / low if low > 0 else math.inf


@dataclass
class _Sums:
    """Sums of a curve up to each place, so that a segment costs nothing."""

    series: Series
    weights: list[float] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)
    scatter: float = 1.0

    def __post_init__(self) -> None:
        series = self.series
        trials = series.trials if series.trials is not None else [1.0] * len(series)
        self.weights = list(accumulate(trials, initial=0.0))
        self.totals = list(accumulate((value * n for value, n in zip(series.values, trials, strict=True)), initial=0.0))
        self.scatter = _scatter(series)

    def level(self, start: int, end: int) -> float:
        """The mean of a segment."""
        weight = self.weights[end] - self.weights[start]
        return (self.totals[end] - self.totals[start]) / weight if weight else 0.0

    def gain(self, start: int, split: int, end: int) -> float:
        """How much more probable the segment is with two levels than with one, as a logarithm."""
        if self.series.trials is None:
            left, right = split - start, end - split
            difference = self.level(start, split) - self.level(split, end)
            return left * right / (left + right) * difference**2 / (2 * self.scatter)
        whole = self._likelihood(start, split) + self._likelihood(split, end) - self._likelihood(start, end)
        return whole / self.scatter

    def _likelihood(self, start: int, end: int) -> float:
        weight = self.weights[end] - self.weights[start]
        rate = self.level(start, end)
        return weight * (_plogp(rate) + _plogp(1 - rate))

    def cost(self, start: int, end: int) -> float:
        """Twice the negative log-likelihood of a segment with one level, but for a constant of the whole curve."""
        if self.series.trials is None:
            return -((self.totals[end] - self.totals[start]) ** 2) / (end - start) / self.scatter
        return -2 * self._likelihood(start, end) / self.scatter


def _plogp(p: float) -> float:
    return p * math.log(p) if p > 0 else 0.0


def _scatter(series: Series) -> float:
    """The noise from one point to the next: of levels its variance; of rates how often that of the binomial, at
    least 1."""
    if len(series) < 2:
        return 1.0
    if series.trials is None:
        jumps = [abs(b - a) for a, b in pairwise(series.values)]
        deviation: float = statistics.median(jumps) / MEDIAN_DEVIATION
        return max(deviation * deviation / 2, LEAST_VARIANCE)
    squares = []
    for (a, n), (b, m) in pairwise(zip(series.values, series.trials, strict=True)):
        middle = (a * n + b * m) / (n + m)
        variance = middle * (1 - middle) * (1 / n + 1 / m)
        squares.append((b - a) ** 2 / variance if variance else 0.0)
    return max(1.0, statistics.median(squares) / MEDIAN_OF_CHI2)


def threshold(seen: int, delta: float = FALSE_ALARM) -> float:
    """beta(t): the gain that a split of `seen` points must have.

    >>> round(threshold(100), 2)
    11.0
    """
    return math.log(3 * math.pow(seen, 1.5) / delta)


def chance(gain: float, seen: int) -> float:
    """The delta at which a gain reaches its threshold: what a change's `p` is.

    >>> round(chance(threshold(100), 100), 6)
    0.05
    """
    return min(1.0, 3 * math.pow(seen, 1.5) * math.exp(-gain))


@dataclass(frozen=True)
class Alarm:
    """A change was seen at point `seen`; the most probable place of its beginning is point `split`. From 0."""

    seen: int
    split: int


def alarms(series: Series, delta: float = FALSE_ALARM) -> list[Alarm]:
    """Every change as it would have been seen, point after point; after each the past is forgotten."""
    sums = _Sums(series)
    start, found = 0, []
    for end in range(2, len(series) + 1):
        split, gain = _best_split(sums, start, end)
        if split is not None and end - split >= HOLDS and gain > threshold(end - start, delta):
            found.append(Alarm(end - 1, split))
            start = split
    return found


def _best_split(sums: _Sums, start: int, end: int) -> tuple[int | None, float]:
    best, most = None, 0.0
    for split in _splits(start, end):
        gain = sums.gain(start, split, end)
        if gain > most:
            best, most = split, gain
    return best, most


def _splits(start: int, end: int) -> Iterator[int]:
    """The newest places one by one, older ones ever more sparsely."""
    place, stride = end - 1, 1
    while place > start:
        yield place
        if end - place >= NEWEST_SPLITS:
            stride = max(1, (end - place) // NEWEST_SPLITS)
        place -= stride


def segments(series: Series) -> list[int]:
    """Where the levels of the whole curve begin: 0, and every change point.

    None is shorter than HOLDS.
    """
    size = len(series)
    if size < 2 * HOLDS:
        return [0] if size else []
    sums, penalty = _Sums(series), PENALTY * math.log(size)
    best = [-penalty] + [math.inf] * size
    begin = [0] * (size + 1)
    starts, beaten = [0], dict[int, int]()
    for end in range(HOLDS, size + 1):
        costs = [(best[start] + sums.cost(start, end) + penalty, start) for start in starts if end - start >= HOLDS]
        best[end], begin[end] = min(costs)
        for cost, start in costs:
            if cost - penalty > best[end]:  # from HOLDS points on a level that begins at `end` is better for ever
                beaten.setdefault(start, end)
        starts = [start for start in starts if end - beaten.get(start, end) < HOLDS]
        starts.append(end - HOLDS + 1)
    edges, place = [], size
    while place > 0:
        place = begin[place]
        edges.append(place)
    return edges[::-1]


def changes(series: Series, edges: Sequence[int] | None = None) -> list[Change]:
    """What lies between the levels that begin at `edges` (else those of `segments`), one direction a change."""
    sums, size = _Sums(series), len(series)
    edges = _sure(sums, segments(series)) if edges is None else edges
    levels = [(start, end, sums.level(start, end)) for start, end in pairwise([*edges, size])]
    chains: list[list[int]] = []
    for number in range(1, len(levels)):
        goes_up = levels[number][2] > levels[number - 1][2]
        last = chains[-1][-1] if chains else 0
        if chains and (levels[last][2] > levels[last - 1][2]) == goes_up:
            chains[-1].append(number)
        else:
            chains.append([number])
    return [_change(series, sums, levels, chain) for chain in chains]


def _sure(sums: _Sums, edges: Sequence[int]) -> list[int]:
    """The edges without those that a curve with one level less could have by chance, the weakest gone first."""
    kept, size = [*edges], len(sums.series)
    while len(kept) > 1:
        whole = [*kept, size]
        gains = [
            sums.gain(start, split, end) - threshold(end - start)
            for start, split, end in zip(whole, whole[1:], whole[2:], strict=False)
        ]
        if min(gains) >= 0:
            break
        del kept[1 + gains.index(min(gains))]
    return kept


def _change(series: Series, sums: _Sums, levels: Sequence[tuple[int, int, float]], chain: Sequence[int]) -> Change:
    """The change from the level before a chain of them to its last one."""
    before, after = levels[chain[0] - 1], levels[chain[-1]]

    def size(number: int) -> float:
        return sums.gain(levels[number - 1][0], levels[number][0], levels[number][1])

    greatest = max(chain, key=size)
    gain = sums.gain(before[0], levels[greatest][0], after[1])
    middle, goes_up = (before[2] + after[2]) / 2, after[2] > before[2]
    stays = sum((value > middle) == goes_up for value in series.values[after[0] : after[1]])
    return Change(
        first=series.steps[levels[chain[0]][0]],
        at=series.steps[levels[greatest][0]],
        last=series.steps[after[0]],
        before=before[2],
        after=after[2],
        points=stays,
        p=chance(gain, after[1] - before[0]),
    )


def q_values(ps: Sequence[float]) -> list[float]:
    """The false discovery rates at which each is reported; Benjamini and Hochberg 1995.

    >>> q_values([0.01, 0.04, 0.03])
    [0.03, 0.04, 0.04]
    """
    order = sorted(range(len(ps)), key=lambda place: ps[place], reverse=True)
    least, found = 1.0, [0.0] * len(ps)
    for rank, place in zip(range(len(ps), 0, -1), order, strict=True):
        least = min(least, ps[place] * len(ps) / rank)
        found[place] = least
    return found


def is_worth_telling(change: Change, q: float, *, is_rate: bool) -> bool:
    """At least twice or half, for rates at least two points, at least HOLDS points long, and no chance."""
    is_large = not is_rate or abs(change.after - change.before) >= LEAST_DIFFERENCE
    return change.ratio >= LEAST_RATIO and is_large and change.points >= HOLDS and q < MOST_Q
