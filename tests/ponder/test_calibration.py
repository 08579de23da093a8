"""Whether scores can be believed: right shares, honest probabilities, no taste for length."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.calibration import LEAST_PAIRS, accuracy, calibrate, correlation, sigmoid


def pairs(count: int, temperature: float, seed: int) -> list[tuple[float, float]]:
    """Differences of scores, and what a person says who decides by `difference / temperature`."""
    random, found = Random(seed), []
    for _ in range(count):
        difference = random.gauss(0, 2)
        found.append((difference, float(random.random() < sigmoid(difference / temperature))))
    return found


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_found_and_makes_promises_honest(temperature: float) -> None:
    found = calibrate(pairs(4000, temperature, 5))
    assert found is not None
    assert found.temperature == pytest.approx(temperature, rel=0.15)
    assert found.error_tempered <= 0.05
    assert found.n == 4000 == sum(own.n for own in found.bins)
    if temperature != 1.0:
        assert found.error > 2 * found.error_tempered


def test_at_1000_pairs_of_an_honest_model_the_error_is_at_most_005() -> None:
    errors = []
    for seed in range(40):
        found = calibrate(pairs(1000, 2.0, seed))
        assert found is not None
        errors.append(found.error_tempered)
    assert sorted(errors)[37] <= 0.05


@given(st.lists(st.tuples(st.floats(-30, 30), st.sampled_from([0.0, 0.5, 1.0])), min_size=LEAST_PAIRS, max_size=150))
def test_a_pair_has_no_first_answer(found: list[tuple[float, float]]) -> None:
    decided = [(difference, seen) for difference, seen in found if difference != 0.0]
    turned = [(-difference, 1 - seen) for difference, seen in decided]
    assert calibrate(decided) == calibrate(turned)


def test_of_too_few_pairs_nothing_is_said() -> None:
    assert calibrate(pairs(LEAST_PAIRS - 1, 1.0, 1)) is None
    assert accuracy([([1.0, 2.0], [1, 2])] * 9) is None
    assert correlation([1.0, 2.0] * 9, [2.0, 1.0] * 9) is None
    assert correlation([1.0] * 40, list(range(40))) is None


def test_accuracy_counts_equal_scores_as_half_right() -> None:
    right = accuracy([([3.0, 2.0, 1.0], [1, 2, 3])] * 10)
    half = accuracy([([1.0, 1.0, 1.0], [1, 2, None])] * 10)
    assert right is not None and half is not None
    assert (right.value, right.n, half.value) == (1.0, 30, 0.5)


@settings(max_examples=200, deadline=None)
@given(st.integers(20, 40).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 9), min_size=n, max_size=n)] * 2)))
def test_the_correlation_is_scipy_s_spearman(both: tuple[list[int], list[int]]) -> None:
    stats = pytest.importorskip("scipy.stats", reason="in the extra `dev`")
    one, other = both
    found = correlation(one, other)
    if len(set(one)) == 1 or len(set(other)) == 1:
        assert found is None
        return
    assert found is not None
    assert found.value == pytest.approx(float(stats.spearmanr(one, other).statistic), abs=1e-9)
    assert found.low <= found.value <= found.high


def test_the_correlation_s_interval_holds_the_truth() -> None:
    """Of normal values, Spearman's correlation is 6 / pi asin(r / 2)."""
    random, held, r = Random(11), 0, 0.4
    for _ in range(500):
        one = [random.gauss(0, 1) for _ in range(60)]
        other = [r * value + math.sqrt(1 - r * r) * random.gauss(0, 1) for value in one]
        found = correlation(one, other)
        assert found is not None
        held += found.low <= 6 / math.pi * math.asin(r / 2) <= found.high
    assert 0.92 <= held / 500 <= 0.98
