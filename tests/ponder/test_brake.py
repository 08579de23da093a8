"""The gauge: silent while promises come true, red soon after they no longer do, and the same after every restart."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponder.brake import (
    DRIFT,
    MOST,
    ROLLBACK_STEPS,
    SHORTFALL,
    Audit,
    Gauge,
    Release,
    gauges,
    judge,
    limit,
)
from ponder.ranking import BrakeState

probabilities = st.floats(0, 1)
audits = st.lists(st.builds(Audit, st.integers(1, 40), probabilities, st.sampled_from([0.0, 0.5, 1.0])), max_size=80)


def gauge_of(happened: Sequence[Audit | Release], audits_a_step: int = 4) -> Gauge:
    """After all of it."""
    return [Gauge(audits_a_step), *gauges(happened, audits_a_step)][-1]


def run(random: Random, steps: range, promised: float, kept: float, m: int = 4) -> list[Audit]:
    """So many audits a step: it is promised that the newer answer wins so often, and it does so often."""
    return [Audit(step, promised, float(random.random() < kept)) for step in steps for _ in range(m)]


@given(audits)
def test_the_score_is_the_cusum_of_step_means(found: list[Audit]) -> None:
    in_order = sorted(found, key=lambda audit: audit.step)
    score = 0.0
    for step in sorted({audit.step for audit in in_order}):
        gaps = [audit.promised - audit.seen - DRIFT for audit in in_order if audit.step == step]
        score = min(max(0.0, score + sum(gaps) / max(4, len(gaps))), MOST * limit(4))
    assert gauge_of(in_order).closed == pytest.approx(score, abs=1e-12)


def test_a_step_counts_when_all_its_audits_are_ranked_or_the_next_one_begins() -> None:
    gauge = gauge_of([Audit(1, 1.0, 0.0)] * 3)
    assert gauge.score == 0.0
    assert judge(gauge, Audit(1, 1.0, 0.0)).score == pytest.approx(1.0 - DRIFT)
    assert judge(gauge, Audit(2, 1.0, 0.0)).score == pytest.approx(0.75 * (1.0 - DRIFT)), "three of four count so much"


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
            assert gauge.score >= gauge.limit / 2 and gauge.alarm_step > 0
        elif before is BrakeState.RED:
            assert light is BrakeState.GREEN, "red is left only below half-way"
        else:
            assert (light is BrakeState.AMBER) == (gauge.score >= gauge.limit / 2)
        before = light


def test_promises_that_come_true_are_hardly_ever_an_alarm() -> None:
    alarms = 0
    for seed in range(300):
        alarms += gauge_of(run(Random(seed), range(1, 51), 0.8, 0.8)).alarm_step > 0
    assert alarms / 300 <= 0.05


def test_promises_that_stop_coming_true_are_an_alarm_within_a_dozen_steps() -> None:
    delays = []
    for seed in range(300):
        random = Random(seed)
        good, bad = run(random, range(1, 41), 0.7, 0.7), run(random, range(41, 120), 0.9, 0.35)
        gauge = gauge_of([*good, *bad])
        assert gauge.light() is BrakeState.RED
        delays.append(gauge.alarm_step - 40)
    assert sorted(delays)[270] <= 12
    assert sum(delay <= 0 for delay in delays) <= 15


def test_the_way_back_is_some_steps_before_the_alarm() -> None:
    gauge = gauge_of([Audit(step, 1.0, 0.0) for step in range(1, 60) for _ in range(4)])
    assert gauge.alarm_step == 2 and gauge.rollback_step == 0
    later = gauge_of([Audit(step, 1.0, float(step < 50)) for step in range(1, 60) for _ in range(4)])
    assert later.rollback_step == later.alarm_step - ROLLBACK_STEPS == 41


def test_a_red_light_goes_out_when_promises_come_true_again() -> None:
    gauge = gauge_of([Audit(step, 1.0, 0.0) for step in range(1, 10) for _ in range(4)])
    assert gauge.light() is BrakeState.RED and gauge.score == pytest.approx(MOST * gauge.limit)
    steps = 0
    while gauge.light() is BrakeState.RED:
        steps += 1
        for _ in range(4):
            gauge = judge(gauge, Audit(9 + steps, 0.6, 0.6))
    assert steps == 10, "the score falls by 0.12 a step, from 1.8 to 0.6"


def test_a_person_may_let_it_go_on() -> None:
    gauge = gauge_of([*(Audit(step, 1.0, 0.0) for step in range(1, 10)), Release()], audits_a_step=1)
    assert gauge.light() is BrakeState.GREEN and gauge.score == 0.0
    assert gauge.audits == 9 and gauge.alarm_step == 3
    for step in (10, 11, 12):
        gauge = judge(gauge, Audit(step, 1.0, 0.0))
    assert gauge.light() is BrakeState.RED and gauge.alarm_step == 12


def test_the_second_meter_makes_amber_and_never_red() -> None:
    gauge = gauge_of(run(Random(1), range(1, 10), 0.7, 0.9))
    assert gauge.light() is gauge.light(0.7) is gauge.light(None, 0.2) is BrakeState.GREEN, "half of it says nothing"
    assert gauge.light(0.7, 0.7 - SHORTFALL + 0.01) is BrakeState.GREEN
    assert gauge.light(0.7, 0.7 - SHORTFALL - 0.01) is gauge.light(0.9, 0.1) is BrakeState.AMBER


def test_an_audit_ranked_late_counts_to_the_newest_step() -> None:
    gauge = gauge_of([Audit(5, 0.9, 1.0), Audit(9, 0.9, 1.0), Audit(5, 0.9, 0.0)])
    assert (gauge.step, gauge.count, gauge.audits) == (9, 2, 3)


def test_fewer_audits_a_step_may_wander_further() -> None:
    assert [round(limit(m), 3) for m in (1, 2, 4)] == [1.8, 1.449, 1.2]
