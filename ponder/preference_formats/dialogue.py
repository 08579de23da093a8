"""Pairs that bring their prompt with them: two dialogues that differ in the last answer, as messages or as text.

    messages    the prompt is what both lists begin with
    HH-RLHF     "\\n\\nHuman: ... \\n\\nAssistant: ...", arXiv:2204.05862
    plain text  refused: where two texts begin alike tells not where the prompt ends

Deliberately left out: the other columns of a row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ponder.errors import RecipeError
from ponder.preference_formats.cells import Prompt, Row, Turn, read_answer, read_margin, read_prompt, read_turns

HH_TURN = re.compile(r"\n\n(Human|Assistant):")
HH_ROLES = {"Human": "user", "Assistant": "assistant"}
HH_NAMES = {role: name for name, role in HH_ROLES.items()}


def read_pair(row: Row, place: str) -> tuple[Prompt, str, str, float]:
    """(prompt, better, worse, margin) of a row with `chosen` and `rejected`, in every shape that people have."""
    chosen, rejected = row["chosen"], row["rejected"]
    prompt: Prompt | None = None if row.get("prompt") is None else read_prompt(row["prompt"], "prompt", place)
    if isinstance(chosen, str) and isinstance(rejected, str):
        better, worse = read_answer(chosen, "chosen", place), read_answer(rejected, "rejected", place)
        if prompt is None:
            prompt, better, worse = split_hh(better, worse, place)
    elif isinstance(chosen, list) and isinstance(rejected, list):
        prompt, better, worse = split_chats(
            prompt, read_turns(chosen, "chosen", place), read_turns(rejected, "rejected", place), place
        )
    else:
        raise RecipeError(
            f"{place}: `chosen` is {type(chosen).__name__} and `rejected` is {type(rejected).__name__}",
            "give both as text, or both as a list of messages",
        )
    return prompt, better, worse, read_margin(row, place, (1, 2))


def split_hh(chosen: str, rejected: str, place: str) -> tuple[Prompt, str, str]:
    """(prompt, better, worse) of two HH-RLHF dialogues that differ in the last answer."""
    (shared, mark, better), (other, _, worse) = (text.rpartition("\n\nAssistant:") for text in (chosen, rejected))
    parts = HH_TURN.split(shared)
    if not mark or shared != other or parts[0].strip() or len(parts) < 3:
        raise RecipeError(
            f"{place} has no column `prompt`, and its texts are no dialogues that differ in the last answer",
            "add the column `prompt`, or give lists of messages",
        )
    turns = tuple((HH_ROLES[role], text.removeprefix(" ")) for role, text in zip(parts[1::2], parts[2::2], strict=True))
    return turns, better.removeprefix(" "), worse.removeprefix(" ")


def plain_dialogue(turns: Sequence[Turn]) -> str:
    """Messages as plain text, up to the next answer; the form of HH-RLHF.

    >>> plain_dialogue([("user", "Hi"), ("assistant", "Hello"), ("user", "2 + 2?")])
    '\\n\\nHuman: Hi\\n\\nAssistant: Hello\\n\\nHuman: 2 + 2?\\n\\nAssistant:'
    """
    said = "".join(f"\n\n{HH_NAMES[role]}: {text}" if role in HH_NAMES else text for role, text in turns)
    return f"{said}\n\nAssistant:"


def split_chats(
    prompt: Prompt | None, chosen: tuple[Turn, ...], rejected: tuple[Turn, ...], place: str
) -> tuple[Prompt, str, str]:
    """(prompt, better, worse) of two message lists that begin alike and end in one answer each."""
    alike = 0
    while alike < min(len(chosen), len(rejected)) - 1 and chosen[alike] == rejected[alike]:
        alike += 1
    shared = chosen[:alike]
    for column, turns in (("chosen", chosen), ("rejected", rejected)):
        if len(turns) != alike + 1 or turns[-1][0] != "assistant":
            raise RecipeError(
                f"{place}: `{column}` does not end in one message of the assistant after what both share",
                "`chosen` and `rejected` may differ in the last answer only",
            )
    said = () if prompt is None else ((("user", prompt),) if isinstance(prompt, str) else prompt)
    if said and shared and shared[-len(said) :] != said:
        raise RecipeError(
            f"{place}: `prompt` is not how `chosen` and `rejected` begin", "leave `prompt` out, or the shared messages"
        )
    if not shared and prompt is None:
        raise RecipeError(f"{place}: `chosen` and `rejected` share no message", "they begin with the prompt's messages")
    return shared or prompt or "", chosen[-1][1], rejected[-1][1]
