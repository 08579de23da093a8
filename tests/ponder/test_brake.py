"""The gauge: silent while promises come true, red soon after they no longer do, and the same after every restart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponder.brake import LIMIT, MOST, SHORTFALL, SUREST, Audit, Gauge, Release, gauges, judge
from ponder.ranking import BrakeState

probabilities = st.floats(0, 1)
audits = st.lists(st.builds(Audit, st.integers(1, 40), probabilities, st.sampled_from([0.0, 0.5, 1.0])), max_size=80)


def gauge_of(happened: Sequence[Audit | Release]) -> Gauge:
    """After all of it."""
    return [Gauge(), *gauges(happened)][-1]


def run(random: Random, steps: range, promised: float, kept: float, m: int = 4) -> list[Audit]:
    """So many audits a step: it is promised that the newer answer wins so often, and it does so often."""
    return [Audit(step, promised, float(random.random() < kept)) for step in steps for _ in range(m)]


@given(audits)
def test_the_score_is_the_cusum_of_how_much_likelier_a_coin_is(found: list[Audit]) -> None:
    score = 0.0
    for audit in found:
        p = min(audit.promised, SUREST)
        if p > 0.5:
            likelihood = p**audit.seen * (1 - p) ** (1 - audit.seen)
            score = min(max(0.0, score + math.log(0.5 / likelihood)), MOST * LIMIT)
    assert gauge_of(found).score == pytest.approx(score, abs=1e-9)


@given(st.lists(st.floats(0.0, 0.5), max_size=50))
def test_where_nothing_was_promised_nothing_was_broken(promises: list[float]) -> None:
    gauge = gauge_of([Audit(1, promised, 0.0) for promised in promises])
    assert gauge.score == 0.0 and gauge.audits == len(promises)


@given(audits, st.integers(0, 80))
def test_a_gauge_that_was_written_down_goes_on_as_if_it_never_had_been(found: list[Audit], cut: int) -> None:
    saved = msgspec.json.encode(gauge_of(found[:cut]))
    gauge = msgspec.json.decode(saved, type=Gauge)
    for audit in found[cut:]:
        gauge = judge(gauge, audit)
    assert gauge == gauge_of(found)
    assert len(saved) < 300


@given(audits)
def test_the_light_is_green_amber_and_red_in_this_order(found: list[Audit]) -> None:
    gauge, before = Gauge(), BrakeState.GREEN
    for audit in found:
        gauge = judge(gauge, audit)
        light = gauge.light()
        if light is BrakeState.RED:
            assert gauge.score >= LIMIT / 2 and gauge.alarm_step > 0
        elif before is BrakeState.RED:
            assert light is BrakeState.GREEN, "red is left only below half-way"
        else:
            assert (light is BrakeState.AMBER) == (gauge.score >= LIMIT / 2)
        before = light


@pytest.mark.parametrize("kept", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_promises_that_come_true_are_hardly_ever_an_alarm(kept: float) -> None:
    alarms = sum(gauge_of(run(Random(seed), range(1, 201), kept, kept)).alarm_step > 0 for seed in range(100))
    assert alarms <= 1, "of runs of 200 steps"


def test_small_promises_of_a_policy_that_gets_no_better_are_hardly_ever_an_alarm() -> None:
    alarms = sum(gauge_of(run(Random(seed), range(1, 101), 0.57, 0.5)).alarm_step > 0 for seed in range(100))
    assert alarms <= 5


def test_promises_that_stop_coming_true_are_an_alarm_within_a_dozen_steps() -> None:
    delays = []
    for seed in range(300):
        random = Random(seed)
        good, bad = run(random, range(1, 41), 0.7, 0.7), run(random, range(41, 120), 0.9, 0.35)
        gauge = gauge_of([*good, *bad])
        assert gauge.light() is BrakeState.RED
        delays.append(gauge.alarm_step - 40)
    assert sorted(delays)[270] <= 12
    assert sum(delay <= 0 for delay in delays) <= 3


def test_the_way_back_is_to_where_the_promises_began_to_fail() -> None:
    back = []
    for seed in range(100):
        random = Random(seed)
        good, bad = run(random, range(1, 41), 0.8, 0.8), run(random, range(41, 120), 0.9, 0.35)
        gauge = next(gauge for gauge in gauges([*good, *bad]) if gauge.is_red)
        assert gauge.rollback_step <= gauge.alarm_step
        back.append(gauge.rollback_step)
    assert 38 <= sorted(back)[50] <= 41
    later = gauge_of([Audit(step, 0.9, float(step < 50)) for step in range(1, 60) for _ in range(4)])
    assert (later.alarm_step, later.rollback_step) == (51, 49)


def test_where_the_first_audits_fail_already_the_way_back_is_to_before_them() -> None:
    gauge = gauge_of([Audit(step, 0.9, 0.0) for step in range(21, 30)])
    assert (gauge.alarm_step, gauge.rollback_step) == (27, 20)


def test_a_red_light_goes_out_when_promises_come_true_again() -> None:
    gauge = gauge_of([Audit(step, 1.0, 0.0) for step in range(1, 10) for _ in range(4)])
    assert gauge.light() is BrakeState.RED and gauge.score == pytest.approx(MOST * LIMIT)
    audits = 0
    while gauge.light() is BrakeState.RED:
        audits += 1
        gauge = judge(gauge, Audit(9 + audits, 0.9, 1.0))
    assert audits == math.ceil((MOST - 0.5) * LIMIT / math.log(1.8)), "each takes ln 1.8 off"
    assert gauge.alarm_step and gauge.rollback_step <= gauge.alarm_step, "what it had said stays known"


def test_a_person_may_let_it_go_on() -> None:
    gauge = gauge_of([*(Audit(step, 1.0, 0.0) for step in range(1, 10)), Release()])
    assert gauge.light() is BrakeState.GREEN and gauge.score == 0.0
    assert gauge.audits == 9 and gauge.alarm_step == 5
    for step in range(10, 15):
        gauge = judge(gauge, Audit(step, 1.0, 0.0))
    assert gauge.light() is BrakeState.RED and (gauge.alarm_step, gauge.rollback_step) == (14, 9)


def test_the_second_meter_makes_amber_and_never_red() -> None:
    gauge = gauge_of(run(Random(1), range(1, 10), 0.7, 0.9))
    assert gauge.light() is gauge.light(0.7) is gauge.light(None, 0.2) is BrakeState.GREEN, "half of it says nothing"
    assert gauge.light(0.7, 0.7 - SHORTFALL + 0.01) is BrakeState.GREEN
    assert gauge.light(0.7, 0.7 - SHORTFALL - 0.01) is gauge.light(0.9, 0.1) is BrakeState.AMBER


def test_an_audit_ranked_late_counts_to_the_newest_step() -> None:
    gauge = gauge_of([Audit(5, 0.9, 1.0), Audit(9, 0.9, 1.0), Audit(5, 0.9, 0.0)])
    assert (gauge.step, gauge.since_step, gauge.audits) == (9, 9, 3)
