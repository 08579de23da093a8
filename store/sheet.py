"""Groups of answers into their tables: rows are collected over a transaction and written with one statement a table.

A group that was told before (a step that is done again) is written over at once, by its natural key; its rows keep
their ids. New rows get the ids that AUTOINCREMENT would give, so that what belongs to a rollout can be written in the
same sheet. Whoever reads these tables in the same transaction flushes first. Deliberately left out: other events
(`store.derived`), and the transaction itself (`store.writer`).
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from ponder.events import GroupScored, GroupStored, Outcome, Record, Rollout
from store import turns
from store.cold import warm

if TYPE_CHECKING:
    from sqlite3 import Connection

Row = tuple[object, ...]

ZLIB_FROM_BYTES = 2048
"""Fewer bytes of token ids shrink too little for what a compressor's start costs (50 us)."""

_INSERTS = {
    "groups": """
        INSERT INTO groups (id, run_id, step, idx, attempt, policy_version, prompt_id, size, reward_mean, reward_std,
                            rescued, created_us, purpose, reward_model)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
    "rollouts": """
        INSERT INTO rollouts (id, group_id, idx, run_id, text, length_tokens, finish, reward, advantage, is_correct,
                              answer, answer_start, outcome, error, unsure, is_aha)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
    "reward_parts": "INSERT INTO reward_parts (rollout_id, name, value) VALUES (?, ?, ?)",
    "marks": turns.INSERT,
    "finds": """
        INSERT INTO finds (rollout_id, idx, start_char, end_char, move, position, imitated, now, token)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
    "rollout_tokens": """
        INSERT INTO rollout_tokens (rollout_id, codec, token_ids, logps, entropies, widths, foretold, alternatives,
                                    alternative_logps, own)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
}
"""In an order in which every row finds what it refers to."""

_COUNT = """
    INSERT INTO tallies (run_id, outcome, is_paid, answers, length_tokens) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET answers = answers + excluded.answers,
                              length_tokens = length_tokens + excluded.length_tokens"""


