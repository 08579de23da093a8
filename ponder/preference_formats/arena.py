"""Battles as the Chatbot Arena publishes them: two answers, and who won.

    winner            model_a, model_b, tie, or tie (bothbad)
    winner_model_a, winner_model_b, winner_tie
                      0 or 1, with prompt and responses as lists in JSON (the set of 55,000)

A battle says nothing of two answers that were both left unranked. Models are named by the step whose policy answered.
Deliberately left out: ratings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import combinations

from ponder.errors import RecipeError
from ponder.preference_formats.cells import (
    Prompt,
    Row,
    messages,
    number_of,
    read_answer,
    read_turns,
    text_of,
)
from ponder.preference_formats.pairs import says
from ponder.preference_formats.ranked import EQUAL_PAIRS, Answer, Notes, Ranked, regroup
from ponder.ranking import Verdict

FIRST, SECOND, TIE, BOTH_BAD = "model_a", "model_b", "tie", "tie (bothbad)"
RANKS = {FIRST: (1, 2), SECOND: (2, 1), TIE: (1, 1), BOTH_BAD: (None, None)}
SKIPPED = "rankings were left out: they were skipped"


def write(rankings: Sequence[Ranked], notes: Notes) -> list[dict[str, object]]:
    """Each pair of which something is said, the one that was shown first as `model_a`."""
    rows = []
    for ranked in rankings:
        notes.count(SKIPPED, ranked.verdict is Verdict.SKIPPED)
        for one, other in combinations(ranked.answers, 2):
            winner = _winner(ranked.verdict, one.rank, other.rank)
            if winner and one.text == other.text and winner in (FIRST, SECOND):
                notes.count(EQUAL_PAIRS)
            elif winner:
                rows.append(_row(ranked, one, other, winner))
    return rows


def _winner(verdict: Verdict, one: int | None, other: int | None) -> str:
    """Empty where nothing is said."""
    if verdict is not Verdict.RANKED:
        return BOTH_BAD if verdict is Verdict.ALL_BAD else ""
    if one is None and other is None:
        return ""
    if one == other:
        return TIE
    return FIRST if other is None or (one is not None and one < other) else SECOND


def _row(ranked: Ranked, one: Answer, other: Answer, winner: str) -> dict[str, object]:
    asked = messages(ranked.prompt)
    return {
        "question_id": ranked.ranking,
        "model_a": f"step-{one.step}",
        "model_b": f"step-{other.step}",
        "winner": winner,
        "judge": ranked.annotator,
        "conversation_a": [*asked, *says(one.text)],
        "conversation_b": [*asked, *says(other.text)],
        "turn": sum(message["role"] == "user" for message in asked),
        "tstamp": ranked.at_us / 1e6,
        "answer_a": one.rollout_id,
        "answer_b": other.rollout_id,
    }


def read(rows: Iterable[tuple[Row, str]], notes: Notes) -> list[Ranked]:
    """Battles of one question by one judge become a ranking again."""
    del notes  # nothing is left out
    return regroup(_read(row, place) for row, place in rows)


def _read(row: Row, place: str) -> Ranked:
    winner = row.get("winner") or next(
        (name for name in (FIRST, SECOND, TIE) if number_of(row, f"winner_{name}") == 1), None
    )
    if winner not in RANKS:
        raise RecipeError(f"{place}: the winner is `{winner}`", f"it is one of {', '.join(RANKS)}")
    prompt, first, second = _battle(row, place)
    one, other = RANKS[str(winner)]
    answers = [
        Answer(first, one, rollout_id=number_of(row, "answer_a")),
        Answer(second, other, rollout_id=number_of(row, "answer_b")),
    ]
    verdict = Verdict.ALL_BAD if winner == BOTH_BAD else Verdict.RANKED
    return Ranked(prompt, answers, verdict, text_of(row, "question_id"), text_of(row, "judge"))


def _battle(row: Row, place: str) -> tuple[Prompt, str, str]:
    if "conversation_a" in row:
        one, other = (_conversation(row, name, place) for name in ("conversation_a", "conversation_b"))
        if one[:-1] != other[:-1] or len(one) < 2:
            raise RecipeError(f"{place}: the two conversations differ before their last answer", "leave the row out")
        return one[:-1], one[-1][1], other[-1][1]
    asked, one_text, other_text = (_texts(row, name, place) for name in ("prompt", "response_a", "response_b"))
    if not asked or len(asked) != len(one_text) or len(asked) != len(other_text):
        raise RecipeError(f"{place}: `prompt` and the responses are not one for each turn", "leave the row out")
    if one_text[:-1] != other_text[:-1]:
        raise RecipeError(f"{place}: the two conversations differ before their last answer", "leave the row out")
    turns = [
        turn for said in zip(asked, one_text, strict=True) for turn in zip(("user", "assistant"), said, strict=True)
    ]
    return tuple(turns[:-1]), one_text[-1], other_text[-1]


def _conversation(row: Row, column: str, place: str) -> tuple[tuple[str, str], ...]:
    value = row.get(column)
    if not isinstance(value, list):
        raise RecipeError(f"{place}: `{column}` is no list of messages", "a battle has two conversations")
    return read_turns(value, column, place)


def _texts(row: Row, column: str, place: str) -> list[str]:
    """A list of texts, which the set of 55,000 has as JSON; a text that is no such list is the only one."""
    value = row.get(column)
    if isinstance(value, str):
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = None
        value = parsed if isinstance(parsed, list) else [value]
    if not isinstance(value, list):
        raise RecipeError(f"{place}: `{column}` is no text", "a battle has a prompt and two responses")
    return [read_answer("" if text is None else text, column, place) for text in value]
