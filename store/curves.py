"""A run's numbers by step through its whole past: curves, whole or thinned, their wall time, and what was changed.

A curve of 100,000 steps is more than a screen has columns. Thinned by `span` it has, of each span of so many steps, the
mean and the least and greatest value. Spans begin at multiples of `span`, whatever was asked before, so that a follower
asks for the newest span again and for nothing else. Deliberately left out: single rows (`store.rows`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ponder.knobs import format_value
from ponder.recipe import parse_recipe
from ponder.wire import CommandState
from store.derived import from_json
from store.lineage import END, lineage

if TYPE_CHECKING:
    from sqlite3 import Connection

Points = list[tuple[int, float]]
Bands = list[tuple[int, float, float]]


def curve(connection: Connection, run_id: int, name: str, after_step: int = -1, until_step: int = END) -> Points:
    """A metric's finite values by step."""
    query = """SELECT step, value FROM metrics
               WHERE run_id = ? AND name = ? AND step > ? AND step <= ? AND value IS NOT NULL ORDER BY step"""
    parts = lineage(connection, run_id)
    if len(parts) == 1:
        return connection.execute(query, (run_id, name, after_step, until_step)).fetchall()
    values: dict[int, float] = {}
    for part in parts:
        values |= dict(connection.execute(query, (part.run_id, name, after_step, min(part.last, until_step))))
    return list(values.items())


def thinned(
    connection: Connection, run_id: int, name: str, after_step: int, until_step: int, span: int
) -> tuple[Points, Bands]:
    """(last step, mean) and (last step, least, greatest) of each span of steps that has a finite value."""
    query = """SELECT step / ?, max(step), sum(value), count(*), min(value), max(value) FROM metrics
               WHERE run_id = ? AND name = ? AND step > ? AND step <= ? AND value IS NOT NULL
               GROUP BY step / ? ORDER BY step"""
    spans: dict[int, tuple[int, float, int, float, float]] = {}
    for owner, after, until in _ranges(connection, run_id, after_step, until_step):
        for number, *new in connection.execute(query, (span, owner, name, after, until, span)):
            step, total, count, low, high = new
            if number in spans:  # a span in which the ways parted
                _, other_total, other_count, other_low, other_high = spans[number]
                total, count = total + other_total, count + other_count
                low, high = min(low, other_low), max(high, other_high)
            spans[number] = (step, total, count, low, high)
    means = [(step, total / count) for step, total, count, _, _ in spans.values()]
    return means, [(step, low, high) for step, _, _, low, high in spans.values()]


def step_times(
    connection: Connection, run_id: int, after_step: int, until_step: int, span: int
) -> list[tuple[int, int]]:
    """(step, when it was done in microseconds) of the run's first step, and of the last step of each span."""
    query = """SELECT max(step), done_us FROM steps WHERE run_id = ? AND step > ? AND step <= ?
               GROUP BY step / ? ORDER BY step"""
    first = "SELECT step, done_us FROM steps WHERE run_id = ? ORDER BY step LIMIT 1"
    times: dict[int, int] = dict(connection.execute(first, (lineage(connection, run_id)[0].run_id,)))
    for owner, after, until in _ranges(connection, run_id, after_step, until_step):
        times |= dict(connection.execute(query, (owner, after, until, span)))
    return list(times.items())


def _ranges(connection: Connection, run_id: int, after_step: int, until_step: int) -> Iterator[tuple[int, int, int]]:
    """(run, after, until) of each part of the past that the asked steps touch; no step is in two."""
    for part in lineage(connection, run_id):
        until = min(part.last, until_step)
        if until > after_step:
            yield part.run_id, after_step, until
        after_step = max(after_step, part.last)


def curve_marks(connection: Connection, run_id: int) -> list[tuple[int, str]]:
    """Those of the run's whole past."""
    marks: list[tuple[int, str]] = []
    for part in lineage(connection, run_id):
        marks += [mark for mark in _own_marks(connection, part.run_id) if mark[0] <= part.last]
    return sorted(marks)


def _own_marks(connection: Connection, run_id: int) -> list[tuple[int, str]]:
    marks = [
        (int(step), f"forked from {parent}")
        for step, parent in connection.execute(
            """SELECT runs.forked_at, parents.name FROM runs JOIN runs AS parents ON parents.id = runs.parent_id
               WHERE runs.id = ?""",
            (run_id,),
        )
    ]
    for step, name, old, new in connection.execute(
        "SELECT step, name, old, value FROM commands WHERE run_id = ? AND verb = 'set' AND state = ?",
        (run_id, CommandState.APPLIED),
    ):
        values = [format_value(value) for value in (from_json(old), from_json(new)) if value is not None]
        marks.append((step, f"{name} {' -> '.join(values)}"))
    for (step,) in connection.execute(
        """SELECT resumed_from FROM attempts JOIN runs ON runs.id = attempts.run_id
           WHERE run_id = ? AND resumed_from IS NOT NULL AND NOT (attempt = 1 AND forked_at IS NOT NULL)""",
        (run_id,),
    ):
        marks.append((step, f"resumed from step {step}"))
    for step, rule, action in connection.execute("SELECT step, rule, action FROM firings WHERE run_id = ?", (run_id,)):
        marks.append((step, f"watchdog: {rule} ({action})"))
    for (text,) in connection.execute(
        "SELECT recipe FROM runs WHERE id = ? AND instr(recipe, 'in_reward') > 0", (run_id,)
    ):
        rewarded = parse_recipe(text, "the stored recipe").monitors_in_reward
        marks += [(step, f"monitor `{name}` is in the reward") for step, name in rewarded]
    return marks
