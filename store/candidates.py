"""Answers that a person might be asked to rank next, and who was asked about them before.

Only the newest groups of a run are looked at, so that a question costs the same in a store of a million answers; an
older group leaves the queue when a newer one comes. Texts are read last, for the group that was chosen. Deliberately
left out: choosing (`daemon.rank_desk`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ponder.events import Finish
from ponder.ranking import Stream
from ponder.wire import RankingAnswer
from store.cold import TEXT
from store.rows import places

if TYPE_CHECKING:
    from sqlite3 import Connection

QUEUE_GROUPS = 64
"""So many of the newest groups wait, and so many audits."""
AUDIT_STEPS = 20
"""Older audits than of so many steps, or than `rlhf.lag`, are not asked for any more."""
REPEATABLE = 200
"""So many of an annotator's newest rankings may come again."""


@dataclass(frozen=True)
class Member:
    """An answer of a group."""

    rollout_id: int
    length_tokens: int
    is_correct: bool | None


@dataclass(frozen=True)
class Candidate:
    """A group that might be ranked."""

    group_id: int
    prompt_id: int
    step: int
    members: tuple[Member, ...]


@dataclass(frozen=True)
class AuditPair:
    """An answer of a step, and the one to the same prompt some steps before."""

    group_id: int
    """The newer one's."""
    prompt_id: int
    step: int
    newer: int
    older: int


@dataclass(frozen=True)
class Asked:
    """What an annotator was asked before, and answered."""

    ranking_id: int
    annotator: str
    stream: Stream
    answers: frozenset[int]


def newest_groups(connection: Connection, run_id: int) -> list[Candidate]:
    """The queue: the newest groups that the policy learns from, oldest first."""
    groups = connection.execute(
        """SELECT id, prompt_id, step FROM groups WHERE run_id = ? AND purpose = '' AND is_superseded = 0
           ORDER BY id DESC LIMIT ?""",
        (run_id, QUEUE_GROUPS),
    ).fetchall()[::-1]
    members: defaultdict[int, list[Member]] = defaultdict(list)
    for group_id, rollout_id, length, is_correct in connection.execute(
        f"""SELECT group_id, id, length_tokens, is_correct FROM rollouts
            WHERE group_id IN {places(groups)} AND is_superseded = 0 ORDER BY group_id, idx""",
        [number for number, _, _ in groups],
    ):
        members[group_id].append(Member(rollout_id, length, None if is_correct is None else bool(is_correct)))
    return [Candidate(number, prompt_id, step, tuple(members[number])) for number, prompt_id, step in groups]


def newest_audits(connection: Connection, run_id: int, step: int, lag: int) -> list[AuditPair]:
    """Audits of the newest steps whose older answer is there and says something else, newest first."""
    found = connection.execute(
        f"""SELECT newer.id, newer.prompt_id, newer.step, answers.id, before.id
           FROM groups AS newer
           CROSS JOIN groups AS older ON older.run_id = newer.run_id AND older.step = newer.step - ?
                AND older.prompt_id = newer.prompt_id AND older.purpose = 'audit' AND older.is_superseded = 0
           CROSS JOIN rollouts AS answers ON answers.group_id = newer.id AND answers.idx = 0
           CROSS JOIN rollouts AS before ON before.group_id = older.id AND before.idx = 0
           WHERE newer.run_id = ? AND newer.step > ? AND newer.purpose = 'audit' AND newer.is_superseded = 0
                 AND {TEXT.format("answers")} <> {TEXT.format("before")}
           ORDER BY newer.step DESC, newer.id LIMIT ?""",
        (lag, run_id, step - max(lag, AUDIT_STEPS), QUEUE_GROUPS),
    )
    return [AuditPair(*row) for row in found]


def asked_about(connection: Connection, rollout_ids: Sequence[int], *, scored: bool = False) -> list[Asked]:
    """Every ranking that stands and shows one of these answers; or every one that came of scores."""
    return _asked(
        connection,
        f"""rankings.id IN (SELECT ranking_id FROM ranked_answers WHERE rollout_id IN {places(rollout_ids)})
            AND undone_us IS NULL AND {_came_of(scored=scored)}""",
        rollout_ids,
    )


def asked_of(connection: Connection, run_id: int, annotator: str, *, scored: bool = False) -> list[Asked]:
    """The newest rankings of an annotator that stand and put answers in order, oldest first; or the newest scores."""
    return _asked(
        connection,
        f"""rankings.id IN (SELECT id FROM rankings WHERE run_id = ? AND annotator = ? AND undone_us IS NULL
                                   AND verdict = 'ranked' AND {_came_of(scored=scored)} ORDER BY id DESC LIMIT ?)""",
        (run_id, annotator, REPEATABLE),
    )


def count_kept(connection: Connection, run_id: int, annotator: str, *, scored: bool = False) -> tuple[int, int]:
    """(rankings, or scores of groups, that an annotator ever gave to a run, of those the ones that stand)."""
    kept, undone = connection.execute(
        f"""SELECT count(*), count(undone_us) FROM rankings
            WHERE run_id = ? AND annotator = ? AND {_came_of(scored=scored)}""",
        (run_id, annotator),
    ).fetchone()
    return kept, kept - undone


def _came_of(*, scored: bool) -> str:
    """Which of the two ways of judging."""
    return f"rankings.scores IS {'NOT ' if scored else ''}NULL"


def part_values(connection: Connection, rollout_ids: Sequence[int], name: str) -> dict[int, float]:
    """The reward part of each of these answers that has it."""
    found = connection.execute(
        f"SELECT rollout_id, value FROM reward_parts WHERE name = ? AND rollout_id IN {places(rollout_ids)}",
        (name, *rollout_ids),
    )
    return dict(found.fetchall())


def texts_of(connection: Connection, rollout_ids: Iterable[int]) -> dict[int, RankingAnswer]:
    """These answers as they are shown."""
    ids = list(rollout_ids)
    text = TEXT.format("rollouts")
    found = connection.execute(f"SELECT id, {text}, finish FROM rollouts WHERE id IN {places(ids)}", ids)
    return {number: RankingAnswer(number, text, finish == Finish.TRUNCATED) for number, text, finish in found}


def prompt_of(connection: Connection, rollout_id: int) -> int:
    """The prompt that this answer is to."""
    (prompt_id,) = connection.execute(
        "SELECT prompt_id FROM groups WHERE id = (SELECT group_id FROM rollouts WHERE id = ?)", (rollout_id,)
    ).fetchone()
    return int(prompt_id)


def prompt_text(connection: Connection, prompt_id: int) -> str:
    (text,) = connection.execute("SELECT text FROM prompts WHERE id = ?", (prompt_id,)).fetchone()
    return str(text)


def _asked(connection: Connection, which: str, arguments: Sequence[object]) -> list[Asked]:
    answers: defaultdict[tuple[int, str, str], set[int]] = defaultdict(set)
    for ranking_id, annotator, stream, rollout_id in connection.execute(
        f"""SELECT rankings.id, annotator, stream, rollout_id
            FROM rankings JOIN ranked_answers ON ranked_answers.ranking_id = rankings.id
            WHERE {which} ORDER BY rankings.id""",
        arguments,
    ):
        answers[ranking_id, annotator, stream].add(rollout_id)
    return [Asked(number, who, Stream(stream), frozenset(ids)) for (number, who, stream), ids in answers.items()]
