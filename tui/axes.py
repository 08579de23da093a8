"""Ranges of axes that end in numbers which a person can say.

Deliberately left out: drawing (`ponder.plot_text`, `tui.widgets`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

STEPS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


def round_up(value: float) -> float:
    """The next such number from a positive value on.

    >>> [round_up(value) for value in (0.44, 21.7, 90.0, 100.0)]
    [0.5, 25.0, 100.0, 100.0]
    """
    size: float = 10.0 ** math.floor(math.log10(value))
    return next(step * size for step in STEPS if step * size >= value * 0.9999)


def value_range(values: Sequence[float], is_percent: bool) -> tuple[float, float]:
    """From 0, or from below it where a value is, to just above the greatest; a percentage ends at 100.

    >>> value_range([12.0, 37.5], True), value_range([-3.0, 9.0], False)
    ((0.0, 40.0), (-3.0, 10.0))
    """
    finite = [value for value in values if math.isfinite(value)]
    low = min([0.0, *finite])
    most = round_up(max([1.0 if is_percent else 0.01, *finite]))
    return (-round_up(-low) if low < 0 else 0.0), min(most, 100.0) if is_percent else most
