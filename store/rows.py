"""Rows of the store as the words of `ponder.wire`: runs, groups, rollouts, knobs.

Each function takes the rows of a page and reads what belongs to them with one query a table, never one a row.
Deliberately left out: which rows make a page (`store.reader`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from ponder.events import Find, Finish, Rollout, RunState
from ponder.knobs import DECLARATIONS, KnobValue
from ponder.metrics import HEADLINES, REWARD_MEAN
from ponder.wire import CommandState, GroupRow, KnobChange, KnobRow, RunRow, StoredRollout
from store.cold import TOKEN_COLUMNS, Cold, TokenRow, read_frames
from store.derived import from_json
from store.lineage import lineage
from store.sheet import unpack_ids
from store.turns import marks_of

if TYPE_CHECKING:
    from sqlite3 import Connection

SPARK_STEPS = 40

Row = tuple[object, ...]

RUN_COLUMNS = """
    SELECT id, name, title, state, reason, stage, step, steps, created_us, started_us, ended_us, seen_us, phase,
           (SELECT coalesce(max(attempt), 0) FROM attempts WHERE run_id = runs.id),
           (SELECT name FROM runs AS parents WHERE parents.id = runs.parent_id), forked_at
    FROM runs
"""

GROUP_COLUMNS = """
    SELECT groups.id, groups.step, groups.idx, prompts.key, prompts.text, groups.reward_mean, groups.reward_std,
           groups.rescued
    FROM groups CROSS JOIN prompts ON prompts.id = groups.prompt_id
"""

ROLLOUT_COLUMNS = """
    SELECT rollouts.id, runs.name, groups.step, groups.id, groups.idx, prompts.text, prompts.reference,
           groups.policy_version, rollouts.idx, rollouts.text, rollouts.length_tokens, rollouts.finish, rollouts.reward,
           rollouts.advantage, rollouts.is_correct, rollouts.answer, rollouts.answer_start, rollouts.error,
           coalesce(annotations.is_starred, 0), coalesce(annotations.is_flagged, 0), coalesce(annotations.note, ''),
           rollouts.frame
    FROM rollouts
    CROSS JOIN groups ON groups.id = rollouts.group_id
    CROSS JOIN prompts ON prompts.id = groups.prompt_id
    CROSS JOIN runs ON runs.id = rollouts.run_id
    LEFT JOIN annotations ON annotations.rollout_id = rollouts.id
"""
"""CROSS keeps SQLite's planner from starting anywhere but at the rollouts, whose order the page follows."""


def places(values: Sequence[object]) -> str:
    """`(?, ?, ?)` for an IN."""
    return f"({', '.join('?' * len(values))})"


def run_rows(connection: Connection, where: str, arguments: Sequence[object]) -> list[RunRow]:
    """The runs that `where` (everything after FROM) selects. `queue_place` is the daemon's to fill in."""
    return [
        RunRow(
            id=row[0], name=row[1], title=row[2], state=RunState(row[3]), reason=row[4], stage=row[5], step=row[6],
            steps=row[7], attempt=row[13], created_us=row[8], started_us=row[9], ended_us=row[10], seen_us=row[11],
            phase=row[12], queue_place=None, headlines=newest_metrics(connection, row[0], HEADLINES),
            spark=_spark(connection, row[0]), forked_from=row[14] or "", forked_at=row[15],
        )
        for row in connection.execute(f"{RUN_COLUMNS} {where}", arguments).fetchall()
    ]  # fmt: skip


def metric_names(connection: Connection, run_id: int) -> list[str]:
    """Every metric that the run or its past ever reported."""
    parts = lineage(connection, run_id)
    return sorted({name for part in parts for name in own_metric_names(connection, part.run_id)})


def own_metric_names(connection: Connection, run_id: int) -> list[str]:
    """Those that the run itself reported; jumps from name to name, where DISTINCT would visit every value."""
    query = """WITH RECURSIVE names (name) AS (
                   SELECT min(name) FROM metrics WHERE run_id = ?1
                   UNION ALL
                   SELECT (SELECT min(metrics.name) FROM metrics WHERE run_id = ?1 AND metrics.name > names.name)
                   FROM names WHERE names.name IS NOT NULL
               )
               SELECT name FROM names WHERE name IS NOT NULL"""
    return [name for (name,) in connection.execute(query, (run_id,))]


