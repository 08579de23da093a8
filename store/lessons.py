"""What learning made of a group: the facts behind Explain, each read from where it was stored.

What an answer was to the update stands in `events` alone. It is found by bisection: the events of a run's trainer are
in the order of attempt and step. Deliberately left out: the knobs of then (`daemon.desk`), and the arithmetic
(`ponder.explain`).
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

import msgspec

from ponder import wire
from ponder.errors import NotFound
from ponder.events import GroupLearnt, Rollout
from store import rows

if TYPE_CHECKING:
    from sqlite3 import Connection


def explanation(connection: Connection, group_id: int) -> wire.Explanation:
    """All that is stored of the group; NotFound when there is none."""
    found = connection.execute(
        """SELECT groups.run_id, runs.name, attempt, groups.step, idx, policy_version, is_superseded
           FROM groups JOIN runs ON runs.id = groups.run_id WHERE groups.id = ?""",
        (group_id,),
    ).fetchone()
    if found is None:
        raise NotFound(f"there is no group {group_id}", "`ponder group` lists the newest")
    run_id, run, attempt, step, place, version, is_superseded = found
    stored = rows.stored_rollouts(
        connection, "WHERE rollouts.group_id = ? AND rollouts.is_superseded = ? ORDER BY rollouts.idx",
        (group_id, is_superseded), has_tokens=True,
    )  # fmt: skip
    after = connection.execute(
        "SELECT policy_version FROM steps WHERE run_id = ? AND step = ?", (run_id, step)
    ).fetchone()
    return wire.Explanation(
        run=run,
        row=rows.group_rows(connection, "WHERE groups.id = ?", (group_id,))[0],
        policy_version=version,
        answers=[_answer(one.rollout) for one in stored],
        batch_rewards=_batch_rewards(connection, run_id, step, is_superseded),
        learnt=_learnt(connection, run_id, (attempt, step), place),
        figures=_figures(connection, run_id, step),
        version_after=None if after is None else after[0],
    )


def _answer(rollout: Rollout) -> wire.ExplainedAnswer:
    logps = struct.unpack(f"<{len(rollout.logps) // 2}e", rollout.logps)
    is_known = len(logps) == rollout.length_tokens and all(map(math.isfinite, logps))
    return wire.ExplainedAnswer(
        rollout.index, rollout.length_tokens, rollout.finish, rollout.reward, rollout.parts, rollout.advantage,
        math.fsum(logps) if is_known else None,
    )  # fmt: skip


def _batch_rewards(connection: Connection, run_id: int, step: int, is_superseded: int) -> list[float]:
    found = connection.execute(
        """SELECT reward FROM groups JOIN rollouts ON rollouts.group_id = groups.id
           WHERE groups.run_id = ? AND groups.step = ? AND groups.is_superseded = ?
                 AND rollouts.is_superseded = groups.is_superseded AND reward IS NOT NULL
           ORDER BY groups.idx, rollouts.idx""",
        (run_id, step, is_superseded),
    )
    return [reward for (reward,) in found]


def _figures(connection: Connection, run_id: int, step: int) -> dict[str, float]:
    """What the step's end told, as it stands in `metrics`."""
    query = "SELECT value FROM metrics WHERE run_id = ? AND name = ? AND step = ? AND value IS NOT NULL"
    names = rows.own_metric_names(connection, run_id)
    found = {name: connection.execute(query, (run_id, name, step)).fetchone() for name in names}
    return {name: row[0] for name, row in found.items() if row is not None}


def _learnt(connection: Connection, run_id: int, when: tuple[int, int], place: int) -> GroupLearnt | None:
    """What the attempt told in this step of having learnt from the group at this place."""
    (last,) = connection.execute(
        "SELECT coalesce(max(seq), 0) FROM events WHERE run_id = ? AND seq IS NOT NULL", (run_id,)
    ).fetchone()

    def when_was(seq: int) -> tuple[int, int]:
        """Attempt and step of the first event from there on: a store that was made again may have holes."""
        found: tuple[int, int] = connection.execute(
            "SELECT attempt, step FROM events WHERE run_id = ? AND seq >= ? ORDER BY seq LIMIT 1", (run_id, seq)
        ).fetchone()
        return found

    seqs = range(1, last + 1)
    first, end = bisect_left(seqs, when, key=when_was), bisect_right(seqs, when, key=when_was)
    for (body,) in connection.execute(
        "SELECT body FROM events WHERE run_id = ? AND seq BETWEEN ? AND ? AND kind = ?",
        (run_id, first + 1, end, str(GroupLearnt.__struct_config__.tag)),
    ):
        learnt = msgspec.json.decode(body, type=GroupLearnt)
        if learnt.group == place:
            return learnt
    return None
