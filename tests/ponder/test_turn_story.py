"""What a run's curves tell: a change is told apart from one that somebody made."""

from __future__ import annotations

import pytest

from ponder import metrics
from ponder.knobs import KnobValue
from ponder.turn_story import chance_of, lag, tell_changes
from tests.ponder.test_change_points import lengths, rates

KNOBS: dict[str, KnobValue] = {"sampling.prompts_per_step": 8, "sampling.group_size": 8, "kl.refresh_steps": 0}


def curves() -> dict[str, list[tuple[int, float]]]:
    reflecting = rates(1, [(0.1, 40), (0.6, 60)])
    length = lengths(1, [(12, 46), (30, 54)])
    return {
        metrics.REFLECT: list(zip(reflecting.steps, reflecting.values, strict=True)),
        metrics.LENGTH_MEAN: [
            (step, 2.718281828**value) for step, value in zip(length.steps, length.values, strict=True)
        ],
        metrics.TURN_ANSWERS: [(step, 64.0) for step in reflecting.steps],
    }


@pytest.mark.parametrize("is_over", [True, False])
def test_a_change_that_nobody_made_is_told_as_such(is_over: bool) -> None:
    reflecting, length = tell_changes(curves(), [(4, "optim.lr 0.1 -> 0.2")], KNOBS, is_over=is_over)
    assert (reflecting.name, length.name) == (metrics.REFLECT, metrics.LENGTH_MEAN)
    assert abs(reflecting.change.first - 41) <= 2 and abs(length.change.first - 47) <= 2
    assert reflecting.causes == length.causes == ()
    assert length.change.before == pytest.approx(12, rel=0.1) and length.change.after == pytest.approx(30, rel=0.1)
    assert lag([reflecting, length]) == length.change.at - reflecting.change.at


@pytest.mark.parametrize(
    ("edit", "is_cause"),
    [
        ((45, "sampling.max_new_tokens 48 -> 96"), True),
        ((42, "sampling.max_new_tokens 48 -> 96"), True),
        ((20, "sampling.max_new_tokens 48 -> 96"), False),
        ((60, "sampling.max_new_tokens 48 -> 96"), False),
        ((45, "resumed from step 45"), False),
        ((45, "watchdog: entropy (rollback)"), True),
    ],
)
def test_an_edit_shortly_before_a_change_is_its_likely_cause(edit: tuple[int, str], is_cause: bool) -> None:
    length = tell_changes(curves(), [edit], KNOBS, is_over=True)[-1]
    assert length.causes == ((f"{edit[1]} at step {edit[0]}",) if is_cause else ())


def test_a_reference_that_became_the_policy_then_is_named() -> None:
    reflecting = tell_changes(curves(), [], {**KNOBS, "kl.refresh_steps": 40}, is_over=True)[0]
    assert reflecting.causes == ("the reference became the policy at step 40",)


def test_a_change_that_is_undone_is_told_twice() -> None:
    series = rates(2, [(0.1, 50), (0.5, 50), (0.1, 50)])
    points = {metrics.REFLECT: list(zip(series.steps, series.values, strict=True))}
    assert [one.change.after > one.change.before for one in tell_changes(points, [], KNOBS, is_over=True)] == [
        True,
        False,
    ]


def test_what_chance_would_do_is_weighed_by_marks() -> None:
    told = {
        metrics.TURN_MARKS: [(1, 10.0), (2, 30.0), (3, 0.0)],
        metrics.RESCUE_SHARE: [(1, 0.5), (2, 0.1)],
        metrics.NULL_SHARE: [(1, 0.2), (2, 0.2)],
    }
    found = chance_of(told)
    assert found is not None
    assert found.marks == 40
    assert found.rescued == pytest.approx(0.2)
    assert found.by_chance == pytest.approx(0.2)
    assert found.z == pytest.approx(0.0)
    assert chance_of({}) is None
