"""Where answers turn back: marks as rows, and what a run's turns come to.

Deliberately left out: the answers themselves (`store.rows`), and counts by outcome, which `tallies` has.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from ponder.events import GroupLearnt, Mark, MarkerKind, Outcome

if TYPE_CHECKING:
    from sqlite3 import Connection

Row = tuple[object, ...]

FIELDS = {
    "start": "start_char",
    "end": "end_char",
    "word": "word",
    "outcome": "outcome",
    "before": "candidate_before",
    "after": "candidate_after",
    "token": "token",
    "entropy": "entropy",
    "tier": "tier",
    "kind": "kind",
    "surprise": "surprise",
    "entropy_z": "entropy_z",
    "surprise_z": "surprise_z",
    "entropy_before": "entropy_before",
    "entropy_after": "entropy_after",
    "is_fork": "is_fork",
    "is_copy": "is_copy",
    "is_loop": "is_loop",
    "lift": "lift",
}
"""Of a mark, and the column that each is kept in."""
FLAGS = ("is_fork", "is_copy", "is_loop")
INSERT = f"""
    INSERT INTO marks (rollout_id, idx, {", ".join(FIELDS.values())})
    VALUES (?, ?, {", ".join("?" * len(FIELDS))})"""
LEAST_PROMPTS = 2
"""A turn that rescued answers to so many prompts of a step has occurred; one may be luck."""


def mark_row(rollout_id: int, place: int, mark: Mark) -> Row:
    """The values of INSERT; a number that is not finite is 0, and a lift none."""
    values = {name: _stored(getattr(mark, name)) for name in FIELDS}
    is_known = mark.lift is not None and math.isfinite(mark.lift)
    return (rollout_id, place, *(values | {"lift": mark.lift if is_known else None}).values())


def _stored(value: object) -> object:
    return 0.0 if isinstance(value, float) and not math.isfinite(value) else value


def marks_of(connection: Connection, ids: Sequence[int]) -> dict[int, list[Mark]]:
    """The marks of these rollouts, in the order of their texts."""
    found: defaultdict[int, list[Mark]] = defaultdict(list)
    for rollout_id, *values in connection.execute(
        f"""SELECT rollout_id, {", ".join(FIELDS.values())} FROM marks
            WHERE rollout_id IN ({", ".join("?" * len(ids))}) ORDER BY rollout_id, idx""",
        ids,
    ):
        known = dict(zip(FIELDS, values, strict=True))
        flags = {name: bool(known[name]) for name in FLAGS}
        kind = MarkerKind(known["kind"]) if known["kind"] else None
        found[rollout_id].append(Mark(**known | flags | {"kind": kind, "outcome": Outcome(known["outcome"])}))
    return found


def store_lifts(connection: Connection, run_id: int, event: GroupLearnt) -> None:
    """What the reference said of each mark of a group, and which answers earn the badge by it."""
    for answer in event.answers:
        if not answer.lifts:
            continue
        found = connection.execute(
            """SELECT rollouts.id FROM groups JOIN rollouts ON rollouts.group_id = groups.id
               WHERE groups.run_id = ? AND groups.step = ? AND groups.idx = ? AND rollouts.idx = ?""",
            (run_id, event.step, event.group, answer.index),
        ).fetchone()
        if found is None:
            continue
        (rollout_id,) = found
        marks = [
            replace(mark, lift=lift)
            for mark, lift in zip(marks_of(connection, [rollout_id])[rollout_id], answer.lifts, strict=False)
        ]
        connection.executemany(
            "UPDATE marks SET lift = ? WHERE rollout_id = ? AND idx = ?",
            [(mark.lift, rollout_id, place) for place, mark in enumerate(marks)],
        )
        if any(mark.is_aha for mark in marks):
            connection.execute("UPDATE rollouts SET is_aha = 1 WHERE id = ?", (rollout_id,))


def count_badges(connection: Connection, run_id: int) -> int:
    """Answers with a badge."""
    (count,) = connection.execute(
        "SELECT count(*) FROM rollouts WHERE run_id = ? AND is_aha = 1 AND is_superseded = 0", (run_id,)
    ).fetchone()
    return int(count)


def first_occurrence(connection: Connection, run_id: int) -> int | None:
    """The first step in which turns rescued answers to LEAST_PROMPTS prompts."""
    found = connection.execute(
        """SELECT step FROM groups WHERE run_id = ? AND is_superseded = 0 AND rescued > 0 AND purpose = ''
           GROUP BY step HAVING count(DISTINCT prompt_id) >= ? ORDER BY step LIMIT 1""",
        (run_id, LEAST_PROMPTS),
    ).fetchone()
    return None if found is None else int(found[0])


def rescued_first(connection: Connection, run_id: int, limit: int) -> list[int]:
    """Answers that turn back: rescued ones and harmed ones, as many of each where there are, then the others; each
    newest first, with a badge before those without."""
    by_outcome = {
        outcome: [
            number
            for (number,) in connection.execute(
                """SELECT id FROM rollouts WHERE run_id = ? AND outcome = ? AND is_superseded = 0
                   ORDER BY is_aha DESC, id DESC LIMIT ?""",
                (run_id, outcome, limit),
            )
        ]
        for outcome in Outcome
    }
    if limit < 0:
        return [number for some in by_outcome.values() for number in some]
    rescued, harmed = by_outcome.pop(Outcome.RESCUED), by_outcome.pop(Outcome.HARMED)
    shown_harmed = harmed[: max(limit // 2, limit - len(rescued))]
    shown = [*rescued[: limit - len(shown_harmed)], *shown_harmed]
    rest = [number for some in by_outcome.values() for number in some]
    return [*shown, *rest[: limit - len(shown)]]
