"""HH-RLHF: two whole dialogues as text, arXiv:2204.05862.

    {"chosen": "\\n\\nHuman: ...\\n\\nAssistant: ...", "rejected": "..."}

It knows two speakers, of whom the human speaks first and last, and cannot quote itself: what does not come back as it
was written is left out and counted. Deliberately left out: system messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ponder.errors import RecipeError
from ponder.preference_formats.cells import Prompt, Row, read_answer, read_margin
from ponder.preference_formats.dialogue import plain_dialogue, split_hh
from ponder.preference_formats.pairs import all_pairs, from_row, to_rows
from ponder.preference_formats.ranked import Notes, Pair, Ranked, regroup

UNSAYABLE = "pairs were left out: HH-RLHF has no word for a speaker of theirs, or they hold its own marks"


def write(rankings: Sequence[Ranked], notes: Notes) -> list[dict[str, object]]:
    pairs = all_pairs(rankings, notes)
    kept = [pair for pair in pairs if _comes_back(pair)]
    notes.count(UNSAYABLE, len(pairs) - len(kept))
    return to_rows(
        kept, lambda pair: {"chosen": _say(pair, pair.chosen.text), "rejected": _say(pair, pair.rejected.text)}
    )


def read(rows: Iterable[tuple[Row, str]], notes: Notes) -> list[Ranked]:
    del notes  # nothing is left out
    return regroup(_read(row, place) for row, place in rows)


def _read(row: Row, place: str) -> Ranked:
    chosen, rejected = (read_answer(row.get(column), column, place) for column in ("chosen", "rejected"))
    return from_row(row, *split_hh(chosen, rejected, place), read_margin(row, place, (1, 2)))


def _turns(prompt: Prompt) -> tuple[tuple[str, str], ...]:
    return (("user", prompt),) if isinstance(prompt, str) else prompt


def _say(pair: Pair, answer: str) -> str:
    return f"{plain_dialogue(_turns(pair.ranked.prompt))} {answer}"


def _comes_back(pair: Pair) -> bool:
    chosen, rejected = _say(pair, pair.chosen.text), _say(pair, pair.rejected.text)
    try:
        prompt, better, worse = split_hh(chosen, rejected, "")
    except RecipeError:
        return False
    return (prompt, better, worse) == (_turns(pair.ranked.prompt), pair.chosen.text, pair.rejected.text)
