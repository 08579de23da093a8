"""What a curve is drawn against: the step, or what all steps up to it have cost.

    step      as it is counted
    compute   floating-point operations   the sum of `compute/flops`      on a logarithmic axis, as the next two
    tokens    tokens sampled or learnt    the sum of `compute/tokens`
    seconds   seconds of the steps        the sum of `time/step`

Each step tells its own cost and nothing is counted on, so that sums hold through resumptions, stages and forks.
Deliberately left out: drawing (`ponder.plot_text`, `ponder.curve_svg`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from enum import StrEnum
from itertools import accumulate

from ponder.errors import UsageError


class Axis(StrEnum):
    """See the module."""

    STEP = "step"
    COMPUTE = "compute"
    TOKENS = "tokens"
    SECONDS = "seconds"

    @property
    def source(self) -> str:
        """The metric that is added up; empty for steps."""
        from ponder import metrics  # every command would pay for it

        return {
            Axis.COMPUTE: metrics.COMPUTE_FLOPS, Axis.TOKENS: metrics.COMPUTE_TOKENS, Axis.SECONDS: metrics.STEP_S,
        }.get(self, "")  # fmt: skip

    @property
    def is_log(self) -> bool:
        return self is not Axis.STEP

    @property
    def label(self) -> str:
        """What stands below the axis."""
        return {Axis.COMPUTE: "FLOP", Axis.SECONDS: "s"}.get(self, str(self))


def find_axis(word: str) -> Axis:
    """The axis of this name; raises UsageError."""
    if word not in list(Axis):
        raise UsageError(f"`--x` cannot be `{word}`", f"it takes {', '.join(Axis)}")
    return Axis(word)


class Places:
    """Where steps stand on an axis."""

    def __init__(self, axis: Axis, costs: Sequence[tuple[int, float]]) -> None:
        """`costs` are (step, cost) of every step, in order."""
        self.axis = axis
        self._steps = [step for step, _ in costs]
        self._sums = list(accumulate(cost for _, cost in costs))

    def x(self, step: float) -> float:
        """All that was spent once `step` was done.

        >>> places = Places(Axis.TOKENS, [(1, 10.0), (2, 30.0), (4, 5.0)])
        >>> [places.x(step) for step in (0, 1, 3, 4, 9)]
        [0.0, 10.0, 40.0, 45.0, 45.0]
        """
        if self.axis is Axis.STEP:
            return float(step)
        done = bisect_right(self._steps, step)
        return self._sums[done - 1] if done else 0.0

    def is_drawn(self, step: float) -> bool:
        """Before anything was spent there is no logarithm."""
        return not self.axis.is_log or self.x(step) > 0

    def moved(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        """The points by what was spent, as far as they are drawn."""
        return [(self.x(step), value) for step, value in points if self.is_drawn(step)]

    def moved_bands(self, bands: Sequence[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
        """The same of bands."""
        return [(self.x(step), low, high) for step, low, high in bands if self.is_drawn(step)]
