"""Where an answer turns back on itself, and what that did.

A marker is a word at which a turn may happen (`trainer.markers`). A strong one counts alone; a weak one ("wait", "but")
counts only where something speaks for it: an interim answer stands before it, and another after it, or its token was
a fork. What a turn did is read from the answers around it:

    candidate before   next candidate      final answer    outcome
    wrong              another             right           rescued
    right              any                 wrong           harmed
    right              any                 right           confirmed
    wrong              another             wrong           moved
    wrong              the same or none    any             stuck
    none               any                 any             unanchored
    any                none, and the token limit cut it    truncated

Superficial is what is stuck, confirmed by a copy of what stood there already, or a round of a loop. Most turns that
language models write change nothing (arXiv:2510.08308), so each outcome has its own word, and nothing here may enter a
reward: pressure on the chain of thought teaches concealment (arXiv:2503.11926).

Deliberately left out: what the tokens say (`trainer.evidence`), and judging by another model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from ponder.events import Mark, Outcome, outcome_of_all
from trainer.folding import folded
from trainer.markers import STRONG, Markers
from trainer.spotting import spot

if TYPE_CHECKING:
    from trainer.tasks import Candidate

ONE_TURN_CHARACTERS = 60
"""Markers nearer to each other, with no candidate between them, are one turn: "wait, let me check that again"."""
_EDGES = " \t\n,.:;!?*_-"


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
    def outcome(self) -> Outcome | None:
        """What they come to, as `ponder.events.Rollout.outcome`."""
        return outcome_of_all(self.marks)

    @property
    def is_superficial(self) -> bool:
        """Reflects, and no turn changed anything."""
        return self.reflects and all(mark.is_superficial for mark in self.marks)


def find_reflections(
    text: str,
    candidates: Sequence[Candidate],
    is_correct: bool | None,
    markers: Markers,
    *,
    prompt: str = "",
    is_truncated: bool = False,
    is_fork: Callable[[int], bool] = lambda _: False,
) -> Reflections:
    """The turns of `text` in order, given its interim answers and whether the final one is right.

    Where that is not known, the last interim answer decides. `is_fork` says of a place in the text whether its token
    was drawn from a distribution that left much open.
    """
    is_right = (bool(candidates) and candidates[-1].is_right) if is_correct is None else is_correct
    marks: list[Mark] = []
    said_until = 0
    said_between: tuple[Candidate | None, Candidate | None] = (None, None)
    for found in spot(text, markers, prompt):
        before = next((c for c in reversed(candidates) if c.end <= found.start), None)
        after = next((c for c in candidates if c.start >= found.end), None)
        if found.marker.tier != STRONG and (before is None or (after is None and not is_fork(found.start))):
            continue
        is_same = marks and (before, after) == said_between and found.start - said_until < ONE_TURN_CHARACTERS
        said_until, said_between = found.end, (before, after)
        if is_same:
            marks[-1] = replace(marks[-1], tier=min(marks[-1].tier, found.marker.tier))
            continue
        marks.append(
            Mark(
                start=found.start,
                end=found.end,
                word=text[found.start : found.end],
                outcome=outcome_of(before, after, is_right, is_truncated),
                before=before.value if before else "",
                after=after.value if after else "",
                tier=found.marker.tier,
                kind=found.marker.kind,
                is_copy=after is not None and _stands_in(text[found.end : after.end], text[: found.start]),
                is_loop=found.is_loop,
            )
        )
    first_is_right = bool(candidates) and candidates[0].is_right
    has_wrong_first = bool(candidates) and not candidates[0].is_right
    return Reflections(
        marks,
        first_is_right,
        bool(marks) and has_wrong_first and is_right,
        bool(marks) and first_is_right and not is_right,
    )


def outcome_of(before: Candidate | None, after: Candidate | None, is_right: bool, is_truncated: bool) -> Outcome:
    """What a turn between these two did."""
    if before is None:
        return Outcome.UNANCHORED
    if after is None and is_truncated:
        return Outcome.TRUNCATED
    if before.is_right:
        return Outcome.CONFIRMED if is_right else Outcome.HARMED
    if after is None or after.value == before.value:
        return Outcome.STUCK
    return Outcome.RESCUED if is_right else Outcome.MOVED


def _stands_in(piece: str, text: str) -> bool:
    """Whether a piece stands in a text word for word, but for case and the signs around it."""
    sought = " ".join(folded(piece).strip(_EDGES).split())
    return bool(sought) and sought in " ".join(folded(text).split())
