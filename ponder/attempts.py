"""What several answers to each problem tell: pass@k, the majority's answer, their intervals, and paired tests.

    pass@k   how probable it is that one of k answers is right            exact
    cons@k   how probable it is that the most frequent of k values is     exact for all answers and for few subsets of
             right, ties broken at random                                 them, else the mean of SUBSETS random ones
    share    a mean over problems with its interval: answers to one problem are not independent, problems are
    compare  two policies on the same problems: the difference, its interval, and how easily chance makes it as large

Everything random grows from a seed. Deliberately left out: sampling (`trainer.measure`), and words (`ponder.measured`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from random import Random

from msgspec import Struct

from ponder.shares import share_of, wilson_interval

SUBSETS = 256
"""So many subsets of a problem's answers stand for all; over 100 problems that errs by less than 0.4 points."""
RESAMPLES = 2000
FLIPS = 10_000
PASS, CONS = "pass@", "cons@"
"""How the names of figures begin; what follows is the number of answers."""
EXACT_FLIPS = 12
"""Up to so many problems that differ, all signs are tried."""

Vote = tuple[str, bool]
"""What an answer comes to (empty: nothing was stated) and whether it is right."""
Interval = tuple[float, float, float]
"""A value with the ends of its 95 % interval."""


def pass_at(k: int, answers: int, right: int) -> float:
    """How probable it is that one of `k` answers is right, from `right` of `answers` that are; not biased.

    1 - C(n - c, k) / C(n, k)        Chen et al. 2021, arXiv:2107.03374, eq. 1

    >>> pass_at(1, 4, 1), pass_at(2, 4, 1), pass_at(4, 4, 1), pass_at(2, 4, 0)
    (0.25, 0.5, 1.0, 0.0)
    """
    return 1.0 - math.comb(answers - right, k) / math.comb(answers, k)


def majority(votes: Sequence[Vote]) -> float:
    """How probable it is that the most frequent value is right; of several, one is taken at random.

    Who stated nothing has no vote. A value that is right in some answers only counts by their share.

    >>> majority([("15", True), ("15", True), ("14", False)]), majority([("15", True), ("14", False), ("", False)])
    (1.0, 0.5)
    >>> majority([("", False)] * 3)
    0.0
    """
    counts: dict[str, list[int]] = {}
    for value, is_right in votes:
        if value:
            count = counts.setdefault(value, [0, 0])
            count[0] += 1
            count[1] += is_right
    if not counts:
        return 0.0
    most = max(count for count, _ in counts.values())
    first = [right / count for count, right in counts.values() if count == most]
    return sum(first) / len(first)


def cons_at(k: int, votes: Sequence[Vote], seed: str) -> float:
    """The mean of `majority` over subsets of `k` votes: all of them, or SUBSETS random ones where there are more.

    >>> round(cons_at(1, [("15", True), ("14", False), ("14", False)], ""), 3)
    0.333
    >>> cons_at(3, [("15", True), ("14", False), ("14", False)], "")
    0.0
    """
    if math.comb(len(votes), k) <= SUBSETS:
        found = [majority(chosen) for chosen in itertools.combinations(votes, k)]
    else:
        rng = Random(f"consensus {k} {seed}")
        found = [majority(rng.sample(votes, k)) for _ in range(SUBSETS)]
    return sum(found) / len(found)


def share(values: Sequence[float], answers: int) -> Interval:
    """The mean of a value in [0, 1] of each problem, which had so many `answers`, with its 95 % interval.

    The interval is Wilson's for as many independent answers as the problems scatter like (`ponder.shares.share_of`).

    >>> [round(end, 2) for end in share([1.0, 0.0] * 50, 1)], [round(end, 2) for end in share([0.5] * 100, 16)]
    ([0.5, 0.4, 0.6], [0.5, 0.48, 0.52])
    """
    found = share_of([(value * answers, answers) for value in values], least=2)
    if found is None:
        mean = sum(values) / len(values)
        return (mean, *wilson_interval(mean * len(values), len(values)))
    return found.value, found.low, found.high


