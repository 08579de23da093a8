"""Cells of a row: prompts, answers, messages, margins; every error names the place and the column.

A prompt is a text or a list of chat messages; an answer is a text, or the one message that stands for it. Deliberately
left out: what the columns mean together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ponder.errors import RecipeError
from ponder.ranking import Ranks
from ponder.row_text import refuse_bad_text

Row = Mapping[str, object]
Turn = tuple[str, str]
"""(role, content) of one chat message."""
Prompt = str | tuple[Turn, ...]


def read_list(row: Row, column: str, place: str) -> list[object]:
    value = row.get(column)
    if not isinstance(value, list | tuple):
        raise RecipeError(
            f"{place}: `{column}` is {type(value).__name__}, and not a list", "CSV has no lists: JSONL and Parquet have"
        )
    return list(value)


def read_rank(value: object, place: str) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise RecipeError(f"{place}: the rank `{value}` is no whole number", "1 is best, equal is a tie, null is unranked")


def read_margin(row: Row, place: str, ranks: Ranks) -> float:
    value = row.get("margin")
    if value is None:
        return 0.0
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
        raise RecipeError(f"{place}: the margin `{value}` is no number from 0", "leave `margin` out, or null")
    if value and len(ranks) != 2:
        raise RecipeError(f"{place}: there is a `margin`, and {len(ranks)} answers", "a margin stands beside a pair")
    return float(value)


def read_answer(value: object, column: str, place: str) -> str:
    """A text, or the content of the one message that stands for it. It may be empty."""
    if isinstance(value, list) and len(value) == 1:
        ((role, content),) = read_turns(value, column, place)
        if role == "assistant":
            return content
    if not isinstance(value, str):
        raise RecipeError(f"{place}: `{column}` holds {type(value).__name__}, and no text", "an answer is a text")
    refuse_bad_text(value, column, place)
    return value


def read_prompt(value: object, column: str, place: str) -> Prompt:
    if isinstance(value, list):
        return read_turns(value, column, place)
    if not isinstance(value, str) or not value.strip():
        what = "empty" if isinstance(value, str) else f"{type(value).__name__}, and no text"
        raise RecipeError(f"{place}: `{column}` is {what}", "a prompt is a text, or a list of messages")
    refuse_bad_text(value, column, place)
    return value


def read_turns(value: Sequence[object], column: str, place: str) -> tuple[Turn, ...]:
    turns = []
    for message in value:
        role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
        if not isinstance(role, str) or not isinstance(content, str):
            raise RecipeError(
                f"{place}: `{column}` holds a message without a text",
                'a message is {"role": "user", "content": "..."}, and its content is text',
            )
        refuse_bad_text(f"{role}{content}", column, place)
        turns.append((role, content))
    if not turns:
        raise RecipeError(f"{place}: `{column}` has no message", "give at least one message")
    return tuple(turns)


def messages(prompt: Prompt) -> list[dict[str, str]]:
    """A prompt as chat messages; a text is what a user says."""
    turns = (("user", prompt),) if isinstance(prompt, str) else prompt
    return [{"role": role, "content": content} for role, content in turns]


def prompt_text(prompt: Prompt) -> str | None:
    """A prompt that is one text, or one message of a user, as its text; None for a dialogue."""
    if isinstance(prompt, str):
        return prompt
    return prompt[0][1] if len(prompt) == 1 and prompt[0][0] == "user" else None


def text_of(row: Row, column: str) -> str:
    """A text that may be missing."""
    value = row.get(column)
    return value if isinstance(value, str) else ""


def number_of(row: Row, column: str) -> int:
    """A whole number that may be missing."""
    value = row.get(column)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value == value else 0