def newest_metrics(connection: Connection, run_id: int, names: Sequence[str]) -> dict[str, float]:
    """The newest finite value of each metric that has one."""
    query = """SELECT value FROM metrics WHERE run_id = ? AND name = ? AND step <= ? AND value IS NOT NULL
               ORDER BY step DESC LIMIT 1"""
    newest: dict[str, float] = {}
    for part in lineage(connection, run_id):
        found = {name: connection.execute(query, (part.run_id, name, part.last)).fetchone() for name in names}
        newest |= {name: row[0] for name, row in found.items() if row is not None}
    return newest


def _spark(connection: Connection, run_id: int) -> list[float]:
    query = """SELECT value FROM metrics
               WHERE run_id = ? AND name = ? AND step <= ? AND value IS NOT NULL ORDER BY step DESC LIMIT ?"""
    values: list[float] = []
    for part in reversed(lineage(connection, run_id)):
        wanted = SPARK_STEPS - len(values)
        values += [value for (value,) in connection.execute(query, (part.run_id, REWARD_MEAN, part.last, wanted))]
    return values[::-1]


def group_rows(connection: Connection, where: str, arguments: Sequence[object]) -> list[GroupRow]:
    """The groups that `where` selects. A group in which nothing could be scored has mean and std 0.

    Members that a later attempt did not make again belong to the group only while the whole group was not.
    """
    rows = connection.execute(f"{GROUP_COLUMNS} {where}", arguments).fetchall()
    ids = [row[0] for row in rows]
    rewards: defaultdict[int, list[float | None]] = defaultdict(list)
    for group_id, reward in connection.execute(
        f"""SELECT groups.id, rollouts.reward FROM groups JOIN rollouts ON rollouts.group_id = groups.id
            WHERE groups.id IN {places(ids)} AND rollouts.is_superseded = groups.is_superseded
            ORDER BY groups.id, rollouts.idx""",
        ids,
    ):
        rewards[group_id].append(reward)
    return [
        GroupRow(
            id=row[0], step=row[1], group=row[2], prompt_id=row[3], prompt=row[4], rewards=rewards[row[0]],
            mean=row[5] or 0.0, std=row[6] or 0.0, rescued=row[7],
        )
        for row in rows
    ]  # fmt: skip


def stored_rollouts(
    connection: Connection, where: str, arguments: Sequence[object], has_tokens: bool = False
) -> list[StoredRollout]:
    """The rollouts that `where` selects, in its order, with parts and marks; token data only when asked for."""
    rows = connection.execute(f"{ROLLOUT_COLUMNS} {where}", arguments).fetchall()
    ids = [row[0] for row in rows]
    parts, marks, finds = _parts(connection, ids), marks_of(connection, ids), _finds(connection, ids)
    cold = read_frames(connection, {row[21] for row in rows if row[21] is not None})
    tokens = _tokens(connection, ids, cold) if has_tokens else {}
    found = []
    for row in rows:
        text = row[9] if row[21] is None else cold[row[0]].text
        rollout = Rollout(
            index=row[8], text=text, length_tokens=row[10], finish=Finish(row[11]), reward=row[12], advantage=row[13],
            parts=parts[row[0]], is_correct=None if row[14] is None else bool(row[14]), answer=row[15],
            answer_start=row[16], marks=marks[row[0]], error=row[17], finds=finds[row[0]],
        )  # fmt: skip
        if row[0] in tokens:
            rollout = replace(rollout, **tokens[row[0]])
        found.append(
            StoredRollout(
                id=row[0], run=row[1], step=row[2], group_id=row[3], group=row[4], prompt=row[5], reference=row[6],
                policy_version=row[7], rollout=rollout,
                is_starred=bool(row[18]), is_flagged=bool(row[19]), note=row[20],
            )
        )  # fmt: skip
    return found


