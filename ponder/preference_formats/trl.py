"""TRL's preference data sets, in its four shapes.

    trl                 prompt, chosen and rejected as lists of messages: what all its trainers take
    trl-implicit        whole dialogues in `chosen` and `rejected`
    trl-text            three texts; prompt and completion are joined as they are
    trl-text-implicit   two texts with the prompt in both, for reward models alone: DPO looks for the prompt's end where
                        the two begin to differ, which is inside the answers. How many characters the prompt has stands
                        beside them, so that it can be read again

As TRL 1.16 reads them. Deliberately left out: tokenised data sets, and tools.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ponder.errors import RecipeError
from ponder.preference_formats.cells import Row, messages, prompt_text, read_answer, read_margin
from ponder.preference_formats.dialogue import read_pair
from ponder.preference_formats.pairs import all_pairs, from_row, says, to_rows, with_text
from ponder.preference_formats.ranked import Notes, Pair, Ranked, regroup

PROMPT_CHARACTERS = "prompt_characters"
GLUED = "pairs join a prompt and an answer without a space between: TRL reads both as they are"


def write(rankings: Sequence[Ranked], notes: Notes) -> list[dict[str, object]]:
    """Conversational, with an explicit prompt."""
    return to_rows(
        all_pairs(rankings, notes),
        lambda pair: {
            "prompt": messages(pair.ranked.prompt),
            "chosen": says(pair.chosen.text),
            "rejected": says(pair.rejected.text),
        },
    )


def write_implicit(rankings: Sequence[Ranked], notes: Notes) -> list[dict[str, object]]:
    """Conversational, the prompt in both."""
    return to_rows(
        all_pairs(rankings, notes),
        lambda pair: {
            "chosen": [*messages(pair.ranked.prompt), *says(pair.chosen.text)],
            "rejected": [*messages(pair.ranked.prompt), *says(pair.rejected.text)],
        },
    )


def write_text(rankings: Sequence[Ranked], notes: Notes) -> list[dict[str, object]]:
    """Plain text, with an explicit prompt."""
    return to_rows(
        _text_pairs(rankings, notes),
        lambda pair: {"prompt": _text(pair), "chosen": pair.chosen.text, "rejected": pair.rejected.text},
    )


def write_text_implicit(rankings: Sequence[Ranked], notes: Notes) -> list[dict[str, object]]:
    """Plain text, the prompt in both."""
    return to_rows(
        _text_pairs(rankings, notes),
        lambda pair: {
            "chosen": _text(pair) + pair.chosen.text,
            "rejected": _text(pair) + pair.rejected.text,
            PROMPT_CHARACTERS: len(_text(pair)),
        },
    )


def read(rows: Iterable[tuple[Row, str]], notes: Notes) -> list[Ranked]:
    """All four shapes; pairs of one `ranking_id` become that ranking again."""
    del notes  # nothing is left out
    return regroup(_read(row, place) for row, place in rows)


def _read(row: Row, place: str) -> Ranked:
    for column in ("chosen", "rejected"):
        if column not in row:
            raise RecipeError(f"{place} has no column `{column}`", "a preference has `chosen` and `rejected`")
    if isinstance(row.get("prompt"), str) and not isinstance(row["chosen"], str):
        raise RecipeError(
            f"{place}: `prompt` is a text and `chosen` a list of messages, of which TRL takes the one or the other by"
            " chance",
            "`--as ultrafeedback` reads it",
        )
    length = row.get(PROMPT_CHARACTERS)
    if isinstance(length, int) and row.get("prompt") is None:
        one, other = (read_answer(row[column], column, place) for column in ("chosen", "rejected"))
        if not 0 < length <= min(len(one), len(other)) or one[:length] != other[:length]:
            raise RecipeError(f"{place}: `{PROMPT_CHARACTERS}` is not where the prompt ends", "leave the row out")
        return from_row(row, one[:length], one[length:], other[length:], read_margin(row, place, (1, 2)))
    return from_row(row, *read_pair(row, place))


def _text_pairs(rankings: Sequence[Ranked], notes: Notes) -> list[Pair]:
    pairs = all_pairs(with_text(rankings, notes), notes)
    glued = [
        pair
        for pair in pairs
        for text in (pair.chosen.text, pair.rejected.text)
        if text[:1].strip() and _text(pair)[-1:].strip()
    ]
    notes.count(GLUED, len({id(pair) for pair in glued}))
    return pairs


def _text(pair: Pair) -> str:
    return prompt_text(pair.ranked.prompt) or ""
