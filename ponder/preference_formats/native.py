"""`ponder-ranking/1`: all that is known of a ranking, one row each.

    format prompt answers ranks ended       what `ponder run` reads as data of a reward model or of DPO
    verdict flags ranking annotator ...     what was said, by whom, when, in which order it was shown
    facts                                   of each answer: where it came from, its scores by name

Deliberately left out: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from ponder.errors import RecipeError
from ponder.preference_formats.cells import Row, messages, read_answer, read_list, read_margin, read_prompt, read_rank
from ponder.preference_formats.ranked import SCORED, Notes, Ranked

FORMAT = "ponder-ranking/1"
SAID = (
    "ranking", "annotator", "stream", "prompt_id", "step", "at_us", "seconds", "reward_model", "guidelines_version",
    "reasons", "note", "by", "is_undone", "margin", "scores",
)  # fmt: skip
"""Columns that are the fields of `Ranked` as they are."""
FACTS = (
    "rollout_id", "step", "group", "index", "length_tokens", "policy_version", "purpose", "reward_model",
    "is_rewritten",
)  # fmt: skip
"""The same of `Answer`."""


def write(rankings: Sequence[Ranked], notes: Notes) -> list[dict[str, object]]:
    """One row a ranking; where any prompt is a dialogue all are, since a Parquet column has one type."""
    del notes  # nothing is left out
    is_chat = any(not isinstance(ranked.prompt, str) for ranked in rankings)
    return [
        {
            "format": FORMAT,
            "prompt": messages(ranked.prompt) if is_chat else ranked.prompt,
            "answers": [answer.text for answer in ranked.answers],
            "ranks": ranked.ranks,
            "ended": [answer.has_ended for answer in ranked.answers],
            "verdict": str(ranked.verdict),
            "flags": [answer.is_flagged for answer in ranked.answers],
            **{name: getattr(ranked, name) for name in SAID},
            "facts": [
                {
                    **{name: getattr(answer, name) for name in FACTS},
                    "scores": [{"name": name, "value": value} for name, value in answer.scores.items()],
                }
                for answer in ranked.answers
            ],
        }
        for ranked in rankings
    ]


def read(rows: Iterable[tuple[Row, str]], notes: Notes) -> list[Ranked]:
    """From (row, place); columns that are not there keep their defaults, and nothing is to learn from scores."""
    found = [_read(row, place) for row, place in rows]
    notes.count(SCORED, sum(ranked.scores is not None for ranked in found))
    return [ranked for ranked in found if ranked.scores is None]


def _read(row: Row, place: str) -> Ranked:
    if row.get("format", FORMAT) != FORMAT:
        raise RecipeError(f"{place}: this is `{row['format']}`, and not `{FORMAT}`", "a newer ponder may read it")
    texts = [read_answer(value, "answers", place) for value in read_list(row, "answers", place)]
    ranks = [read_rank(value, place) for value in read_list(row, "ranks", place)]
    ended, flags, facts = (_beside(row, name, len(texts), place) for name in ("ended", "flags", "facts"))
    if len(ranks) != len(texts):
        raise RecipeError(f"{place}: `ranks` has {len(ranks)} entries for {len(texts)} answers", "one for each answer")
    answers = [
        {"text": text, "rank": rank, **_known("has_ended", has_ended), **_known("is_flagged", flag), **_facts(fact)}
        for text, rank, has_ended, flag, fact in zip(texts, ranks, ended, flags, facts, strict=True)
    ]
    said = {name: row[name] for name in ("verdict", *SAID) if row.get(name) is not None}
    prompt, margin = read_prompt(row.get("prompt"), "prompt", place), read_margin(row, place, ranks)
    try:
        return replace(
            msgspec.convert({**said, "prompt": "", "answers": answers}, Ranked), prompt=prompt, margin=margin
        )
    except msgspec.ValidationError as error:
        raise RecipeError(f"{place}: {error}", f"`{FORMAT}` is what `ponder export rankings` writes") from None


def _beside(row: Row, column: str, answers: int, place: str) -> list[object]:
    """What stands in a column for each answer; None where there is no such column."""
    if row.get(column) is None:
        return [None] * answers
    values = read_list(row, column, place)
    if len(values) != answers:
        raise RecipeError(f"{place}: `{column}` has {len(values)} entries for {answers} answers", "one for each answer")
    return values


def _known(name: str, value: object) -> dict[str, object]:
    return {} if value is None else {name: value}


def _facts(fact: object) -> dict[str, object]:
    """A score is a name and a value: as columns of their own, the names of all rows would stand in each."""
    if not isinstance(fact, Mapping):
        return {}
    scores = {score["name"]: score["value"] for score in fact.get("scores") or [] if isinstance(score, Mapping)}
    return {**{name: fact[name] for name in FACTS if fact.get(name) is not None}, "scores": scores}
