"""What the brake makes of audits, and what it takes for the only reward."""

from __future__ import annotations

from dataclasses import replace

import pytest

from daemon.brake import Reading, _weighed_parts, audits_of, happened
from ponder.brake import MESSAGE, Audit, Gauge
from ponder.calibration import sigmoid
from ponder.ranking import BrakeState, Stream, Verdict
from store.rankings import JudgedAnswer, Judgement


def answer(
    step: int, rank: int | None, *, score: float | None, version: int = 1, before: float | None = None
) -> JudgedAnswer:
    return JudgedAnswer(step, step, rank, False, 5, None, True, version, score, before)


def audit(*answers: JudgedAnswer, stream: Stream = Stream.AUDIT, verdict: Verdict = Verdict.RANKED,
          undone_us: int | None = None) -> Judgement:  # fmt: skip
    return Judgement(1, "ada", stream, verdict, 1, 30, 1, 1.0, undone_us, answers)


@pytest.mark.parametrize(
    ("newer", "older", "seen"), [(1, 2, 1.0), (2, 1, 0.0), (1, 1, 0.5), (None, 1, 0.0), (1, None, 1.0)]
)
def test_what_was_seen_is_whether_the_newer_answer_is_better(newer: int | None, older: int | None, seen: float) -> None:
    told = [answer(30, newer, score=2.0), answer(10, older, score=2.0)]
    assert list(audits_of([audit(*told)], {})) == [Audit(30, 0.5, seen)]
    assert list(audits_of([audit(*told[::-1])], {})) == [Audit(30, 0.5, seen)]


def test_two_versions_scores_are_not_compared_but_what_the_newer_says_of_both() -> None:
    newer, older = answer(30, 1, score=1.0, version=2, before=1.0), answer(10, 2, score=-50.0)
    assert list(audits_of([audit(older, newer)], {})) == [Audit(30, 0.5, 1.0)]
    assert list(audits_of([audit(older, answer(30, 1, score=1.0, version=2))], {})) == []


def test_a_version_promises_with_its_temperature() -> None:
    newer, older = answer(30, 1, score=3.0, version=2), answer(10, 2, score=1.0, version=2)
    ((tempered,), (plain,)) = (list(audits_of([audit(newer, older)], known)) for known in ({2: 4.0}, {1: 4.0}))
    assert tempered == Audit(30, sigmoid(0.5), 1.0) and plain == Audit(30, sigmoid(2.0), 1.0)


def test_only_audits_that_stand_and_say_something_count() -> None:
    pair = answer(30, 1, score=2.0), answer(10, 2, score=1.0)
    assert list(audits_of([audit(*pair, stream=Stream.RANDOM)], {})) == []
    assert list(audits_of([audit(*pair, verdict=Verdict.SKIPPED)], {})) == []
    assert list(audits_of([audit(*pair, undone_us=5)], {})) == []
    assert list(audits_of([audit(answer(30, None, score=2.0), answer(10, None, score=1.0))], {})) == []
    assert (
        list(audits_of([audit(answer(30, 1, score=None, version=0), answer(10, 2, score=None, version=0))], {})) == []
    )


def test_the_reward_model_is_the_only_reward_where_no_other_part_weighs() -> None:
    weights = {"correct": 1.0, "format": 0.0, "mine": 1.0, "gold": 0.0, "preference": 1.0}
    assert _weighed_parts({"preference", "preference_raw", "preference_spread"}, weights) == set()
    assert _weighed_parts({"preference", "format", "gold"}, weights) == set(), "they are measured and weigh nothing"
    assert _weighed_parts({"preference", "correct"}, weights) == {"correct"}
    assert _weighed_parts({"preference", "mine"}, weights) == {"mine"}
    assert _weighed_parts({"preference", "mine/tone"}, weights) == {"mine/tone"}


def test_people_let_go_between_the_rankings_that_came_before_and_after() -> None:
    judged = [replace(audit(answer(30, 1, score=2.0), answer(10, 2, score=2.0)), id=number) for number in (3, 5, 8)]
    kinds = [type(event).__name__ for event in happened(judged, {}, [0, 5, 9])]
    assert kinds == ["Release", "Audit", "Audit", "Release", "Audit", "Release"]


def reading(gauge: Gauge, light: BrakeState = BrakeState.GREEN, silent_steps: int = 0) -> Reading:
    return Reading(gauge, light, None, [], silent_steps)


def test_silence_is_not_safety() -> None:
    judged = Gauge(audits=8, step=30)
    assert (reading(judged).state, reading(judged).message) == (BrakeState.GREEN, "")
    assert reading(Gauge()).state is reading(judged, silent_steps=21).state is BrakeState.BLIND
    assert reading(Gauge()).message == "nobody has judged an audit yet"
    assert reading(judged, silent_steps=21).message == "nobody has judged an audit for 21 steps"
    red = reading(judged, BrakeState.RED, silent_steps=21)
    assert red.state is BrakeState.RED and red.message.startswith(MESSAGE) and "21 steps" in red.message
    assert (reading(Gauge(), BrakeState.OFF).state, reading(Gauge(), BrakeState.OFF).message) == (BrakeState.OFF, "")
