"""Label Studio: tasks with their annotations, for its Ranker and its Pairwise tag.

    Ranker      {"ranker": [ids, best first]}, or {"ranker": {bucket: [ids]}} where a ranking of the file has ties or
                unranked answers: buckets are numbered from 1, `_` holds what was not ranked
    Pairwise    {"selected": "left" | "right"}; a tie cannot be told, nor from an unanswered task, and is left out

Deliberately left out: the labelling configuration, and other tags.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ponder.errors import RecipeError
from ponder.preference_formats.cells import Prompt, Row, messages, prompt_text, read_answer, read_prompt, text_of
from ponder.preference_formats.ranked import Answer, Notes, Ranked, pairs_of, regroup
from ponder.ranking import Ranks, Verdict, tiers

UNRANKED = "_"
NOT_RANKED = "rankings were left out: a ranker has no word for all bad, or skipped"
NO_RESULT = "annotations were left out: they hold no result, which may be a tie or no answer at all"
TIES = "ties were left out: the Pairwise tag cannot record one"


def write_ranker(rankings: Sequence[Ranked], notes: Notes) -> list[dict[str, object]]:
    kept = [ranked for ranked in rankings if ranked.verdict is Verdict.RANKED]
    notes.count(NOT_RANKED, len(rankings) - len(kept))
    is_plain = all(_is_order(ranked.ranks) for ranked in kept)
    rows = []
    for ranked in kept:
        items = [{"id": f"a{place}", "body": answer.text} for place, answer in enumerate(ranked.answers)]
        value = {"ranker": _order(ranked.ranks) if is_plain else _buckets(ranked.ranks)}
        rows.append(_task(ranked, {**_asked(ranked.prompt), "items": items}, "ranker", value))
    return rows


def write_pairwise(rankings: Sequence[Ranked], notes: Notes) -> list[dict[str, object]]:
    """Each decided pair, the one that was shown first on the left."""
    rows = []
    for ranked in rankings:
        shown = {id(answer): place for place, answer in enumerate(ranked.answers)}
        for pair in pairs_of(ranked, notes):
            first, second = sorted((pair.chosen, pair.rejected), key=lambda answer: shown[id(answer)])
            data = {**_asked(ranked.prompt), "left": first.text, "right": second.text}
            ids = {"left_id": first.rollout_id, "right_id": second.rollout_id}
            value = {"selected": "left" if first is pair.chosen else "right"}
            rows.append(_task(ranked, {**data, **ids}, "pairwise", value))
        ranked_ones = [tier for tier in tiers(ranked.ranks) if ranked.ranks[tier[0]] is not None]
        notes.count(TIES, sum(len(tier) * (len(tier) - 1) // 2 for tier in ranked_ones))
    return rows


def _asked(prompt: Prompt) -> dict[str, object]:
    text = prompt_text(prompt)
    return {"messages": messages(prompt)} if text is None else {"prompt": text}


def _task(ranked: Ranked, data: dict[str, object], kind: str, value: object) -> dict[str, object]:
    result = {"from_name": "rank", "to_name": "answers", "type": kind, "value": value}
    annotation = {"completed_by": ranked.annotator, "lead_time": ranked.seconds, "result": [result]}
    return {"data": {**data, "ranking_id": ranked.ranking}, "annotations": [annotation]}


def _is_order(ranks: Ranks) -> bool:
    """Whether all are ranked, and none tied."""
    return None not in ranks and all(len(tier) == 1 for tier in tiers(ranks))


def _order(ranks: Ranks) -> list[str]:
    return [f"a{place}" for tier in tiers(ranks) for place in tier]


def _buckets(ranks: Ranks) -> dict[str, list[str]]:
    found = [[f"a{place}" for place in tier] for tier in tiers(ranks)]
    names = [*map(str, range(1, len(found) + 1))]
    if None in ranks:
        names[-1] = UNRANKED
    return dict(zip(names, found, strict=True))


def read(rows: Iterable[tuple[Row, str]], notes: Notes) -> list[Ranked]:
    """Both tags; one ranking for each annotation."""
    return regroup(ranked for row, place in rows for ranked in _read(row, place, notes))


def _read(row: Row, place: str, notes: Notes) -> Iterator[Ranked]:
    data, annotations = row.get("data"), row.get("annotations")
    if not isinstance(data, Mapping) or not isinstance(annotations, list):
        raise RecipeError(f"{place} has no `data` and `annotations`", "export tasks as JSON, with annotations")
    column = "messages" if isinstance(data.get("messages"), list) else "prompt"
    prompt = read_prompt(data.get(column), column, place)
    for annotation in annotations:
        results = annotation.get("result") if isinstance(annotation, Mapping) else None
        values = [result["value"] for result in results or [] if isinstance(result, Mapping) and "value" in result]
        answers = next(filter(None, (_answers(data, value, place) for value in values)), None)
        if answers is None:
            notes.count(NO_RESULT)
            continue
        who, took = annotation.get("completed_by"), annotation.get("lead_time")
        yield Ranked(
            prompt,
            answers,
            ranking=text_of(data, "ranking_id"),
            annotator="" if who is None else str(who),
            seconds=float(took) if isinstance(took, int | float) else 0.0,
        )


def _answers(data: Row, value: object, place: str) -> list[Answer] | None:
    """The answers in the order of the task, with their ranks; None where the value is no ranking."""
    if not isinstance(value, Mapping):
        return None
    if (selected := value.get("selected")) in ("left", "right"):
        return [
            Answer(
                read_answer(data.get(side), side, place),
                1 if side == selected else 2,
                rollout_id=int(data.get(f"{side}_id") or 0),  # type: ignore[call-overload]  # a number, or not there
            )
            for side in ("left", "right")
        ]
    if (ranker := value.get("ranker")) is None:
        return None
    ranks: dict[str, int | None] = {}
    if isinstance(ranker, Mapping):
        numbered = sorted((name for name in ranker if str(name).isdigit()), key=int)
        for rank, name in enumerate(numbered, 1):
            ranks |= dict.fromkeys(map(str, ranker[name] or []), rank)
        if not numbered and any(name != UNRANKED for name in ranker):
            raise RecipeError(
                f"{place}: the buckets {', '.join(f'`{name}`' for name in ranker)} are in no order",
                "number them from 1",
            )
    else:
        ranks |= {str(name): rank for rank, name in enumerate(ranker, 1)}
    items = data.get("items")
    if not isinstance(items, list):
        raise RecipeError(f"{place}: `data` has no `items`", "they are what is ranked")
    return [Answer(_body(item, place), ranks.get(str(item.get("id")))) for item in items if isinstance(item, Mapping)]


def _body(item: Row, place: str) -> str:
    column = next((name for name in ("body", "html", "text", "title") if isinstance(item.get(name), str)), "body")
    return read_answer(item.get(column), column, place)