def rollouts_of(connection: Connection, ids: Sequence[int]) -> list[StoredRollout]:
    """The rollouts of these ids, in their order, without token data."""
    found = stored_rollouts(connection, f"WHERE rollouts.id IN {places(ids)}", ids)
    by_id = {stored.id: stored for stored in found}
    return [by_id[number] for number in ids]


def _parts(connection: Connection, ids: Sequence[int]) -> dict[int, dict[str, float]]:
    parts: defaultdict[int, dict[str, float]] = defaultdict(dict)
    for rollout_id, name, value in connection.execute(
        f"SELECT rollout_id, name, value FROM reward_parts WHERE rollout_id IN {places(ids)}", ids
    ):
        parts[rollout_id][name] = value
    return parts


def _finds(connection: Connection, ids: Sequence[int]) -> dict[int, list[Find]]:
    finds: defaultdict[int, list[Find]] = defaultdict(list)
    for rollout_id, *found in connection.execute(
        f"""SELECT rollout_id, start_char, end_char, move, position, imitated, now, token FROM finds
            WHERE rollout_id IN {places(ids)} ORDER BY rollout_id, idx""",
        ids,
    ):
        finds[rollout_id].append(Find(*found))
    return finds


def _tokens(connection: Connection, ids: Sequence[int], cold: Mapping[int, Cold]) -> dict[int, dict[str, object]]:
    """What is known of each token, by the names of a rollout's fields; what was not recorded is empty."""
    found: dict[int, TokenRow] = {
        number: answer.tokens for number in ids if (answer := cold.get(number)) and answer.tokens is not None
    }
    for rollout_id, *row in connection.execute(
        f"SELECT rollout_id, {', '.join(TOKEN_COLUMNS)} FROM rollout_tokens WHERE rollout_id IN {places(ids)}", ids
    ):
        found[rollout_id] = tuple(row)
    return {rollout_id: _token_fields(row) for rollout_id, row in found.items()}


def _token_fields(row: TokenRow) -> dict[str, object]:
    codec, token_ids, logps, entropies, widths, foretold, alternatives, alternative_logps, own = row
    return {
        "token_ids": unpack_ids(codec, token_ids),
        "logps": logps,
        "entropies": entropies,
        "widths": widths or b"",
        "values": foretold or b"",
        "alternatives": msgspec.json.decode(alternatives, type=list[str]) if alternatives else [],
        "alternative_logps": alternative_logps or b"",
        "own": own or b"",
    }


def knob_changes(connection: Connection, run_id: int) -> list[KnobChange]:
    """What people did to a run's knobs, newest first."""
    changes = []
    for command, name, old, new, by, requested_us, state, step, message in connection.execute(
        """SELECT command, name, old, value, submitted_by, requested_us, state, step, message FROM commands
           WHERE run_id = ? AND verb = 'set' ORDER BY id DESC""",
        (run_id,),
    ):
        applied_step = step if state == CommandState.APPLIED else None
        changes.append(
            KnobChange(
                command, name, from_json(old), _value(new), by, requested_us, CommandState(state), applied_step, message
            )
        )
    return changes


def knob_rows(connection: Connection, run_id: int, changes: Sequence[KnobChange]) -> list[KnobRow]:
    """A run's knobs in the order of their declaration, those that no longer exist last."""
    pending = {change.name: change for change in reversed(changes) if change.state is CommandState.ACCEPTED}
    order = {name: place for place, name in enumerate(DECLARATIONS)}
    found = []
    for name, value in connection.execute("SELECT name, value FROM knobs WHERE run_id = ?", (run_id,)):
        change = pending.get(name)
        found.append(KnobRow(name, _value(value), change.new if change else None, change.command if change else ""))
    return sorted(found, key=lambda knob: order.get(knob.name, len(order)))


def _value(text: str) -> KnobValue:
    value = from_json(text)
    if value is None:
        raise AssertionError("a knob and a `set` always have a value")
    return value
