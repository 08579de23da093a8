"""A number written once more: a task in which nothing can be thought over, and so nothing rescued.

It is the control of the reflection detector: whatever a policy writes around the number, answers with a badge must be
rarer than 0.5 %. Part `correct` is 1 where the last number of the text is the one that was asked for. Deliberately left
out: everything that would take more than one step.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from trainer.markers import Markers, natural_markers
from trainer.tasks import Candidate, Problem
from trainer.tasks.arithmetic import HELD_OUT_SHARE, NUMBER


@dataclass(frozen=True)
class Copying:
    """`trainer.tasks.Task`."""

    largest: int = 99
    markers: Markers = field(default_factory=natural_markers)

    name = "copying"
    parts = ("correct", "format")
    verifier = None

    def training_problem(self, seed: int, index: int) -> Problem:
        return self._draw(f"train {seed} {index}", is_held_out=False)

    def held_out(self, count: int) -> list[Problem]:
        return [self._draw(f"held out {index}", is_held_out=True) for index in range(count)]

    def _draw(self, seed: str, *, is_held_out: bool) -> Problem:
        rng = random.Random(seed)
        while True:
            number = rng.randint(1, self.largest)
            if (number % HELD_OUT_SHARE == 0) is is_held_out:
                return Problem(f"copying {number}", f"Copy this number: {number}", (number,), number)

    def score(self, problem: Problem, text: str) -> Mapping[str, float | None]:
        found = self.candidates(problem, text)
        return {"correct": float(bool(found) and found[-1].is_right), "format": float(bool(found))}

    def reference(self, problem: Problem) -> str:
        return str(problem.target)

    def candidates(self, problem: Problem, text: str) -> list[Candidate]:
        return [
            Candidate(*match.span(), match.group(), int(match.group()) == problem.target)
            for match in NUMBER.finditer(text)
        ]

    def true_steps(self, text: str) -> tuple[int, int]:  # noqa: ARG002  # it has no steps
        return 0, 0

    def verdicts(self, problem: Problem, text: str) -> list[tuple[bool, bool]]:  # noqa: ARG002  # nor verdicts
        return []
