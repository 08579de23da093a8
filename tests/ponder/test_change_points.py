"""Change points by simulation: seldom without a change, soon after one, at its place, as the full search has them."""

from __future__ import annotations

import itertools
import math
import random
import statistics

import pytest

from ponder.change_points import HOLDS, PENALTY, Series, _Sums, alarms, changes, is_worth_telling, q_values, segments


def rates(seed: int, levels: list[tuple[float, int]], trials: int = 64) -> Series:
    """Shares of so many trials each, at each level for so many points."""
    rng = random.Random(f"rates {seed}")
    values = [
        sum(rng.random() < level for _ in range(trials)) / trials for level, points in levels for _ in range(points)
    ]
    return Series(range(1, len(values) + 1), values, [float(trials)] * len(values))


def lengths(seed: int, levels: list[tuple[float, int]], noise: float = 0.1) -> Series:
    rng = random.Random(f"lengths {seed}")
    values = [math.log(level) + rng.gauss(0, noise) for level, points in levels for _ in range(points)]
    return Series(range(1, len(values) + 1), values)


def told(series: Series) -> list[int]:
    """Where the changes that are worth telling began."""
    found = changes(series)
    qs = q_values([change.p for change in found])
    is_rate = series.trials is not None
    return [c.first for c, q in zip(found, qs, strict=True) if is_worth_telling(c, q, is_rate=is_rate)]


@pytest.mark.parametrize("level", [0.02, 0.1, 0.5])
def test_without_a_change_an_alarm_comes_less_than_once_in_a_thousand_steps(level: float) -> None:
    steps = 500
    raised = sum(len(alarms(rates(seed, [(level, steps)], trials=32))) for seed in range(8))
    assert raised * 1000 / (8 * steps) < 1
    assert not any(told(rates(seed, [(level, steps)], trials=32)) for seed in range(8))


def test_without_a_change_lengths_raise_no_alarm() -> None:
    assert sum(len(alarms(lengths(seed, [(30, 500)]))) for seed in range(8)) * 1000 / (8 * 500) < 1


@pytest.mark.parametrize(("level", "trials"), [(0.05, 256), (0.1, 128), (0.2, 64)])
def test_a_doubling_is_seen_within_ten_evaluations(level: float, trials: int) -> None:
    before, delays = 60, []
    for seed in range(15):
        found = alarms(rates(seed, [(level, before), (2 * level, 40)], trials))
        delays.append(next((alarm.seen - before + 1 for alarm in found if alarm.seen >= before), 40))
    assert statistics.median(delays) <= 10


def test_lengths_that_double_are_seen_within_ten_evaluations() -> None:
    delays = [
        next((alarm.seen - 59 for alarm in alarms(lengths(seed, [(20, 60), (40, 40)])) if alarm.seen >= 60), 40)
        for seed in range(15)
    ]
    assert statistics.median(delays) <= 10


def test_at_the_end_a_change_stands_where_it_was() -> None:
    for seed in range(10):
        (first,) = told(rates(seed, [(0.1, 80), (0.3, 80)]))
        assert abs(first - 81) <= 3


def test_a_ramp_is_one_change_with_a_beginning_and_an_end() -> None:
    ramp = [(0.1 + 0.02 * step, 1) for step in range(30)]
    (change,) = [c for c in changes(rates(3, [(0.1, 40), *ramp, (0.7, 40)], 256)) if c.ratio >= 2]
    assert 38 <= change.first <= 50 and 60 <= change.last <= 75
    assert change.before == pytest.approx(0.1, abs=0.03) and change.after == pytest.approx(0.7, abs=0.03)


def test_answers_that_are_alike_within_their_prompts_raise_no_alarm() -> None:
    """Each prompt's eight answers all reflect or none: the curve scatters far more than independent ones would."""
    rng = random.Random("alike")
    series = [
        Series(range(400), [sum(rng.random() < 0.2 for _ in range(8)) / 8 for _ in range(400)], [64.0] * 400)
        for _ in range(6)
    ]
    assert sum(len(alarms(one)) for one in series) * 1000 / (6 * 400) < 1


def test_pruning_loses_nothing() -> None:
    for seed in range(8):
        series = rates(seed, [(0.1, 12), (0.4, 9), (0.2, 12)], 16)
        sums, size = _Sums(series), len(series)
        penalty = PENALTY * math.log(size)

        def cost(edges: tuple[int, ...], sums: _Sums = sums, penalty: float = penalty) -> float:
            return sum(sums.cost(a, b) + penalty for a, b in itertools.pairwise(edges))

        places = range(HOLDS, size - HOLDS + 1)
        every = [(0, *some, size) for count in range(4) for some in itertools.combinations(places, count)]
        allowed = [e for e in every if all(b - a >= HOLDS for a, b in itertools.pairwise(e))]
        found = (*segments(series), size)
        assert cost(found) <= min(map(cost, allowed)) + 1e-9


def test_a_change_that_is_small_short_or_chance_is_not_told() -> None:
    assert told(rates(1, [(0.30, 80), (0.45, 80)], 256)) == []  # less than twice
    assert told(rates(2, [(0.004, 80), (0.016, 80)], 256)) == []  # less than two points
    assert told(rates(3, [(0.1, 80), (0.5, 3)], 256)) == []  # does not hold
    assert told(Series([1, 2], [0.1, 0.5], [8.0, 8.0])) == []
