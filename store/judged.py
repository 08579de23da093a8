"""What people say of answers, alone and beside each other, and what is fitted to it, into their tables.

    annotate            star, flag and note of one answer
    keep_ranking        a ranking, once, whatever is asked again; refused when it does not fit what the store holds
                        (one of another program: `store.imported`)
    undo_ranking        a tombstone: the row stays, and nothing is learnt from it
    keep_reward_model   a version of the live reward model
    restore_ranking     what a lost store had, from its copy

All but the first return the event that tells of it, and whether it is new. Deliberately left out: the transaction
around it (`store.writer`), and questions (`store.rankings`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from ponder.errors import NotFound, Refused
from ponder.events import RankingKept, RankingUndone, RewardModelFitted
from ponder.ranking import Stream, Verdict, checked_ranks, count_agreement
from ponder.scoring import checked_scores
from ponder.wire import (
    SIGNED,
    ImportedRanking,
    RankAnswers,
    RankedAnswer,
    RankingRow,
    SaidRanking,
    TellRewardModel,
    UndoRanking,
)
from store.derived import to_json
from store.imported import as_imported, keep_imported
from store.rankings import JudgedAnswer, figures_of, scores_from, scores_of_one_version

if TYPE_CHECKING:
    from sqlite3 import Connection

SHOWN_AGAIN = "`ponder rank` shows answers that wait"


@dataclass(frozen=True)
class Shown:
    """An answer as the store knows it."""

    figures: JudgedAnswer
    run_id: int
    prompt_id: int
    text: str


def keep_ranking(
    connection: Connection, run_id: int, ranking: str, said: SaidRanking, by: str, now_us: int
) -> tuple[RankingKept, bool]:
    """Raises Refused or NotFound, with nothing written, when it does not fit what the store holds."""
    if isinstance(said, ImportedRanking):
        return keep_imported(connection, run_id, said, by, now_us)
    count = len(said.answers)
    if said.scores is not None:
        ranks = checked_scores(said.scores, said.ranks, said.verdict, count)
    else:
        ranks = checked_ranks(said.ranks, said.verdict, count)
    flags = _checked_flags(said)
    known = connection.execute(f"{_KEPT} WHERE ranking = ?", (ranking,)).fetchone()
    if known is not None:
        said_before = [*known[:3], scores_from(known[4]), _said_of(connection, known[3])]
        said_now = list(zip(said.answers, ranks, flags, strict=True))
        if said_before != [run_id, said.prompt_id, said.annotator, said.scores, said_now]:
            raise Refused("conflict", f"the ranking `{ranking}` already says something else", "ask with a new id")
        step, stream, verdict, *rest = known[5:]
        told = RankingKept(ranking, step, said.annotator, Stream(stream), Verdict(verdict), *rest)
        return replace(told, is_scored=said.scores is not None), False
    shown = _find_shown(connection, said.answers)
    _refuse_misfits(run_id, said, shown)
    (step,) = connection.execute("SELECT step FROM runs WHERE id = ?", (run_id,)).fetchone()
    said = replace(said, ranks=ranks, flags=flags)
    return _insert(connection, run_id, ranking, said, shown, [answer.text for answer in shown], step, by, now_us), True


def _insert(
    connection: Connection, run_id: int, ranking: str, said: RankAnswers, shown: Sequence[Shown],
    texts: Sequence[str], step: int, by: str, now_us: int,
) -> RankingKept:  # fmt: skip
    version, agreed, pairs = _compare(shown, said)
    (ranking_id,) = connection.execute(
        """INSERT INTO rankings (ranking, run_id, prompt_id, annotator, stream, verdict, step, reward_model, agreed,
                                 pairs, seconds, guidelines_version, reasons, note, submitted_by, kept_us, scores)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id""",
        (
            ranking, run_id, said.prompt_id, said.annotator, said.stream, said.verdict, step, version, agreed, pairs,
            said.seconds, said.guidelines_version, to_json(said.reasons), said.note, by, now_us,
            None if said.scores is None else to_json(said.scores),
        ),
    ).fetchone()  # fmt: skip
    connection.executemany(
        "INSERT INTO ranked_answers (ranking_id, place, rollout_id, rank, is_flagged, text) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (ranking_id, place, answer.figures.rollout_id, rank, flag, text)
            for place, (answer, rank, flag, text) in enumerate(zip(shown, said.ranks, said.flags, texts, strict=True))
        ],
    )
    return RankingKept(
        ranking, step, said.annotator, said.stream, said.verdict, len(shown), said.seconds, version, agreed, pairs,
        is_scored=said.scores is not None,
    )  # fmt: skip


def restore_ranking(connection: Connection, run_id: int, row: RankingRow) -> RankingKept | None:
    """A ranking that the store has lost, with its answers as the run made them again; None where they are not there."""
    if connection.execute("SELECT 1 FROM rankings WHERE ranking = ?", (row.ranking,)).fetchone():
        return None
    if row.stream is Stream.IMPORTED:
        return keep_imported(connection, run_id, as_imported(row), row.by, row.at_us, row.step)[0]
    found = [_find_again(connection, run_id, answer) for answer in row.answers]
    shown = [answer for answer in found if answer is not None]
    if len(shown) < len(found):
        return None
    ranks = [answer.rank for answer in row.answers]
    said = RankAnswers(
        "", shown[0].prompt_id, [answer.figures.rollout_id for answer in shown], ranks, row.verdict,
        [answer.is_flagged for answer in row.answers], row.reasons, row.note, row.seconds, row.stream, row.annotator,
        row.guidelines_version, scores=row.scores,
    )  # fmt: skip
    texts = [answer.text for answer in row.answers]
    return _insert(connection, run_id, row.ranking, said, shown, texts, row.step, row.by, row.at_us)


def _find_again(connection: Connection, run_id: int, answer: RankedAnswer) -> Shown | None:
    row = connection.execute(
        """SELECT rollouts.id FROM groups JOIN rollouts ON rollouts.group_id = groups.id
           WHERE groups.run_id = ? AND groups.step = ? AND groups.idx = ? AND rollouts.idx = ?""",
        (run_id, answer.step, answer.group, answer.index),
    ).fetchone()
    return None if row is None else _find_shown(connection, row)[0]


def annotate(
    connection: Connection, rollout_id: int, is_starred: bool | None, is_flagged: bool | None, note: str | None,
    by: str, now_us: int,
) -> str:  # fmt: skip
    """Say something of one answer, None leaves what was said before; its run's name."""
    found = connection.execute(
        "SELECT runs.name FROM rollouts JOIN runs ON runs.id = rollouts.run_id WHERE rollouts.id = ?",
        (rollout_id,),
    ).fetchone()
    if found is None:
        raise NotFound(f"there is no sample {rollout_id}", "`ponder samples` shows the newest")
    connection.execute(
        """INSERT INTO annotations (rollout_id, is_starred, is_flagged, note, changed_by, changed_us)
           VALUES (?1, coalesce(?2, 0), coalesce(?3, 0), coalesce(?4, ''), ?5, ?6)
           ON CONFLICT DO UPDATE SET is_starred = coalesce(?2, is_starred),
               is_flagged = coalesce(?3, is_flagged), note = coalesce(?4, note), changed_by = ?5,
               changed_us = ?6""",
        (rollout_id, is_starred, is_flagged, note, by, now_us),
    )
    return str(found[0])


