"""Unpaired preferences, as TRL's KTO reads them: an answer, and whether it is desirable.

    {"prompt": ..., "completion": ..., "label": true | false}

Nothing is made from pairs: the better of two may still be bad. Undesirable is what a person flagged, and every answer
of a ranking whose verdict is that all are bad. Desirable is what was ranked first by somebody who could have said that
all are bad. All else says nothing. Deliberately left out: weights of the two kinds, which are the trainer's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from ponder.errors import RecipeError
from ponder.preference_formats.cells import Row, messages, read_answer, read_prompt, text_of
from ponder.preference_formats.pairs import says
from ponder.preference_formats.ranked import Answer, Notes, Ranked
from ponder.ranking import Verdict

ONE_SIDED = "rows are all of one label: KTO needs desirable and undesirable answers"


def label_of(ranked: Ranked, answer: Answer) -> bool | None:
    """Whether an answer is desirable; None where nobody said."""
    if answer.is_flagged or ranked.verdict is Verdict.ALL_BAD:
        return False
    is_first = answer.rank is not None and answer.rank == min(rank for rank in ranked.ranks if rank is not None)
    return True if ranked.verdict is Verdict.RANKED and is_first else None


def write(rankings: Sequence[Ranked], notes: Notes) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    silent = 0
    for ranked in rankings:
        for answer in ranked.answers:
            label = label_of(ranked, answer)
            silent += label is None
            if label is not None:
                own = {"ranking_id": ranked.ranking, "annotator": ranked.annotator}
                asked = {"prompt": messages(ranked.prompt), "completion": says(answer.text)}
                rows.append({**asked, "label": label, **own})
    notes.count("answers were left out of which nobody said whether they are good", silent)
    if len({row["label"] for row in rows}) == 1:
        notes.count(ONE_SIDED, len(rows))
    return rows


def read(rows: Iterable[tuple[Row, str]], notes: Notes) -> list[Ranked]:
    """Answers to one prompt (of one ranking, where that is known): the desirable ones tied above the others."""
    del notes  # nothing is left out
    together: dict[object, list[tuple[str, bool]]] = defaultdict(list)
    asked = {}
    for row, place in rows:
        if not isinstance(row.get("label"), bool):
            raise RecipeError(f"{place}: `label` is no true or false", "KTO's rows are `prompt`, `completion`, `label`")
        prompt = read_prompt(row.get("prompt"), "prompt", place)
        key = (text_of(row, "ranking_id"), text_of(row, "annotator"), prompt)
        asked[key] = prompt
        together[key].append((read_answer(row.get("completion"), "completion", place), row["label"] is True))
    found = []
    for (ranking, annotator, prompt), answers in ((key, together[key]) for key in asked):
        is_any_good = any(label for _, label in answers)
        ranks = [Answer(text, 1 if label else None, is_flagged=is_any_good and not label) for text, label in answers]
        verdict = Verdict.RANKED if is_any_good else Verdict.ALL_BAD
        found.append(Ranked(prompt, ranks, verdict, ranking, annotator))
    return found
