"""Text into a reward: named parts, each with a weight that a person chooses.

    __init__      the words that the others share
    form          `format`: thinking and answer in their tags
    length        `length` and `overlong`
    repetition    `repetition`: how much of a text it has said before
    language      `language`: whether a text keeps to one script
    maths         whether two mathematical expressions are equal; runs in a worker
    judge         all parts of many answers, weighed
    combine       the parts of a group's answers, normalised or not, in one number each
    pool          worker processes for code that may hang, crash or eat memory
    worker        what runs in one of them
    frames        what the two say to each other

A part that could not be scored is None, and so is then the reward: unscored is not zero. The built-in parts are pure
functions of text and never raise on it; a bug in a part of the user's own makes answers unscored, and pauses the run
when it hits them all. Deliberately left out: comparing answers (`ponder.advantages`), and reflection, which may never
be rewarded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Scored:
    """One answer's reward and where it comes from."""

    reward: float | None
    parts: dict[str, float]
    """Those that could be scored, before their weights."""
    error: str
    """Which part could not be scored, at which stage, and why."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """What each of them weighs, where it does."""

    @property
    def is_correct(self) -> bool | None:
        return None if "correct" not in self.parts else self.parts["correct"] >= 1.0