def undo_ranking(
    connection: Connection, run_id: int, undo: str, asked: UndoRanking, by: str, now_us: int
) -> tuple[RankingUndone, bool]:
    """Raises NotFound when there is none to take back, Refused when it is another's or was taken back before."""
    again = connection.execute("SELECT ranking, annotator, run_id FROM rankings WHERE undo = ?", (undo,)).fetchone()
    if again is not None:
        if again[1:] != (asked.annotator, run_id) or asked.ranking not in ("", again[0]):
            raise Refused("conflict", f"`{undo}` already took another ranking back", "ask again with a new id")
        return _undone(connection, run_id, again[0], asked.annotator, by), False
    if asked.ranking:
        found = connection.execute(
            "SELECT id, ranking, annotator, submitted_by, undone_us FROM rankings WHERE ranking = ? AND run_id = ?",
            (asked.ranking, run_id),
        ).fetchone()
        missing = f"this run has no ranking `{asked.ranking}`"
    else:
        found = connection.execute(
            """SELECT id, ranking, annotator, submitted_by, undone_us FROM rankings
               WHERE run_id = ? AND annotator = ? AND undone_us IS NULL ORDER BY id DESC LIMIT 1""",
            (run_id, asked.annotator),
        ).fetchone()
        missing = f"`{asked.annotator}` has no ranking in this run that could be taken back"
    if found is None:
        raise NotFound(missing, "nothing was changed")
    ranking_id, ranking, annotator, submitted_by, undone_us = found
    if annotator != asked.annotator:
        raise Refused("conflict", f"the ranking `{ranking}` is `{annotator}`'s", f"only `{annotator}` takes it back")
    if by.startswith(SIGNED) and submitted_by != by:
        hint = "on the daemon's machine everybody's may be taken back"
        raise Refused("forbidden", f"the ranking `{ranking}` was given by `{submitted_by}`, not by this key", hint)
    if undone_us is not None:
        raise Refused("conflict", f"the ranking `{ranking}` is taken back already", "rank the answers again instead")
    connection.execute(
        "UPDATE rankings SET undo = ?, undone_us = ?, undone_by = ? WHERE id = ?", (undo, now_us, by, ranking_id)
    )
    return _undone(connection, run_id, ranking, annotator, by), True


