"""What people said of answers beside each other, as it is asked for.

`page` is for whoever learns from rankings or carries them away; a ranking that was taken back stays in the store and is
told only to those who ask for it. Deliberately left out: which answers wait to be ranked (`store.candidates`), and what
is made of it all (`daemon.rank_desk`).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec

from ponder.events import BrakeChanged
from ponder.ranking import Stream, Verdict
from ponder.wire import RankedAnswer, RankingRow, RewardModelOrder
from store.derived import from_json

if TYPE_CHECKING:
    from sqlite3 import Connection

_RANKINGS = """
    SELECT rankings.id, ranking, annotator, stream, verdict, prompt_id, prompts.text, step, kept_us, seconds,
           reward_model, guidelines_version, reasons, note, undone_us IS NOT NULL, submitted_by
    FROM rankings CROSS JOIN prompts ON prompts.id = rankings.prompt_id
    WHERE run_id = ? AND rankings.id > ? AND (? OR undone_us IS NULL) ORDER BY rankings.id LIMIT ?
"""
_ANSWERS = """
    SELECT ranked_answers.ranking_id, ranked_answers.rollout_id, groups.step, groups.idx, rollouts.idx,
           ranked_answers.text, ranked_answers.rank, ranked_answers.place, ranked_answers.is_flagged,
           rollouts.length_tokens, groups.policy_version, groups.purpose, groups.reward_model,
           ranked_answers.text <> rollouts.text
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
    connection: Connection, run_id: int, after_id: int = 0, limit: int = -1, with_undone: bool = False
) -> list[RankingRow]:
    """Rankings of a run with an id after `after_id`, oldest first."""
    rows = connection.execute(_RANKINGS, (run_id, after_id, with_undone, limit)).fetchall()
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
            )
        )  # fmt: skip
    return [
        RankingRow(
            id=row[0], ranking=row[1], annotator=row[2], stream=Stream(row[3]), verdict=Verdict(row[4]),
            prompt_id=row[5], prompt=row[6], step=row[7], at_us=row[8], seconds=row[9], reward_model=row[10],
            guidelines_version=row[11], answers=answers[row[0]], reasons=msgspec.json.decode(row[12], type=list[str]),
            note=row[13], is_undone=bool(row[14]), by=row[15],
        )
        for row in rows
    ]  # fmt: skip


def undone_up_to(connection: Connection, run_id: int, last_id: int) -> list[int]:
    """The ids of a run's rankings up to `last_id` that are taken back."""
    found = connection.execute(
        "SELECT id FROM rankings WHERE run_id = ? AND id <= ? AND undone_us IS NOT NULL ORDER BY id", (run_id, last_id)
    )
    return [number for (number,) in found]


def newest_reward_model(connection: Connection, run_id: int) -> tuple[int, int, bool, dict[str, float], int] | None:
    """(version, rankings that it was fitted to, whether it may act, its figures, when it was fitted)."""
    row = connection.execute(
        """SELECT version, labels, is_open, figures, fitted_us FROM reward_models WHERE run_id = ?
           ORDER BY version DESC LIMIT 1""",
        (run_id,),
    ).fetchone()
    if row is None:
        return None
    return row[0], row[1], bool(row[2]), msgspec.json.decode(row[3], type=dict[str, float]), row[4]


def acting_version(connection: Connection, run_id: int) -> int:
    """The version that the run's trainer took last; 0: none."""
    row = connection.execute(
        "SELECT value FROM commands WHERE run_id = ? AND verb = ? AND state = 'applied' ORDER BY id DESC LIMIT 1",
        (run_id, RewardModelOrder.__struct_config__.tag),
    ).fetchone()
    version = from_json(row[0]) if row else 0
    return version if isinstance(version, int) else 0


def newest_brake(connection: Connection, run_id: int) -> BrakeChanged | None:
    """What was last told of the brake; None before anything was."""
    row = connection.execute(
        "SELECT body FROM events WHERE run_id = ? AND kind = 'brake_changed' ORDER BY id DESC LIMIT 1", (run_id,)
    ).fetchone()
    return None if row is None else msgspec.json.decode(row[0], type=BrakeChanged)
