"""What people said of answers beside each other, as it is asked for.

`page` is for whoever learns from rankings or carries them away, `judgements` for whoever counts: without texts. A
ranking that was taken back stays in the store and is told only to those who ask for it. Deliberately left out: which
answers wait to be ranked (`store.candidates`), and what is made of it all (`daemon.rank_desk`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from ponder.events import AUDIT, RELEASE_VERB, BrakeChanged, Finish
from ponder.ranking import Stream, Verdict
from ponder.rlhf import PREFERENCE_BEFORE, PREFERENCE_RAW
from ponder.wire import RankedAnswer, RankingRow, RewardModelOrder
from store import imported
from store.cold import TEXT
from store.derived import from_json
from store.rows import places

if TYPE_CHECKING:
    from sqlite3 import Connection

_RANKINGS = """
    SELECT rankings.id, ranking, annotator, stream, verdict, prompt_id, prompts.text, step, kept_us, seconds,
           reward_model, guidelines_version, reasons, note, undone_us IS NOT NULL, submitted_by, scores
    FROM rankings CROSS JOIN prompts ON prompts.id = rankings.prompt_id
    WHERE run_id = ? AND rankings.id > ? AND (? OR undone_us IS NULL) AND (? OR scores IS NULL)
    ORDER BY rankings.id LIMIT ?
"""
_ANSWERS = f"""
    SELECT ranked_answers.ranking_id, ranked_answers.rollout_id, groups.step, groups.idx, rollouts.idx,
           ranked_answers.text, ranked_answers.rank, ranked_answers.place, ranked_answers.is_flagged,
           rollouts.length_tokens, groups.policy_version, groups.purpose, groups.reward_model,
           ranked_answers.text <> {TEXT.format("rollouts")}, rollouts.finish
    FROM rankings
    CROSS JOIN ranked_answers ON ranked_answers.ranking_id = rankings.id
    CROSS JOIN rollouts ON rollouts.id = ranked_answers.rollout_id
    CROSS JOIN groups ON groups.id = rollouts.group_id
    WHERE rankings.run_id = ? AND rankings.id BETWEEN ? AND ? ORDER BY rankings.id, ranked_answers.place
"""
_PARTS = """
    SELECT DISTINCT reward_parts.rollout_id, reward_parts.name, reward_parts.value
    FROM rankings
    CROSS JOIN ranked_answers ON ranked_answers.ranking_id = rankings.id
    CROSS JOIN reward_parts ON reward_parts.rollout_id = ranked_answers.rollout_id
    WHERE rankings.run_id = ? AND rankings.id BETWEEN ? AND ?
