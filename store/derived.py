"""What a trainer's event means for the tables that answer questions.

    RunStarted        where the run is now; rows after the checkpoint that it went back to are taken out of the curves
    StageStarted      the run's stage and model; the knobs that the stage begins with, and what was set in it before
    GroupLearnt       what the reference said of its marks
    GroupScored       prompt, group, rollouts, parts, marks, token data (`store.sheet`); the event keeps a reference
    StepDone          step and metrics
    Evaluated         evaluation and metrics
    CheckpointSaved   checkpoint
    CommandApplied    the command's fate, and the knob's value now
    CommandRefused    the command's fate
    WatchdogFired     a mark on the curves

Every row is written by its natural key, so that a step that an attempt does again replaces what the attempt before it
left, and ids stay. What the new attempt does not do again (it took another way, or was stopped earlier) keeps its
texts, marked superseded; its numbers leave the curves and remain in `events`. A number that is not finite is kept out
of curves and events and stands as NULL in `metrics`. Deliberately left out: transactions and order (`store.writer`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from ponder.events import (
    CheckpointSaved,
    CommandApplied,
    CommandRefused,
    Evaluated,
    FeedEvent,
    GroupLearnt,
    GroupScored,
    Record,
    RunStarted,
    StageStarted,
    StepDone,
    WatchdogFired,
)
from ponder.knobs import KnobValue
from ponder.wire import CommandState
from store.sheet import Sheet, finite, uncount
from store.turns import store_lifts

if TYPE_CHECKING:
    from sqlite3 import Connection

TRAINER = "trainer"
"""Who asked for a command that the store never accepted, but a trainer applied."""


def derive(connection: Connection, sheet: Sheet, run_id: int, record: Record) -> FeedEvent:
    """Write all that follows from a record, groups into the sheet, and return the event as followers get it."""
    event = record.event
    if isinstance(event, GroupScored):
        return sheet.add(run_id, record, event)
    if isinstance(event, RunStarted):
        sheet.flush()
        _start(connection, run_id, record, event)
    elif isinstance(event, GroupLearnt):
        if any(answer.lifts for answer in event.answers):
            sheet.flush()
            store_lifts(connection, run_id, event)
    elif isinstance(event, StageStarted):
        _start_stage(connection, run_id, event)
    elif isinstance(event, StepDone):
        _store_step(connection, run_id, record, event)
        return msgspec.structs.replace(event, metrics=_finite_only(event.metrics))
    elif isinstance(event, Evaluated):
        finite = _finite_only(event.metrics)
        _store_evaluation(connection, run_id, record, event, finite)
        return msgspec.structs.replace(event, metrics=finite)
    elif isinstance(event, CheckpointSaved):
        connection.execute(
            "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?)",
            (run_id, event.step, record.attempt, event.folder, event.size_bytes, event.sha256, record.time_us),
        )
    elif isinstance(event, WatchdogFired):
        connection.execute(
            "INSERT OR REPLACE INTO firings VALUES (?, ?, ?, ?, ?)",
            (run_id, event.step, event.rule, event.action, event.message),
        )
    elif isinstance(event, CommandApplied):
        apply_command(connection, run_id, event, record.time_us)
    elif isinstance(event, CommandRefused):
        refuse_command(connection, event, record.time_us)
    return event


def _finite_only(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _start(connection: Connection, run_id: int, record: Record, event: RunStarted) -> None:
    """The run stands after `event.step` again; what came later is taken back until it is made again."""
    connection.execute(
        """UPDATE runs SET step = ?, steps = ?, stage = ?, model = ?, parameters = ?, device = ?, threads = ?,
                           versions = ?
           WHERE id = ?""",
        (
            event.step, event.steps, event.stage, event.model, event.parameters, event.device, event.threads,
            to_json(event.versions), run_id,
        ),
    )  # fmt: skip
    connection.execute(
        """INSERT INTO attempts (run_id, attempt, resumed_from, started_us) VALUES (?, ?, ?, ?)
           ON CONFLICT DO UPDATE SET resumed_from = excluded.resumed_from""",
        (run_id, record.attempt, event.resumed_from, record.time_us),
    )
    for table in ("steps", "metrics", "evaluations", "checkpoints", "firings", "measurements"):
        connection.execute(f"DELETE FROM {table} WHERE run_id = ? AND step > ?", (run_id, event.step))
    taken_back = "group_id IN (SELECT id FROM groups WHERE run_id = ? AND step > ? AND is_superseded = 0)"
    uncount(connection, taken_back, (run_id, event.step))
    connection.execute(f"UPDATE rollouts SET is_superseded = 1 WHERE {taken_back}", (run_id, event.step))
    connection.execute(
        "UPDATE groups SET is_superseded = 1 WHERE run_id = ? AND step > ? AND is_superseded = 0", (run_id, event.step)
    )


def _start_stage(connection: Connection, run_id: int, event: StageStarted) -> None:
    """What was set since the stage's first step, by an attempt that began it too, is in force again."""
    connection.execute(
        "UPDATE runs SET stage = ?, model = ?, parameters = ? WHERE id = ?",
        (event.name, event.model, event.parameters, run_id),
    )
    connection.executemany(
        "UPDATE knobs SET value = ? WHERE run_id = ? AND name = ?",
        [(knob_json(value), run_id, name) for name, value in event.knobs.items()],
    )
    for name, value in connection.execute(
        "SELECT name, value FROM commands WHERE run_id = ? AND verb = 'set' AND state = ? AND step >= ? ORDER BY id",
        (run_id, CommandState.APPLIED, event.step),
    ).fetchall():
        connection.execute("UPDATE knobs SET value = ? WHERE run_id = ? AND name = ?", (value, run_id, name))


