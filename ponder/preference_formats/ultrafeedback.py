"""UltraFeedback binarized: a text as the prompt, and whole dialogues as lists of messages.

    prompt prompt_id chosen rejected messages score_chosen score_rejected

TRL takes such a row for plain text or for a dialogue by chance (the order of a set), so that it is written on request
alone. A score is the live reward model's, or nothing: none is made up from ranks. Deliberately left out: its ratings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from ponder.errors import RecipeError
from ponder.preference_formats.cells import Row, messages
from ponder.preference_formats.dialogue import read_pair
from ponder.preference_formats.pairs import all_pairs, from_row, says, to_rows
from ponder.preference_formats.ranked import Notes, Pair, Ranked, regroup
from ponder.rlhf import PREFERENCE_RAW

NOT_FOR_TRL = "rows have a text as `prompt` and messages as `chosen`: TRL breaks on them, `--as trl` is for TRL"


def write(rankings: Sequence[Ranked], notes: Notes) -> list[dict[str, object]]:
    pairs = all_pairs(rankings, notes)
    notes.count(NOT_FOR_TRL, len(pairs))
    return to_rows(pairs, _shape)


def _shape(pair: Pair) -> dict[str, object]:
    asked = messages(pair.ranked.prompt)
    prompt = asked[-1]["content"]
    chosen = [*asked, *says(pair.chosen.text)]
    return {
        "prompt": prompt,
        "prompt_id": hashlib.sha256(prompt.encode()).hexdigest(),
        "chosen": chosen,
        "rejected": [*asked, *says(pair.rejected.text)],
        "messages": chosen,
        "score_chosen": pair.chosen.scores.get(PREFERENCE_RAW),
        "score_rejected": pair.rejected.scores.get(PREFERENCE_RAW),
    }


def read(rows: Iterable[tuple[Row, str]], notes: Notes) -> list[Ranked]:
    del notes  # nothing is left out
    return regroup(_read(row, place) for row, place in rows)


def _read(row: Row, place: str) -> Ranked:
    if not all(isinstance(row.get(column), list) for column in ("chosen", "rejected")):
        raise RecipeError(f"{place}: `chosen` and `rejected` are no lists of messages", "`--as trl` reads texts")
    prompt, better, worse, margin = read_pair(row, place)
    return from_row(row, prompt, better, worse, margin)
