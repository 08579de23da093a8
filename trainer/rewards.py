"""Text into a reward: named parts, each with a weight that a person chooses.

A task scores parts; this adds those that any task has (length) and weighs them. A part that could not be scored is
None, and so is then the reward: unscored is not zero. Never raises on model text; a bug in a task does raise, and
stops the run, rather than teaching the policy that everything is worth nothing.

Deliberately left out: comparing answers (`trainer.advantages`), and reflection, which may never be rewarded.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from ponder.knobs import Reward
from trainer.tasks import Problem, Task


@dataclass(frozen=True)
class Scored:
    """One answer's reward and where it comes from."""

    reward: float | None
    parts: dict[str, float]
    """Those that could be scored, before their weights."""
    error: str

    @property
    def is_correct(self) -> bool | None:
        return None if "correct" not in self.parts else self.parts["correct"] >= 1.0


def score_answer(
    task: Task, problem: Problem, text: str, *, length_tokens: int, max_new_tokens: int, weights: Reward
) -> Scored:
    """The weighted sum of the parts: `correct`, `format` and what else the task gives, and `length` in shares of the
    limit."""
    parts: dict[str, float | None] = {**task.score(problem, text), "length": length_tokens / max_new_tokens}
    if weights.overlong:
        parts["overlong"] = soft_overlong(length_tokens, max_new_tokens, weights.overlong_share)
    weight_by_part = msgspec.structs.asdict(weights)
    missing = [name for name, value in parts.items() if value is None and weight_by_part.get(name, 0.0) != 0.0]
    known = {name: value for name, value in parts.items() if value is not None}
    if missing:
        return Scored(None, known, f"could not score {', '.join(missing)}")
    return Scored(sum(weight_by_part.get(name, 0.0) * value for name, value in known.items()), known, "")


def soft_overlong(length_tokens: int, max_new_tokens: int, share: float) -> float:
    """0 for a short answer, falling to -1 at the token limit over its last `share`; DAPO, arXiv:2503.14476, eq. 13.

    R = 0 where |o| <= L - c, ((L - c) - |o|) / c where |o| <= L, with the cache c = share L

    >>> [soft_overlong(length, 100, 0.2) for length in (80, 90, 100)]
    [0.0, -0.5, -1.0]
    """
    cache = share * max_new_tokens
    return min(0.0, max(-1.0, (max_new_tokens - cache - length_tokens) / cache))
