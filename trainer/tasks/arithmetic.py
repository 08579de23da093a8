"""Sums in plain language, for real language models: what is 7 + 15?

The answer is the last number that the text states, so that a chain of thought may come first. Part `correct` is 1 for
the right number; `format` is 1 when the text says its answer at all. Deliberately left out: a curriculum.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from trainer.markers import Markers, natural_markers
from trainer.tasks import Candidate, Problem
from trainer.tasks.countdown import calculate

HELD_OUT_SHARE = 5
"""One problem in so many is held out, by a hash of its text."""
INTEGER = r"(?<![\w.])-?\d{1,9}(?![\w]|\.\d)"
STEP = re.compile(rf"({INTEGER})\s*([-+*×x])\s*(\d{{1,9}})\s*=\s*({INTEGER})")
STATED = re.compile(
    rf"(?:=|\bis|\bequals|\banswer:?|\bget|\bmakes)\s*(?:\*\*|\$|\\boxed\{{)?\s*({INTEGER})", re.IGNORECASE
)
NUMBER = re.compile(INTEGER)


@dataclass(frozen=True)
class Arithmetic:
    """Two numbers and an operator; `trainer.tasks.Task`."""

    largest: int = 50
    operators: str = "+-*"
    markers: Markers = field(default_factory=natural_markers)

    name = "arithmetic"
    parts = ("correct", "format")
    verifier = None

    def training_problem(self, seed: int, index: int) -> Problem:
        return self._draw(f"train {seed} {index}", is_held_out=False)

    def held_out(self, count: int) -> list[Problem]:
        return [self._draw(f"held out {index}", is_held_out=True) for index in range(count)]

    def _draw(self, seed: str, *, is_held_out: bool) -> Problem:
        rng = random.Random(seed)
        while True:
            left, right = rng.randint(1, self.largest), rng.randint(1, self.largest)
            operator = rng.choice(self.operators)
            key = f"arithmetic {left} {operator} {right}"
            if (random.Random(key).randrange(HELD_OUT_SHARE) == 0) is is_held_out:
                prompt = f"Calculate {left} {operator} {right} and end with the answer."
                return Problem(key, prompt, (left, right), calculate(left, operator, right))

    def score(self, problem: Problem, text: str) -> Mapping[str, float | None]:
        found = self.candidates(problem, text)
        return {"correct": float(bool(found) and found[-1].is_right), "format": float(bool(found))}

    def reference(self, problem: Problem) -> str:
        return str(problem.target)

    def candidates(self, problem: Problem, text: str) -> list[Candidate]:
        """Numbers that the text states as a result; where it states none, its last number."""
        matches = list(STATED.finditer(text))
        spans = [match.span(1) for match in matches]
        if not spans:
            spans = [match.span() for match in NUMBER.finditer(text)][-1:]
        return [Candidate(start, end, text[start:end], int(text[start:end]) == problem.target) for start, end in spans]

    def verdicts(self, problem: Problem, text: str) -> list[tuple[bool, bool]]:  # noqa: ARG002  # the task has none
        return []

    def true_steps(self, text: str) -> tuple[int, int]:
        steps = [match.groups() for match in STEP.finditer(text)]
        true = sum(
            calculate(int(left), "*" if operator in "×x" else operator, int(right)) == int(result)
            for left, operator, right, result in steps
        )
        return true, len(steps)