def keep_reward_model(
    connection: Connection, run_id: int, told: TellRewardModel, by: str, now_us: int
) -> tuple[RewardModelFitted, bool]:
    """Raises Refused when the run has this version with other weights, or a newer one."""
    figures = {name: value for name, value in told.figures.items() if math.isfinite(value)}
    (step,) = connection.execute("SELECT step FROM runs WHERE id = ?", (run_id,)).fetchone()
    event = RewardModelFitted(told.version, step, told.sha256, told.labels, told.is_open, figures, by)
    known = connection.execute(
        "SELECT sha256 FROM reward_models WHERE run_id = ? AND version = ?", (run_id, told.version)
    ).fetchone()
    if known is not None:
        if known[0] != told.sha256:
            message = f"version {told.version} of the reward model has other weights"
            raise Refused("conflict", message, f"tell of version {newest_version(connection, run_id) + 1}")
        return event, False
    newest = newest_version(connection, run_id)
    if told.version < newest:
        raise Refused("conflict", f"version {newest} of the reward model is newer", f"tell of version {newest + 1}")
    connection.execute(
        """INSERT INTO reward_models (run_id, version, sha256, labels, is_open, figures, step, fitted_us)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
        (run_id, told.version, told.sha256, told.labels, told.is_open, to_json(figures), step, now_us),
    )
    return event, True


def newest_version(connection: Connection, run_id: int) -> int:
    """Of a run's reward model; 0 before the first."""
    (version,) = connection.execute(
        "SELECT coalesce(max(version), 0) FROM reward_models WHERE run_id = ?", (run_id,)
    ).fetchone()
    return int(version)


_KEPT = """
    SELECT run_id, prompt_id, annotator, id, scores, step, stream, verdict,
           (SELECT count(*) FROM ranked_answers WHERE ranking_id = rankings.id), seconds, reward_model, agreed, pairs
    FROM rankings
"""


def _said_of(connection: Connection, ranking_id: int) -> list[tuple[int, int | None, bool]]:
    return [
        (rollout_id, rank, bool(flag))
        for rollout_id, rank, flag in connection.execute(
            "SELECT rollout_id, rank, is_flagged FROM ranked_answers WHERE ranking_id = ? ORDER BY place", (ranking_id,)
        )
    ]


def _undone(connection: Connection, run_id: int, ranking: str, annotator: str, by: str) -> RankingUndone:
    (step,) = connection.execute("SELECT step FROM runs WHERE id = ?", (run_id,)).fetchone()
    return RankingUndone(ranking, step, annotator, by)


def _checked_flags(said: RankAnswers) -> list[bool]:
    if said.flags and len(said.flags) != len(said.answers):
        message = f"{len(said.answers)} answers have {len(said.answers)} flags or none, not {len(said.flags)}"
        raise Refused("bad_request", message, "leave `flags` empty, or say true or false of each answer")
    return list(said.flags) or [False] * len(said.answers)


def _find_shown(connection: Connection, rollout_ids: Sequence[int]) -> list[Shown]:
    shown = []
    for rollout_id in rollout_ids:
        found = figures_of(connection, rollout_id)
        if found is None:
            raise NotFound(f"there is no answer {rollout_id}", SHOWN_AGAIN)
        shown.append(Shown(*found))
    return shown


def _refuse_misfits(run_id: int, said: RankAnswers, shown: Sequence[Shown]) -> None:
    """Raise Refused unless these are different answers of the run to the prompt, and an audit is one."""
    twice = next((number for number in said.answers if said.answers.count(number) > 1), None)
    if twice is not None:
        raise Refused("bad_request", f"the answer {twice} is there twice", "name each answer once")
    stranger = next((answer for answer in shown if answer.run_id != run_id), None)
    if stranger is not None:
        raise Refused("bad_request", f"the answer {stranger.figures.rollout_id} is of another run", SHOWN_AGAIN)
    if len({answer.prompt_id for answer in shown}) > 1:
        raise Refused("bad_request", "the answers are to different prompts", "rank answers to one prompt")
    if shown[0].prompt_id != said.prompt_id:
        message = f"the answers are to prompt {shown[0].prompt_id}, not {said.prompt_id}"
        raise Refused("bad_request", message, SHOWN_AGAIN)
    if said.stream is Stream.AUDIT:
        is_audit = len(shown) == 2 and all(answer.figures.is_audit for answer in shown)
        if not is_audit or shown[0].figures.step == shown[1].figures.step:
            message = "an audit is of two answers of different steps that were sampled for it"
            raise Refused("bad_request", message, "say the stream that `ponder rank` was given")


def _compare(shown: Sequence[Shown], said: RankAnswers) -> tuple[int, int, int]:
    """(version, pairs that it had in the same order, pairs decided); no version where none scored them all."""
    answers = [answer.figures for answer in shown]
    scores = scores_of_one_version(answers)
    if scores is None or said.verdict is Verdict.SKIPPED:
        return 0, 0, 0
    agreed, pairs, _ = count_agreement(scores, said.ranks)
    return max(answer.reward_model for answer in answers), agreed, pairs