class Sheet:
    """The rows of one transaction's groups."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: dict[str, list[Row]] = {table: [] for table in _INSERTS}
        self._known: set[Row] = set()
        self._prompts: dict[bytes, int] = {}
        self._tallies: Counter[tuple[int, str, bool]] = Counter()
        self._lengths: Counter[tuple[int, str, bool]] = Counter()
        given = dict(connection.execute("SELECT name, seq FROM sqlite_sequence WHERE name IN ('groups', 'rollouts')"))
        self._last_group, self._last_rollout = given.get("groups", 0), given.get("rollouts", 0)

    def add(self, run_id: int, record: Record, event: GroupScored) -> GroupStored:
        """Take a group; returns what followers get of it."""
        rewards = [finite(rollout.reward) for rollout in event.rollouts]
        rescued = sum(rollout.outcome is Outcome.RESCUED for rollout in event.rollouts)
        scored = [reward for reward in rewards if reward is not None]
        values = (
            record.attempt, event.policy_version, self._prompt(event), len(rewards), *_mean_and_std(scored), rescued,
            record.time_us, event.purpose, event.reward_model,
        )  # fmt: skip
        key = (run_id, event.step, event.group)
        if key in self._known:
            self.flush()
        found = self._connection.execute(
            "SELECT id FROM groups WHERE run_id = ? AND step = ? AND idx = ?", key
        ).fetchone()
        if found is None:
            self._known.add(key)
            self._last_group += 1
            group_id, members = self._last_group, {}
            self._rows["groups"].append((group_id, *key, *values))
        else:
            (group_id,) = found
            members = self._write_over(group_id, values)
        for rollout in event.rollouts:
            self._add_rollout(run_id, group_id, rollout, members.get(rollout.index))
        return GroupStored(event.step, event.group, group_id, event.prompt, rewards, rescued, event.purpose)

    def flush(self) -> None:
        """Write what was collected."""
        for table, rows in self._rows.items():
            if rows:
                self._connection.executemany(_INSERTS[table], rows)
                rows.clear()
        self._connection.executemany(
            _COUNT, [(*kind, answers, self._lengths[kind]) for kind, answers in self._tallies.items()]
        )
        self._tallies.clear()
        self._lengths.clear()
        self._known.clear()

    # ---- inside

    def _write_over(self, group_id: int, values: Row) -> dict[int, int]:
        """Let a group be what it is now; returns the ids of the members that it had, by place."""
        uncount(self._connection, "group_id = ?", (group_id,))
        warm(self._connection, "group_id = ?", (group_id,))
        self._connection.execute(
            """UPDATE groups SET attempt = ?, policy_version = ?, prompt_id = ?, size = ?, reward_mean = ?,
                                 reward_std = ?, rescued = ?, created_us = ?, purpose = ?, reward_model = ?,
                                 is_superseded = 0
               WHERE id = ?""",
            (*values, group_id),
        )
        return dict(self._connection.execute("SELECT idx, id FROM rollouts WHERE group_id = ?", (group_id,)).fetchall())

    def _prompt(self, event: GroupScored) -> int:
        parts = [part.encode() for part in (event.prompt_id, event.prompt, event.reference)]
        digest = hashlib.blake2b(
            b"".join(len(part).to_bytes(8, "little") + part for part in parts), digest_size=16
        ).digest()
        known = self._prompts.get(digest)
        if known is not None:
            return known
        found = self._connection.execute("SELECT id FROM prompts WHERE digest = ?", (digest,)).fetchone()
        if found is None:
            found = self._connection.execute(
                "INSERT INTO prompts (digest, key, text, reference) VALUES (?, ?, ?, ?) RETURNING id",
                (digest, event.prompt_id, event.prompt, event.reference),
            ).fetchone()
        self._prompts[digest] = int(found[0])
        return self._prompts[digest]

    def _add_rollout(self, run_id: int, group_id: int, rollout: Rollout, known: int | None) -> None:
        """Take a rollout, or write over the `known` one that an earlier attempt made."""
        rows, outcome, advantage = self._rows, rollout.outcome, finite(rollout.advantage) or 0.0
        unsure = max((finite(mark.entropy) or 0.0 for mark in rollout.marks if mark.outcome is outcome), default=None)
        values = (
            rollout.text, rollout.length_tokens, rollout.finish, finite(rollout.reward), advantage, rollout.is_correct,
            rollout.answer, rollout.answer_start, outcome, rollout.error, unsure, rollout.is_aha,
        )  # fmt: skip
        kind = (run_id, outcome or "", advantage > 0)
        self._tallies[kind] += 1
        self._lengths[kind] += rollout.length_tokens
        if known is None:
            self._last_rollout = rollout_id = self._last_rollout + 1
            rows["rollouts"].append((rollout_id, group_id, rollout.index, run_id, *values))
        else:
            rollout_id = known
            self._connection.execute(
                """UPDATE rollouts SET text = ?, length_tokens = ?, finish = ?, reward = ?, advantage = ?,
                                       is_correct = ?, answer = ?, answer_start = ?, outcome = ?, error = ?,
                                       unsure = ?, is_aha = ?, is_superseded = 0
                   WHERE id = ?""",
                (*values, rollout_id),
            )
            for table in ("reward_parts", "marks", "finds", "rollout_tokens"):
                self._connection.execute(f"DELETE FROM {table} WHERE rollout_id = ?", (rollout_id,))
        rows["reward_parts"] += [
            (rollout_id, name, value) for name, value in rollout.parts.items() if math.isfinite(value)
        ]
        rows["marks"] += [turns.mark_row(rollout_id, place, mark) for place, mark in enumerate(rollout.marks)]
        rows["finds"] += [
            (
                rollout_id, place, find.start, find.end, find.move, find.position, finite(find.imitated) or 0.0,
                finite(find.now) or 0.0, find.token,
            )
            for place, find in enumerate(rollout.finds)
        ]  # fmt: skip
        if rollout.token_ids or rollout.logps or rollout.entropies:
            rows["rollout_tokens"].append(
                (
                    rollout_id, *pack_ids(rollout.token_ids), rollout.logps, rollout.entropies, rollout.widths or None,
                    rollout.values or None, _json(rollout.alternatives), rollout.alternative_logps or None,
                    rollout.own or None,
                )
            )  # fmt: skip


def uncount(connection: Connection, which: str, arguments: Row) -> None:
    """Take answers out of the tallies, before they are superseded or written over; `which` is over `rollouts`."""
    kinds = connection.execute(
        f"""SELECT run_id, coalesce(outcome, ''), advantage > 0, -count(*), -sum(length_tokens) FROM rollouts
            WHERE {which} AND is_superseded = 0 GROUP BY 1, 2, 3""",
        arguments,
    ).fetchall()
    connection.executemany(_COUNT, kinds)


def finite(value: float | None) -> float | None:
    """The value if it is a finite number, else None."""
    return value if value is not None and math.isfinite(value) else None


def _json(texts: list[str]) -> str | None:
    return msgspec.json.encode(texts).decode() if texts else None


def _mean_and_std(values: list[float]) -> tuple[float | None, float | None]:
    """Mean and standard deviation (ddof 0); None when there is nothing to average."""
    if not values:
        return None, None
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def pack_ids(ids: bytes) -> tuple[str, bytes]:
    """(codec, bytes): so many bytes an id as the largest needs, compressed where there are many.

    Log-probs and entropies hardly shrink and stay as they are.

    >>> pack_ids(bytes([7, 0, 0, 0, 1, 2, 0, 0]))
    ('u16', b'\\x07\\x00\\x01\\x02')
    >>> unpack_ids(*pack_ids(bytes([7, 0, 0, 0, 1, 2, 0, 0])))
    b'\\x07\\x00\\x00\\x00\\x01\\x02\\x00\\x00'
    """
    if len(ids) % 4:
        return "raw", ids  # no ids, whatever it is
    planes = [ids[place::4] for place in range(4)]
    width = 4
    while width > 1 and not planes[width - 1].strip(b"\0"):
        width -= 1
    packed = bytearray(len(ids) // 4 * width)
    for place in range(width):
        packed[place::width] = planes[place]
    codec, data = f"u{8 * width}", bytes(packed)
    if len(data) >= ZLIB_FROM_BYTES:
        smaller = zlib.compress(data, 1)
        if len(smaller) < len(data):
            return f"{codec}+zlib", smaller
    return codec, data


def unpack_ids(codec: str, data: bytes) -> bytes:
    """What `pack_ids` was given. `raw` and `zlib` are the codecs of the first stores."""
    if codec in ("raw", "zlib"):
        return zlib.decompress(data) if codec == "zlib" else data
    name, _, compressor = codec.partition("+")
    width = int(name.removeprefix("u")) // 8
    packed = zlib.decompress(data) if compressor else data
    ids = bytearray(len(packed) // width * 4)
    for place in range(width):
        ids[place::4] = packed[place::width]
    return bytes(ids)
