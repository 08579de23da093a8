"""Rankings of other programs into the store: no rollout stands behind their answers, and statistics pass them over.

Deliberately left out: reading files (`ponder.preference_formats`), and telling them to whoever learns
(`store.rankings`).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ponder.errors import Refused
from ponder.events import RankingKept
from ponder.ranking import Stream, checked_ranks
from ponder.wire import IMPORTED, ImportedAnswer, ImportedRanking, RankedAnswer, RankingRow

if TYPE_CHECKING:
    from sqlite3 import Connection

_ANSWERS = """
    SELECT ranking_id, place, rank, is_flagged, is_truncated, text FROM imported_answers
    WHERE ranking_id BETWEEN ? AND ? ORDER BY ranking_id, place
"""


def keep_imported(
    connection: Connection, run_id: int, said: ImportedRanking, by: str, now_us: int, step: int | None = None
) -> tuple[RankingKept, bool]:
    """Once, whatever is asked again; Refused where it is no imported one, or its id is another's.

    It is of the run's newest step, or of that `step`.
    """
    if not said.annotator.startswith(IMPORTED):
        raise Refused("bad_request", f"`{said.annotator}` does not begin with `{IMPORTED}`", "name it so")
    ranks = checked_ranks([answer.rank for answer in said.answers], said.verdict, len(said.answers))
    known = connection.execute(
        "SELECT run_id, stream, step FROM rankings WHERE ranking = ?", (said.ranking,)
    ).fetchone()
    if known is not None:
        if known[:2] != (run_id, Stream.IMPORTED):
            raise Refused("conflict", f"the ranking `{said.ranking}` already says something else", "ask with a new id")
        return _event(said, known[2]), False
    if step is None:
        (step,) = connection.execute("SELECT step FROM runs WHERE id = ?", (run_id,)).fetchone()
    (ranking_id,) = connection.execute(
        """INSERT INTO rankings (ranking, run_id, prompt_id, annotator, stream, verdict, step, reward_model, agreed,
                                 pairs, seconds, guidelines_version, reasons, note, submitted_by, kept_us)
           VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0.0, 0, '[]', '', ?, ?) RETURNING id""",
        (
            said.ranking, run_id, _prompt(connection, said.prompt), said.annotator, Stream.IMPORTED, said.verdict, step,
            by, now_us,
        ),
    ).fetchone()  # fmt: skip
    connection.executemany(
        """INSERT INTO imported_answers (ranking_id, place, rank, is_flagged, is_truncated, text)
           VALUES (?, ?, ?, ?, ?, ?)""",
        [
            (ranking_id, place, rank, answer.is_flagged, answer.is_truncated, answer.text)
            for place, (answer, rank) in enumerate(zip(said.answers, ranks, strict=True))
        ],
    )
    return _event(said, step), True


def answers_between(connection: Connection, first_id: int, last_id: int) -> dict[int, list[RankedAnswer]]:
    """The answers of imported rankings with ids from the first to the last, by ranking."""
    found: dict[int, list[RankedAnswer]] = {}
    for ranking_id, place, rank, is_flagged, is_truncated, text in connection.execute(_ANSWERS, (first_id, last_id)):
        answer = RankedAnswer(
            rollout_id=0, step=0, group=0, index=place, text=text, rank=rank, place=place, is_flagged=bool(is_flagged),
            length_tokens=0, policy_version=0, is_truncated=bool(is_truncated),
        )  # fmt: skip
        found.setdefault(ranking_id, []).append(answer)
    return found


def as_imported(row: RankingRow) -> ImportedRanking:
    """As it was asked for, from what is told of it."""
    answers = [
        ImportedAnswer(answer.text, answer.rank, answer.is_flagged, answer.is_truncated)
        for answer in sorted(row.answers, key=lambda answer: answer.place)
    ]
    return ImportedRanking(row.ranking, row.annotator, row.prompt, answers, row.verdict)


def _event(said: ImportedRanking, step: int) -> RankingKept:
    return RankingKept(said.ranking, step, said.annotator, Stream.IMPORTED, said.verdict, len(said.answers), 0.0)


def _prompt(connection: Connection, text: str) -> int:
    """The prompt's number; it is no problem of a task, and so has neither key nor reference."""
    digest = hashlib.blake2b(b"imported" + text.encode(), digest_size=16).digest()
    found = connection.execute("SELECT id FROM prompts WHERE digest = ?", (digest,)).fetchone()
    if found is None:
        found = connection.execute(
            "INSERT INTO prompts (digest, key, text, reference) VALUES (?, '', ?, '') RETURNING id", (digest, text)
        ).fetchone()
    return int(found[0])
