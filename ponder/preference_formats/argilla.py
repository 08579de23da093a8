"""Argilla 2: a record for each ranking, with a ranking question over the answers.

    prompt answer-1 ... answer-K                fields
    ranking.responses                           each person's [{"value": "answer-2", "rank": 1}, ...], or names in order
    ranking.responses.users .status             who, and `submitted`, `draft` or `discarded`

What was not submitted is left out and counted; an answer that a response does not name is unranked. Deliberately left
out: suggestions, and questions of other kinds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ponder.errors import RecipeError
from ponder.preference_formats.cells import Row, messages, prompt_text, read_answer, read_prompt, text_of
from ponder.preference_formats.ranked import Answer, Notes, Ranked
from ponder.ranking import Verdict

QUESTION = "ranking"
RESPONSES, USERS, STATUS = f"{QUESTION}.responses", f"{QUESTION}.responses.users", f"{QUESTION}.responses.status"
SUBMITTED = "submitted"
NOT_SUBMITTED = "responses were left out: drafts, or discarded"
NOT_RANKED = "rankings were left out: Argilla's ranking question has no word for all bad, or skipped"


def write(rankings: Sequence[Ranked], notes: Notes) -> list[dict[str, object]]:
    kept = [ranked for ranked in rankings if ranked.verdict is Verdict.RANKED]
    notes.count(NOT_RANKED, len(rankings) - len(kept))
    is_chat = any(prompt_text(ranked.prompt) is None for ranked in kept)
    most = max((len(ranked.answers) for ranked in kept), default=0)
    return [_row(ranked, most, is_chat=is_chat) for ranked in kept]


def _row(ranked: Ranked, most: int, *, is_chat: bool) -> dict[str, object]:
    texts: list[str | None] = [answer.text for answer in ranked.answers]
    texts += [None] * (most - len(texts))
    order = [
        {"value": _field(place), "rank": answer.rank}
        for place, answer in enumerate(ranked.answers)
        if answer.rank is not None
    ]
    return {
        "id": ranked.ranking,
        "prompt": messages(ranked.prompt) if is_chat else prompt_text(ranked.prompt),
        **{_field(place): text for place, text in enumerate(texts)},
        RESPONSES: [order],
        USERS: [ranked.annotator],
        STATUS: [SUBMITTED],
    }


def _field(place: int) -> str:
    """An answer's field; fields of a record are named, and questions speak of them by these names."""
    return f"answer-{place + 1}"


def read(rows: Iterable[tuple[Row, str]], notes: Notes) -> list[Ranked]:
    """One ranking for each submitted response."""
    return [ranked for row, place in rows for ranked in _read(row, place, notes)]


def _read(row: Row, place: str, notes: Notes) -> list[Ranked]:
    question = next((name.removesuffix(".responses") for name in row if name.endswith(".responses")), None)
    if question is None or "prompt" not in row:
        raise RecipeError(f"{place} has no `prompt` and no `....responses`", "export records flattened, with responses")
    responses = _column(row, f"{question}.responses", [])
    nothing: list[object] = [None] * len(responses)
    users, states = (_column(row, f"{question}.responses.{name}", nothing) for name in ("users", "status"))
    found_rankings = []
    for response, user, state in zip(responses, users, states, strict=True):
        if state not in (None, SUBMITTED) or response is None:
            notes.count(NOT_SUBMITTED)
            continue
        ranks = _ranks(response, place)
        fields = [name for name in row if name.startswith("answer-") and row[name] is not None] or sorted(ranks)
        if strange := sorted(set(ranks) - set(fields)):
            raise RecipeError(f"{place}: a response ranks `{strange[0]}`, which is no field", "fields are the answers")
        answers = [Answer(read_answer(row[name], name, place), ranks.get(name)) for name in fields]
        found_rankings.append(
            Ranked(
                read_prompt(row["prompt"], "prompt", place),
                answers,
                ranking=text_of(row, "id"),
                annotator=user if isinstance(user, str) else "",
            )
        )
    return found_rankings


def _ranks(response: object, place: str) -> dict[str, int]:
    """The rank of each field that a response names; in old exports an unranked one is there without a rank."""
    items = response if isinstance(response, list | tuple) else []
    if all(isinstance(item, str) for item in items) and items:
        return {str(name): rank for rank, name in enumerate(items, 1)}
    ranks = {}
    for item in items:
        if not isinstance(item, Mapping) or not isinstance(item.get("value"), str):
            raise RecipeError(f"{place}: a response is no ranking", "it is a list of names, or of values with ranks")
        if isinstance(item.get("rank"), int):
            ranks[str(item["value"])] = int(item["rank"])
    return ranks


def _column(row: Row, name: str, missing: list[object]) -> list[object]:
    value = row.get(name)
    return list(value) if isinstance(value, list | tuple) else missing
