"""Where the time of a step goes: the phases that the trainer measures, their shares, and a sentence about the longest.

    step 41   sssssssssssslllllllv   1.21 s      s sampling, r scoring, l learning, t telling, o other
                                                 v evaluating and c saving stand between two steps

Deliberately left out: what the machine does meanwhile (`ponder.wire.System`), and drawing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ponder import metrics


@dataclass(frozen=True)
class Phase:
    """One thing that a step spends time on."""

    sign: str
    word: str
    metric: str
    hint: str
    """What shortens it."""


PHASES = (
    Phase("s", "sampling", metrics.SAMPLE_S, "fewer or shorter answers (`sampling.max_new_tokens`) shorten it"),
    Phase("r", "scoring", metrics.SCORE_S, "more reward workers (`at_once`) or quicker reward code shorten it"),
    Phase("l", "learning", metrics.LEARN_S, "larger micro-batches (`optim.micro_batch_tokens`) may shorten it"),
    Phase("t", "telling", metrics.TELL_S, "a faster disk shortens it"),
    Phase("o", "other", "", "it is what no phase accounts for"),
    Phase("v", "evaluating", metrics.EVALUATE_S, "a larger `evaluation.every_steps` or fewer `evaluation.problems` do"),
    Phase("c", "saving", metrics.SAVE_S, "a larger `saving.every_steps` shortens it"),
)
BETWEEN = (metrics.EVALUATE_S, metrics.SAVE_S)
"""Phases that `time/step` does not include."""
ASKED = (metrics.STEP_S, *(phase.metric for phase in PHASES if phase.metric))
OTHER = PHASES[4]
RECENT = 20


@dataclass(frozen=True)
class StepTime:
    """The seconds of one step, by the signs of its phases."""

    step: int
    seconds: Mapping[str, float]

    @property
    def total_s(self) -> float:
        return sum(self.seconds.values())


def step_times(curves: Mapping[str, Sequence[tuple[int, float]]]) -> list[StepTime]:
    """The steps whose length is known, oldest first.

    >>> times = step_times({"time/step": [(1, 2.0)], "time/sample": [(1, 1.5)], "time/save": [(1, 0.5)]})
    >>> times[0].seconds, times[0].total_s
    ({'s': 1.5, 'o': 0.5, 'c': 0.5}, 2.5)
    """
    values = {name: dict(points) for name, points in curves.items()}
    found = []
    for step, length_s in curves.get(metrics.STEP_S, []):
        if not math.isfinite(length_s):
            continue
        parts = {phase.sign: values.get(phase.metric, {}).get(step, 0.0) for phase in PHASES if phase.metric}
        inside = sum(parts[phase.sign] for phase in PHASES if phase.metric and phase.metric not in BETWEEN)
        parts[OTHER.sign] = max(0.0, length_s - inside)
        ordered = {phase.sign: parts[phase.sign] for phase in PHASES if parts[phase.sign] > 0}
        found.append(StepTime(step, ordered))
    return found


def shares(times: Sequence[StepTime]) -> list[tuple[Phase, float]]:
    """Each phase's share of all these steps, the longest first."""
    whole = sum(time.total_s for time in times)
    if whole <= 0:
        return []
    of_all = [(phase, sum(time.seconds.get(phase.sign, 0.0) for time in times) / whole) for phase in PHASES]
    return sorted([(phase, share) for phase, share in of_all if share > 0], key=lambda found: -found[1])


def bottleneck(times: Sequence[StepTime]) -> str:
    """One sentence about what the last steps wait for most; empty where nothing is known.

    >>> bottleneck([StepTime(1, {"s": 3.0, "l": 1.0})])
    'sampling takes 75 % of a step, learning 25 %'
    """
    found = shares(times[-RECENT:])
    if not found:
        return ""
    (first, share), *others = found
    second = f", {others[0][0].word} {100 * others[0][1]:.0f} %" if others else ""
    return f"{first.word} takes {100 * share:.0f} % of a step{second}"


def advice(times: Sequence[StepTime]) -> str:
    """What shortens the longest phase."""
    found = shares(times[-RECENT:])
    return found[0][0].hint if found else ""


def bar(time: StepTime, longest_s: float, cells: int) -> str:
    """The step as signs, as long as it took beside the longest; every phase that can be seen has a cell.

    >>> bar(StepTime(1, {"s": 3.0, "l": 1.0}), 4.0, 8), bar(StepTime(1, {"s": 1.0, "l": 1.0}), 4.0, 8)
    ('ssssssll', 'ssll')
    """
    if longest_s <= 0 or cells <= 0:
        return ""
    drawn, reached_s = "", 0.0
    for sign, seconds in time.seconds.items():
        reached_s += seconds
        drawn += sign * (round(cells * reached_s / longest_s) - len(drawn))
    return drawn