"""


def page(
    connection: Connection, run_id: int, after_id: int = 0, limit: int = -1, with_undone: bool = False,
    with_scored: bool = False,
) -> list[RankingRow]:  # fmt: skip
    """Rankings of a run with an id after `after_id`, oldest first; those that came of scores only where asked for."""
    rows = connection.execute(_RANKINGS, (run_id, after_id, with_undone, with_scored, limit)).fetchall()
    if not rows:
        return []
    between = (run_id, rows[0][0], rows[-1][0])
    scores: defaultdict[int, dict[str, float]] = defaultdict(dict)
    for rollout_id, name, value in connection.execute(_PARTS, between):
        scores[rollout_id][name] = value
    answers: defaultdict[int, list[RankedAnswer]] = defaultdict(list)
    for row in connection.execute(_ANSWERS, between):
        answers[row[0]].append(
            RankedAnswer(
                rollout_id=row[1], step=row[2], group=row[3], index=row[4], text=row[5], rank=row[6], place=row[7],
                is_flagged=bool(row[8]), length_tokens=row[9], policy_version=row[10], purpose=row[11],
                reward_model=row[12], scores=scores[row[1]], is_rewritten=bool(row[13]),
                is_truncated=row[14] == Finish.TRUNCATED,
            )
        )  # fmt: skip
    answers |= imported.answers_between(connection, rows[0][0], rows[-1][0])
    return [
        RankingRow(
            id=row[0], ranking=row[1], annotator=row[2], stream=Stream(row[3]), verdict=Verdict(row[4]),
            prompt_id=row[5], prompt=row[6], step=row[7], at_us=row[8], seconds=row[9], reward_model=row[10],
            guidelines_version=row[11], answers=answers[row[0]], reasons=msgspec.json.decode(row[12], type=list[str]),
            note=row[13], is_undone=bool(row[14]), by=row[15], scores=scores_from(row[16]),
        )
        for row in rows
    ]  # fmt: skip


def scores_from(column: str | None) -> list[int] | None:
    """What stands in `rankings.scores`; None of answers that were put in order."""
    return None if column is None else msgspec.json.decode(column, type=list[int])


@dataclass(frozen=True)
class JudgedAnswer:
    """An answer of a ranking, in figures."""

    rollout_id: int
    step: int
    rank: int | None
    is_flagged: bool
    length_tokens: int
    is_correct: bool | None
    is_audit: bool
    reward_model: int
    """The version that scored it."""
    score: float | None
    """Raw."""
    before: float | None
    """Of an audit: what the same version says, raw, of the answer it is compared with."""


@dataclass(frozen=True)
class Judgement:
    """A ranking in figures, its answers in the order in which they were shown."""

    id: int
    annotator: str
    stream: Stream
    verdict: Verdict
    prompt_id: int
    step: int
    at_us: int
    seconds: float
    undone_us: int | None
    """When it was taken back; None: it stands."""
    answers: tuple[JudgedAnswer, ...]
    is_scored: bool = False
    """Whether its ranks came of scores, one by one."""

    @property
    def stands(self) -> bool:
        return self.undone_us is None

    @property
    def ranks(self) -> list[int | None]:
        return [answer.rank for answer in self.answers]

    @property
    def scores(self) -> list[float] | None:
        """What one version says of each answer, raw; None where none scored them all."""
        return scores_of_one_version(self.answers)


def scores_of_one_version(answers: Sequence[JudgedAnswer]) -> list[float] | None:
    """What one version says of each answer, raw; None where there is none. An audit's newer answer tells of both.

    Two versions' scores cannot be compared: each has a scale of its own.
    """
    if len({answer.reward_model for answer in answers}) == 1 and answers[0].reward_model:
        scores = [answer.score for answer in answers if answer.score is not None]
        return scores if len(scores) == len(answers) else None
    newer = max(answers, key=lambda answer: answer.step)
    if len(answers) != 2 or not newer.is_audit or newer.before is None or newer.score is None:
        return None
    return [newer.score if answer is newer else newer.before for answer in answers]


_FIGURES = f"""
    SELECT ranked_answers.ranking_id, ranked_answers.rollout_id, groups.step, ranked_answers.rank,
           ranked_answers.is_flagged, rollouts.length_tokens, rollouts.is_correct, groups.purpose = '{AUDIT}',
           groups.reward_model, raw.value, before.value
    FROM rankings
    CROSS JOIN ranked_answers ON ranked_answers.ranking_id = rankings.id
    CROSS JOIN rollouts ON rollouts.id = ranked_answers.rollout_id
    CROSS JOIN groups ON groups.id = rollouts.group_id
    LEFT JOIN reward_parts AS raw ON raw.rollout_id = rollouts.id AND raw.name = '{PREFERENCE_RAW}'
    LEFT JOIN reward_parts AS before ON before.rollout_id = rollouts.id AND before.name = '{PREFERENCE_BEFORE}'
