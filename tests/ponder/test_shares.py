"""What intervals promise: they hold the truth as often as they say, also when pairs come in rankings."""

from __future__ import annotations

import math
from random import Random

import pytest

from ponder.shares import LEAST_RANKINGS, Z_95, Z_SURE, share_of, wilson_interval


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(0, 10, 0.0, 0.278), (10, 10, 0.722, 1.0), (5, 10, 0.237, 0.763), (10, 100, 0.055, 0.174), (0, 0, 0.0, 1.0)],
)
def test_wilson_intervals_are_the_published_ones(hits: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(hits, trials) == pytest.approx((low, high), abs=1e-3)


def coverage(p: float, trials: int, z: float) -> float:
    """How probable it is that the interval of so many trials holds p: the sum over every outcome."""
    held = 0.0
    for hits in range(trials + 1):
        low, high = wilson_interval(hits, trials, z)
        if low <= p <= high:
            held += math.comb(trials, hits) * p**hits * (1 - p) ** (trials - hits)
    return held


@pytest.mark.parametrize("trials", [20, 50, 200, 500])
def test_a_95_percent_interval_holds_the_truth_93_to_97_times_in_100(trials: int) -> None:
    truths = [0.1 + 0.8 * number / 200 for number in range(201)]
    mean = sum(coverage(p, trials, Z_95) for p in truths) / len(truths)
    assert 0.93 <= mean <= 0.97
    wide = sum(coverage(p, trials, Z_SURE) for p in truths) / len(truths)
    assert 0.99 <= wide <= 0.999


@pytest.mark.parametrize("p", [0.5, 0.65, 0.8])
def test_simulated_rankings_whose_pairs_hang_together_are_covered_too(p: float) -> None:
    """Six pairs a ranking; half of the rankings agree in all or in none: counted as pairs, they promise too much."""
    random = Random(f"rankings {p}")
    held = held_by_pairs = 0
    for _ in range(2000):
        counts = []
        for _ in range(60):
            alike = random.random() < 0.5
            hits = 6 * (random.random() < p) if alike else sum(random.random() < p for _ in range(6))
            counts.append((float(hits), 6))
        share = share_of(counts)
        assert share is not None and (share.n, share.rankings) == (360, 60)
        held += share.low <= p <= share.high
        low, high = wilson_interval(sum(hits for hits, _ in counts), 360)
        held_by_pairs += low <= p <= high
    assert 0.93 <= held / 2000 <= 0.97
    assert held_by_pairs / 2000 < 0.80


def test_one_thing_a_ranking_is_wilson_s_own_interval() -> None:
    share = share_of([(float(number < 30), 1) for number in range(100)])
    assert share is not None
    assert (share.low, share.high) == pytest.approx(wilson_interval(30, 100), abs=2e-3)


def test_of_too_few_rankings_nothing_is_said() -> None:
    assert share_of([(3.0, 6)] * (LEAST_RANKINGS - 1)) is None
    assert share_of([(0.0, 0)] * 100) is None, "rankings that decide nothing are none"
    assert share_of([(1.0, 1)] * LEAST_RANKINGS) is not None


def test_a_share_of_all_is_as_sure_as_its_rankings_are_many_and_no_surer() -> None:
    share = share_of([(6.0, 6)] * 10)
    assert share is not None and (share.low, share.high) == wilson_interval(10, 10)