def figures(votes: Sequence[Sequence[Vote]], counts: Sequence[int], seed: int) -> dict[str, Interval]:
    """pass@k and cons@k for each k: means over the problems that have k judged answers.

    cons@1 is pass@1, and is left out.
    """
    found: dict[str, Interval] = {}
    for k in counts:
        some = [one for one in votes if len(one) >= k]
        if not some:
            continue
        most = max(map(len, some))
        found[f"{PASS}{k}"] = share([pass_at(k, len(one), sum(right for _, right in one)) for one in some], most)
        if k > 1:
            means = [cons_at(k, one, f"{seed} {place}") for place, one in enumerate(some)]
            found[f"{CONS}{k}"] = share(means, most)
    return found


class Difference(Struct, frozen=True):
    """How much better the second of two policies is, on the same problems."""

    value: float
    low: float
    """95 % interval of the difference: resampled problems, percentiles."""
    high: float
    p: float
    """How often chance alone makes a difference at least as large."""
    is_exact: bool
    """McNemar's exact test, for problems that are right or wrong; else signs of the differences are flipped."""
    problems: int
    second_alone: int
    """Problems of which the second makes more."""
    first_alone: int


def compare(first: Sequence[float], second: Sequence[float], seed: int) -> Difference:
    """Each problem's share of right answers by both policies, in the same order.

    >>> found = compare([0.0] * 8 + [1.0] * 2, [1.0] * 8 + [1.0] * 2, 1)
    >>> round(found.value, 3), found.second_alone, found.first_alone, round(found.p, 5), found.is_exact
    (0.8, 8, 0, 0.00781, True)
    """
    differences = [new - old for old, new in zip(first, second, strict=True)]
    count = len(differences)
    better, worse = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    is_exact = all(value in (0.0, 1.0) for value in (*first, *second))
    rng = Random(f"compare {seed}")
    means = sorted(sum(rng.choices(differences, k=count)) / count for _ in range(RESAMPLES))
    return Difference(
        sum(differences) / count, means[round(0.025 * RESAMPLES)], means[round(0.975 * RESAMPLES) - 1],
        mcnemar(better, worse) if is_exact else flipped(differences, rng), is_exact, count, better, worse,
    )  # fmt: skip


def mcnemar(better: int, worse: int) -> float:
    """The exact two-sided test of McNemar 1947: as many heads of `better + worse` tosses of a fair coin, or fewer.

    >>> round(mcnemar(8, 0), 5), mcnemar(3, 3), mcnemar(0, 0)
    (0.00781, 1.0, 1.0)
    """
    tosses = better + worse
    tail = sum(math.comb(tosses, heads) for heads in range(min(better, worse) + 1))
    return min(1.0, 2 * tail / (1 << tosses))


def flipped(differences: Sequence[float], rng: Random) -> float:
    """The sign-flip test: the share of flips of the differences' signs whose sum is as far from 0, this one among them.

    All flips of up to EXACT_FLIPS differences that are not 0, else FLIPS random ones: Fisher 1935.

    >>> flipped([0.5, 0.25, 0.25, 0.0], Random(1)), flipped([0.0, 0.0], Random(1))
    (0.25, 1.0)
    """
    sizes = [abs(d) for d in differences if d]
    seen = abs(sum(differences)) - 1e-9

    def is_as_far(signs: Sequence[int]) -> bool:
        return abs(sum(sign * size for sign, size in zip(signs, sizes, strict=True))) >= seen

    if len(sizes) <= EXACT_FLIPS:
        return sum(map(is_as_far, itertools.product((1, -1), repeat=len(sizes)))) / 2.0 ** len(sizes)
    hits = sum(is_as_far(rng.choices((1, -1), k=len(sizes))) for _ in range(FLIPS))
    return (hits + 1) / (FLIPS + 1)