"""


def judgements(
    connection: Connection, run_id: int, only: Stream | None = None, newest: int | None = None,
    *, with_scored: bool = False,
) -> list[Judgement]:  # fmt: skip
    """All rankings of a run's own answers, or those of one stream, oldest first, in figures; those taken back are
    marked so, and those that came of scores left out.

    With `newest` so many of the newest that are ranked and stand.
    """
    which = f"WHERE rankings.run_id = ? AND rankings.stream <> '{Stream.IMPORTED}'"
    which += "" if with_scored else " AND rankings.scores IS NULL"
    which += f" AND rankings.stream = '{only}'" if only else ""
    if newest is not None:
        standing = f"{which} AND verdict = '{Verdict.RANKED}' AND undone_us IS NULL".replace("?", str(run_id))
        which += f" AND rankings.id IN (SELECT id FROM rankings {standing} ORDER BY id DESC LIMIT {newest})"
    answers: defaultdict[int, list[JudgedAnswer]] = defaultdict(list)
    for row in connection.execute(f"{_FIGURES} {which} ORDER BY rankings.id, ranked_answers.place", (run_id,)):
        is_correct = None if row[6] is None else bool(row[6])
        answers[row[0]].append(
            JudgedAnswer(row[1], row[2], row[3], bool(row[4]), row[5], is_correct, bool(row[7]), *row[8:])
        )
    found = connection.execute(
        f"""SELECT id, annotator, stream, verdict, prompt_id, step, kept_us, seconds, undone_us, scores IS NOT NULL
            FROM rankings {which} ORDER BY id""",
        (run_id,),
    )
    return [
        Judgement(
            id=row[0], annotator=row[1], stream=Stream(row[2]), verdict=Verdict(row[3]), prompt_id=row[4],
            step=row[5], at_us=row[6], seconds=row[7], undone_us=row[8], answers=tuple(answers[row[0]]),
            is_scored=bool(row[9]),
        )
        for row in found
    ]  # fmt: skip


def figures_of(connection: Connection, rollout_id: int) -> tuple[JudgedAnswer, int, int, str] | None:
    """(an answer in figures, without a rank; its run; its prompt; its text); None where there is no such answer."""
    row = connection.execute(
        f"""SELECT rollouts.id, groups.step, rollouts.length_tokens, rollouts.is_correct, groups.purpose = '{AUDIT}',
                   groups.reward_model,
                   (SELECT value FROM reward_parts WHERE rollout_id = rollouts.id AND name = '{PREFERENCE_RAW}'),
                   (SELECT value FROM reward_parts WHERE rollout_id = rollouts.id AND name = '{PREFERENCE_BEFORE}'),
                   rollouts.run_id, groups.prompt_id, {TEXT.format("rollouts")}
            FROM rollouts JOIN groups ON groups.id = rollouts.group_id WHERE rollouts.id = ?""",
        (rollout_id,),
    ).fetchone()
    if row is None:
        return None
    is_correct = None if row[3] is None else bool(row[3])
    return JudgedAnswer(row[0], row[1], None, False, row[2], is_correct, bool(row[4]), *row[5:8]), *row[8:]


def count_imported(connection: Connection, run_id: int) -> int:
    """Rankings of other programs that stand in a run."""
    (count,) = connection.execute(
        "SELECT count(*) FROM rankings WHERE run_id = ? AND stream = ? AND undone_us IS NULL", (run_id, Stream.IMPORTED)
    ).fetchone()
    return int(count)


def undone_up_to(connection: Connection, run_id: int, last_id: int) -> list[int]:
    """The ids of a run's rankings up to `last_id` that are taken back."""
    found = connection.execute(
        "SELECT id FROM rankings WHERE run_id = ? AND id <= ? AND undone_us IS NOT NULL ORDER BY id", (run_id, last_id)
    )
    return [number for (number,) in found]


@dataclass(frozen=True)
class Fitted:
    """A version of the live reward model."""

    version: int
    labels: int
    """Rankings that it was fitted to."""
    is_open: bool
    """Whether it may act."""
    figures: dict[str, float]
    fitted_us: int


def names(connection: Connection, run_id: int) -> tuple[list[tuple[int, str]], list[tuple[str, str, int, str]]]:
    """(id, ranking) of all, oldest first, and (ranking, request, when, by whom) of those that are taken back."""
    kept = connection.execute("SELECT id, ranking FROM rankings WHERE run_id = ? ORDER BY id", (run_id,)).fetchall()
    undone = connection.execute(
        """SELECT ranking, undo, undone_us, undone_by FROM rankings WHERE run_id = ? AND undone_us IS NOT NULL
           ORDER BY undone_us, id""",
        (run_id,),
    ).fetchall()
    return kept, undone


