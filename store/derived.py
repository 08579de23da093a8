"""What a trainer's event means for the tables that answer questions.

    RunStarted        where the run is now; rows after the checkpoint that it went back to are taken out of the curves
    StageStarted      the run's stage and model; the knobs that the stage begins with, and what was set in it before
    GroupScored       prompt, group, rollouts, reward parts, marks, token data; the event keeps a reference
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

import hashlib
import math
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from ponder.events import (
    CheckpointSaved,
    CommandApplied,
    CommandRefused,
    Evaluated,
    FeedEvent,
    GroupScored,
    GroupStored,
    Outcome,
    Record,
    Rollout,
    RunStarted,
    StageStarted,
    StepDone,
    WatchdogFired,
)
from ponder.knobs import KnobValue
from ponder.wire import CommandState

if TYPE_CHECKING:
    from sqlite3 import Connection

TRAINER = "trainer"
"""Who asked for a command that the store never accepted, but a trainer applied."""


def derive(connection: Connection, run_id: int, record: Record) -> FeedEvent:
    """Write all that follows from a record, and return the event as followers get it."""
    event = record.event
    if isinstance(event, GroupScored):
        return _store_group(connection, run_id, record, event)
    if isinstance(event, RunStarted):
        _start(connection, run_id, record, event)
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


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


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
    for table in ("steps", "metrics", "evaluations", "checkpoints", "firings"):
        connection.execute(f"DELETE FROM {table} WHERE run_id = ? AND step > ?", (run_id, event.step))
    connection.execute(
        """UPDATE rollouts SET is_superseded = 1 WHERE group_id IN
           (SELECT id FROM groups WHERE run_id = ? AND step > ? AND is_superseded = 0)""",
        (run_id, event.step),
    )
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
        [(run_id, name, step, _finite(value)) for name, value in metrics.items()],
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


def _store_group(connection: Connection, run_id: int, record: Record, event: GroupScored) -> GroupStored:
    rewards = [_finite(rollout.reward) for rollout in event.rollouts]
    rescued = sum(rollout.outcome is Outcome.RESCUED for rollout in event.rollouts)
    scored = [reward for reward in rewards if reward is not None]
    known = connection.execute(
        "SELECT id FROM groups WHERE run_id = ? AND step = ? AND idx = ?", (run_id, event.step, event.group)
    ).fetchone()
    values = (
        record.attempt, event.policy_version, _store_prompt(connection, event), len(rewards),
        *_mean_and_std(scored), rescued,
        record.time_us,
    )  # fmt: skip
    if known is None:
        (group_id,) = connection.execute(
            """INSERT INTO groups (attempt, policy_version, prompt_id, size, reward_mean, reward_std, rescued,
                                   created_us, run_id, step, idx)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id""",
            (*values, run_id, event.step, event.group),
        ).fetchone()
        members = {}
    else:
        (group_id,) = known
        connection.execute(
            """UPDATE groups SET attempt = ?, policy_version = ?, prompt_id = ?, size = ?, reward_mean = ?,
                                 reward_std = ?, rescued = ?, created_us = ?, is_superseded = 0
               WHERE id = ?""",
            (*values, group_id),
        )
        members = dict(connection.execute("SELECT idx, id FROM rollouts WHERE group_id = ?", (group_id,)).fetchall())
    ids = [
        _store_rollout(connection, run_id, group_id, rollout, members.get(rollout.index)) for rollout in event.rollouts
    ]
    _store_details(connection, zip(ids, event.rollouts, strict=True))
    return GroupStored(event.step, event.group, group_id, event.prompt, rewards, rescued)


def _mean_and_std(values: list[float]) -> tuple[float | None, float | None]:
    """Mean and standard deviation (ddof 0); None when there is nothing to average."""
    if not values:
        return None, None
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def _store_prompt(connection: Connection, event: GroupScored) -> int:
    parts = [part.encode() for part in (event.prompt_id, event.prompt, event.reference)]
    digest = hashlib.blake2b(
        b"".join(len(part).to_bytes(8, "little") + part for part in parts), digest_size=16
    ).digest()
    found = connection.execute("SELECT id FROM prompts WHERE digest = ?", (digest,)).fetchone()
    if found is None:
        found = connection.execute(
            "INSERT INTO prompts (digest, key, text, reference) VALUES (?, ?, ?, ?) RETURNING id",
            (digest, event.prompt_id, event.prompt, event.reference),
        ).fetchone()
    return int(found[0])


def _store_rollout(connection: Connection, run_id: int, group_id: int, rollout: Rollout, known: int | None) -> int:
    """Write a rollout, over the `known` one when an earlier attempt made it, and return its id."""
    values = (
        rollout.text, rollout.length_tokens, rollout.finish, _finite(rollout.reward), _finite(rollout.advantage) or 0.0,
        rollout.is_correct, rollout.answer, rollout.answer_start, rollout.outcome, rollout.error,
    )  # fmt: skip
    if known is None:
        row = connection.execute(
            """INSERT INTO rollouts (text, length_tokens, finish, reward, advantage, is_correct, answer, answer_start,
                                     outcome, error, group_id, idx, run_id)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id""",
            (*values, group_id, rollout.index, run_id),
        ).fetchone()
        return int(row[0])
    connection.execute(
        """UPDATE rollouts SET text = ?, length_tokens = ?, finish = ?, reward = ?, advantage = ?, is_correct = ?,
                               answer = ?, answer_start = ?, outcome = ?, error = ?, is_superseded = 0
           WHERE id = ?""",
        (*values, known),
    )
    for table in ("reward_parts", "marks", "rollout_tokens"):
        connection.execute(f"DELETE FROM {table} WHERE rollout_id = ?", (known,))
    return known


def _store_details(connection: Connection, rollouts: Iterable[tuple[int, Rollout]]) -> None:
    parts, marks, tokens = [], [], []
    for rollout_id, rollout in rollouts:
        parts += [(rollout_id, name, value) for name, value in rollout.parts.items() if math.isfinite(value)]
        marks += [
            (
                rollout_id, place, mark.start, mark.end, mark.word, mark.outcome, mark.before, mark.after, mark.token,
                _finite(mark.entropy) or 0.0,
            )
            for place, mark in enumerate(rollout.marks)
        ]  # fmt: skip
        if rollout.token_ids or rollout.logps or rollout.entropies:
            tokens.append((rollout_id, *pack_ids(rollout.token_ids), rollout.logps, rollout.entropies))
    connection.executemany("INSERT INTO reward_parts VALUES (?, ?, ?)", parts)
    connection.executemany("INSERT INTO marks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", marks)
    connection.executemany("INSERT INTO rollout_tokens VALUES (?, ?, ?, ?, ?)", tokens)


def pack_ids(ids: bytes) -> tuple[str, bytes]:
    """(codec, bytes): compressed where that is smaller. Log-probs and entropies hardly shrink and stay as they are."""
    packed = zlib.compress(ids, 1)
    return ("zlib", packed) if len(packed) < len(ids) else ("raw", ids)


def unpack_ids(codec: str, data: bytes) -> bytes:
    """What `pack_ids` was given."""
    return zlib.decompress(data) if codec == "zlib" else data


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
