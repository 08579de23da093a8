"""The words by which a task's thinking is ended early, or made to go on: budget forcing, arXiv:2501.19393, section 3.

    tags        thinking ends at </think>; "Wait" is written in its place
    no tags     thinking ends with the answer; "Final answer:" ends it early, "Wait" is written in place of its end
    a task's    its own `forcing`, as countdown has: its language knows none of these words

Deliberately left out: tokens (`trainer.forced`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from trainer.rewards.form import ANSWER, THINK, THOUGHT
from trainer.tasks import Task

FINAL = "\n\nFinal answer:"
ANSWER_TOKENS = 64
"""Room that an answer gets, however much was thought."""


@dataclass(frozen=True)
class Forcing:
    """See the module."""

    closing: str
    """Written to end the thinking and begin the answer; empty: the language has no such words."""
    wait: str
    """Written in place of the end, so that it thinks on."""
    closed: str = ""
    """What the policy itself writes at the end of its thinking; empty: its end token alone."""
    stops: tuple[str, ...] = ()
    """Words before which an answer ends that was forced without a `closing`."""
    settled: tuple[str, ...] = ()
    """It is not made to go on after these: by its own words nothing is left to think about."""
    answer_tokens: int = ANSWER_TOKENS


TAGGED = Forcing(f"{THOUGHT}\n\n", "\nWait", THOUGHT)
R1 = Forcing(f"{THOUGHT}\n{ANSWER}", "\nWait", THOUGHT)
PLAIN = Forcing(FINAL, "\nWait")


@runtime_checkable
class HasForcing(Protocol):
    """A task with words of its own."""

    @property
    def forcing(self) -> Forcing:
        """Its words."""


def forcing_of(task: Task, template: str, chat_template: str) -> Forcing:
    """The words for a task that is asked through these templates."""
    if template == "r1":
        return R1
    if isinstance(task, HasForcing):
        return task.forcing
    return TAGGED if THINK in chat_template else PLAIN