def _store_metrics(connection: Connection, run_id: int, step: int, metrics: dict[str, float]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?)",
        [(run_id, name, step, finite(value)) for name, value in metrics.items()],
    )


def _store_step(connection: Connection, run_id: int, record: Record, event: StepDone) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?, ?)",
        (run_id, event.step, record.attempt, event.policy_version, record.time_us),
    )
    _store_metrics(connection, run_id, event.step, event.metrics)
    connection.execute("UPDATE runs SET step = ? WHERE id = ?", (event.step, run_id))


def _store_evaluation(
    connection: Connection, run_id: int, record: Record, event: Evaluated, finite: dict[str, float]
) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO evaluations VALUES (?, ?, ?, ?, ?, ?)",
        (run_id, event.step, record.attempt, event.is_final, record.time_us, to_json(finite)),
    )
    _store_metrics(connection, run_id, event.step, event.metrics)


def apply_command(connection: Connection, run_id: int, event: CommandApplied, time_us: int) -> None:
    """The command is true since its step; a knob's value now is the new one."""
    connection.execute(
        """INSERT INTO commands (command, run_id, verb, name, value, old, submitted_by, requested_us, state, step,
                                 settled_us)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
           ON CONFLICT (command) DO UPDATE SET value = coalesce(excluded.value, value), old = excluded.old,
               state = excluded.state, step = excluded.step, settled_us = excluded.settled_us,
               message = '', hint = ''""",
        (
            event.command, run_id, event.verb, event.name, knob_json(event.new), knob_json(event.old), TRAINER,
            time_us, CommandState.APPLIED, event.step, time_us,
        ),
    )  # fmt: skip
    if event.name and event.new is not None:
        connection.execute(
            "UPDATE knobs SET value = ? WHERE run_id = ? AND name = ?", (knob_json(event.new), run_id, event.name)
        )


def refuse_command(connection: Connection, event: CommandRefused, time_us: int) -> None:
    """The command changed nothing."""
    connection.execute(
        "UPDATE commands SET state = ?, step = ?, settled_us = ?, message = ?, hint = ? WHERE command = ?",
        (CommandState.REFUSED, event.step, time_us, event.message, event.hint, event.command),
    )


def to_json(value: object) -> str:
    """JSON text, as people read it in Datasette."""
    return msgspec.json.encode(value).decode()


def knob_json(value: KnobValue | None) -> str | None:
    """A knob's value with its type kept; SQL's NULL for none."""
    return None if value is None else to_json(value)


def from_json(text: str | None) -> KnobValue | None:
    """What `knob_json` was given."""
    return None if text is None else msgspec.json.decode(text, type=KnobValue)
