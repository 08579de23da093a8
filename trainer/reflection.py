"""Where an answer turns back on itself, and what that did.

A marker is a word at which a turn may happen. A strong one ("that is wrong") counts alone; a weak one ("wait", "but")
counts only where the text holds an interim answer before and after it, and only where it opens a sentence or a line
or is followed by punctuation: most "wait"s and "but"s are ordinary prose. What a turn did is read from the answers
around it:

    candidate before   next candidate    final answer    outcome
    wrong              another           right           rescued
    right              any               wrong           harmed
    right              any               right           confirmed
    wrong              another           wrong           failed
    any                the same or none  (wrong before)  superficial
    none               any               any             superficial

Most turns that language models write change nothing (arXiv:2510.08308), so each outcome has its own word, and nothing
here may enter a reward: pressure on the chain of thought teaches concealment (arXiv:2503.11926).

Deliberately left out: tensors, tokens' entropies (the loop adds them), and judging by another model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from ponder.events import Mark, Outcome

if TYPE_CHECKING:
    from trainer.tasks import Candidate


@dataclass(frozen=True)
class Markers:
    """The words of a language or a task at which a turn may happen."""

    strong: tuple[str, ...]
    weak: tuple[str, ...]


ENGLISH = Markers(
    strong=(
        "re-evaluate", "reevaluate", "re-examine", "reexamine", "recheck", "re-check", "rethink", "reconsider",
        "double-check", "double check", "check again", "let me check", "let me verify", "let's check", "let's verify",
        "try again", "let me try another", "i made a mistake", "i made an error", "that is wrong", "that's wrong",
        "that is not right", "that's not right", "that is incorrect", "does not equal", "go back", "start over",
    ),
    weak=(
        "wait", "hmm", "actually", "however", "but", "alternatively", "check", "verify", "error", "wrong", "retry",
        "mistake", "no", "instead", "on second thought",
    ),
)  # fmt: skip
"""After oat-zero's and Dr. GRPO's lists (arXiv:2503.20783), with the weak words of DeepSeek-R1's count as a second
tier."""


@dataclass(frozen=True)
class Reflections:
    """All turns of one answer, and the answer's own fate."""

    marks: list[Mark]
    first_is_right: bool
    """Whether the first candidate is right."""
    is_rescued: bool
    """Reflects; first candidate wrong; final answer right."""
    is_harmed: bool
    """Reflects; first candidate right; final answer wrong."""

    @property
    def reflects(self) -> bool:
        return bool(self.marks)

    @property
    def is_superficial(self) -> bool:
        """Reflects, and no turn changed anything."""
        return self.reflects and all(mark.outcome is Outcome.SUPERFICIAL for mark in self.marks)


def find_reflections(
    text: str, candidates: Sequence[Candidate], is_correct: bool, markers: Markers = ENGLISH
) -> Reflections:
    """The turns of `text` in order, given its interim answers and whether the final one is right."""
    marks = []
    strong_pattern, weak_pattern = _patterns(markers)
    strong = {match.span(): match for match in strong_pattern.finditer(text)} if strong_pattern else {}
    weak = {match.span(): match for match in weak_pattern.finditer(text)} if weak_pattern else {}
    taken_until = -1
    for span in sorted({**weak, **strong}, key=lambda span: (span[0], -span[1])):
        if span[0] < taken_until:
            continue
        before = next((c for c in reversed(candidates) if c.end <= span[0]), None)
        after = next((c for c in candidates if c.start >= span[1]), None)
        if span not in strong and (before is None or after is None):
            continue
        taken_until = span[1]
        marks.append(
            Mark(
                start=span[0],
                end=span[1],
                word=text[span[0] : span[1]],
                outcome=_outcome(before, after, is_correct),
                before=before.value if before else "",
                after=after.value if after else "",
            )
        )
    first_is_right = bool(candidates) and candidates[0].is_right
    has_wrong_first = bool(candidates) and not candidates[0].is_right
    return Reflections(
        marks,
        first_is_right,
        bool(marks) and has_wrong_first and is_correct,
        bool(marks) and first_is_right and not is_correct,
    )


def _outcome(before: Candidate | None, after: Candidate | None, is_correct: bool) -> Outcome:
    if before is None:
        return Outcome.SUPERFICIAL
    if before.is_right:
        return Outcome.CONFIRMED if is_correct else Outcome.HARMED
    if after is None or after.value == before.value:
        return Outcome.SUPERFICIAL
    return Outcome.RESCUED if is_correct else Outcome.FAILED


@cache
def _patterns(markers: Markers) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
    """Whole words, longest first; a weak word needs a sentence's or line's beginning, or punctuation after it."""

    def words(tier: tuple[str, ...]) -> str:
        return "|".join(re.escape(word) for word in sorted(tier, key=len, reverse=True))

    strong = re.compile(rf"(?<!\w)(?:{words(markers.strong)})(?!\w)", re.IGNORECASE) if markers.strong else None
    opening = rf"(?:(?<=^)|(?<=[.!?\n] )|(?<=\n))(?:{words(markers.weak)})(?!\w)"
    stopped = rf"(?<!\w)(?:{words(markers.weak)})(?=\s*[,.!?:;…])"
    weak = re.compile(f"{opening}|{stopped}", re.IGNORECASE | re.MULTILINE) if markers.weak else None
    return strong, weak