def newest_reward_model(connection: Connection, run_id: int) -> Fitted | None:
    """None before the first version."""
    row = connection.execute(
        """SELECT version, labels, is_open, figures, fitted_us FROM reward_models WHERE run_id = ?
           ORDER BY version DESC LIMIT 1""",
        (run_id,),
    ).fetchone()
    if row is None:
        return None
    figures = msgspec.json.decode(row[3], type=dict[str, float])
    return Fitted(row[0], row[1], bool(row[2]), figures, row[4])


def figures_by_version(connection: Connection, run_id: int, name: str) -> dict[int, float]:
    """One figure of every version of a run's reward model that has it."""
    found = connection.execute(
        "SELECT version, json_extract(figures, ?) FROM reward_models WHERE run_id = ?", (f"$.{name}", run_id)
    )
    return {version: float(value) for version, value in found if value is not None}


def acting_version(connection: Connection, run_id: int) -> int:
    """The version that the run's trainer took last; 0: none."""
    row = connection.execute(
        "SELECT value FROM commands WHERE run_id = ? AND verb = ? AND state = 'applied' ORDER BY id DESC LIMIT 1",
        (run_id, RewardModelOrder.__struct_config__.tag),
    ).fetchone()
    version = from_json(row[0]) if row else 0
    return version if isinstance(version, int) else 0


def count_judged_by_model(connection: Connection, run_id: int, weight_metric: str) -> int:
    """Answers in whose reward the live reward model had a weight; a step that was done again counts once."""
    (count,) = connection.execute(
        """SELECT coalesce(sum(groups.size), 0) FROM metrics
           CROSS JOIN groups ON groups.run_id = metrics.run_id AND groups.step = metrics.step
           WHERE metrics.run_id = ? AND metrics.name = ? AND metrics.value <> 0 AND groups.purpose = ''
                 AND groups.is_superseded = 0""",
        (run_id, weight_metric),
    ).fetchone()
    return int(count)


def newest_parts(connection: Connection, run_id: int) -> set[str]:
    """The reward parts of a run's newest answers that the policy learns from."""
    found = connection.execute(
        """SELECT DISTINCT reward_parts.name FROM rollouts JOIN reward_parts ON reward_parts.rollout_id = rollouts.id
           WHERE rollouts.group_id = (SELECT max(id) FROM groups
                                      WHERE run_id = ? AND purpose = '' AND is_superseded = 0)""",
        (run_id,),
    )
    return {name for (name,) in found}


def newest_brake(connection: Connection, run_id: int) -> BrakeChanged | None:
    """What was last told of the brake; None before anything was."""
    row = connection.execute(
        "SELECT body FROM events WHERE run_id = ? AND kind = 'brake_changed' ORDER BY id DESC LIMIT 1", (run_id,)
    ).fetchone()
    return None if row is None else msgspec.json.decode(row[0], type=BrakeChanged)


def newest_ranking(connection: Connection, run_id: int) -> int:
    """The number of a run's newest ranking, taken back or not; 0 before there is one."""
    (number,) = connection.execute("SELECT coalesce(max(id), 0) FROM rankings WHERE run_id = ?", (run_id,)).fetchone()
    return int(number)


def releases(connection: Connection, run_id: int) -> list[int]:
    """After which ranking people let go of the brake, each time, oldest first."""
    found = connection.execute(
        "SELECT value FROM commands WHERE run_id = ? AND verb = ? AND state = 'applied' ORDER BY id",
        (run_id, RELEASE_VERB),
    )
    return [int(text) for (text,) in found]


def newest_sender(connection: Connection, run_id: int, verbs: Sequence[str]) -> str:
    """Who gave the newest command of one of these verbs that was not refused; empty where nobody did."""
    row = connection.execute(
        f"""SELECT submitted_by FROM commands WHERE run_id = ? AND verb IN {places(verbs)} AND state <> 'refused'
            ORDER BY id DESC LIMIT 1""",
        (run_id, *verbs),
    ).fetchone()
    return str(row[0]) if row else ""
