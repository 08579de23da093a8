"""An answer taken apart: its thinking, its answer, what that comes to, and the thinking in a few lines.

    tags        thinking is what stands inside <think> </think>, or before </think> where the prompt has opened it
    no tags     the answer begins with the sentence that holds the last interim answer; what precedes it is thinking

A summary is extracted, not written: sentences that state an interim answer, and those that turn back. Nothing is added
to them. Deliberately left out: a model that summarises, and whether an answer is right (`trainer.tasks`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.markers import Markers
from trainer.reflection import find_reflections
from trainer.rewards.form import ANSWER, ANSWERED, THINK, THOUGHT
from trainer.tasks import Candidate
from trainer.tasks.final_answer import normal, to_number

SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
TAGS = re.compile(f"{re.escape(ANSWER)}|{re.escape(ANSWERED)}")
LINES_FIRST, LINES_LAST = 4, 3
"""Lines of a summary before and after what is left out of it."""


@dataclass(frozen=True)
class Parts:
    """An answer taken apart."""

    thinking: str
    answer: str
    value: str
    """What the answer comes to; empty where nothing is stated."""


def take_apart(text: str, candidates: Sequence[Candidate], *, is_opened: bool = False) -> Parts:
    """The parts of a text; `is_opened` where the prompt ends inside the thinking.

    >>> take_apart("<think>7 + 8 is 15</think> <answer>15</answer>", [])
    Parts(thinking='7 + 8 is 15', answer='15', value='')
    >>> tries = [Candidate(0, 5, "1 + 2", False), Candidate(14, 19, "1 * 2", True)]
    >>> take_apart("1 + 2 no wait 1 * 2 ok", tries)
    Parts(thinking='1 + 2 no wait', answer='1 * 2 ok', value='1 * 2')
    """
    value = candidates[-1].value if candidates else ""
    if (tagged := split_tags(text, is_opened=is_opened)) is not None:
        return Parts(*tagged, value)
    cut = _answer_start(text, candidates)
    return Parts(text[:cut].strip(), text[cut:].strip(), value)


def split_tags(text: str, *, is_opened: bool = False) -> tuple[str, str] | None:
    """(thinking, answer) of a text with tags, as far as it is written; None where there are none."""
    before, closed, after = text.partition(THOUGHT)
    lead, opened, inside = before.partition(THINK)
    if not (closed or opened or is_opened):
        return None
    thinking = inside if opened and not lead.strip() else before
    return thinking.strip(), TAGS.sub("", after).strip()


def _answer_start(text: str, candidates: Sequence[Candidate]) -> int:
    """Where the sentence with the last interim answer begins; the answer alone, where sentences have no ends."""
    if len(candidates) < 2:
        return 0
    last = candidates[-1]
    ends = [match.end() for match in SENTENCE_END.finditer(text, 0, last.start)]
    return ends[-1] if ends else last.start


def summarise(thinking: str, candidates: Sequence[Candidate], markers: Markers) -> list[str]:
    """The thinking in a few of its own sentences; `candidates` are those of the thinking.

    >>> from trainer.markers import own_words
    >>> tries = [Candidate(0, 9, "1 + 2", False), Candidate(18, 27, "1 * 2", False)]
    >>> summarise("1 + 2 = 3 no wait 1 * 2 = 2 no", tries, own_words("x", "wait"))
    ['1 + 2 = 3 no', 'wait 1 * 2 = 2 no']
    """
    turns = {mark.start for mark in find_reflections(thinking, candidates, False, markers).marks}
    cuts = {0, len(thinking)} | turns | {match.end() for match in SENTENCE_END.finditer(thinking)}
    places = sorted(cuts)
    states = [
        (start, end)
        for start, end in itertools.pairwise(places)
        if start in turns or any(start < candidate.end <= end for candidate in candidates)
    ]
    told = states or [(places[0], places[1])] if thinking.strip() else []
    lines = [" ".join(thinking[start:end].split()) for start, end in told]
    left_out = len(lines) - LINES_FIRST - LINES_LAST
    if left_out <= 1:
        return lines
    return [*lines[:LINES_FIRST], f"... {left_out} more", *lines[-LINES_LAST:]]


def tally(values: Sequence[str]) -> list[tuple[str, int]]:
    """How many answers came to each value, the most frequent first; the first one where two are as frequent.

    Numbers are the same however they are written, texts in either case; who stated nothing has no vote against others.

    >>> tally(["15", "", "15.0", "14", "", ""])
    [('15', 2), ('14', 1), ('', 3)]
    """
    counts: dict[str, tuple[str, int]] = {}
    for value in values:
        shown, count = counts.get(vote_of(value), (value, 0))
        counts[vote_of(value)] = (shown, count + 1)
    return sorted(counts.values(), key=lambda found: (not found[0], -found[1]))


def vote_of(value: str) -> str:
    """The same text for values that count as one."""
    number = to_number(value)
    return str(number) if number is not None else normal(value)
