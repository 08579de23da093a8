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


def curve_range(values: Sequence[float], is_percent: bool, is_log: bool) -> tuple[float | None, float | None]:
    """As `value_range`, unless that would flatten the curve; None is as low or high as there is something.

    >>> curve_range([12.0, 37.5], True, False), curve_range([0.95, 1.0], False, False), curve_range([1.0], False, True)
    ((0.0, 40.0), (None, None), (None, None))
    """
    finite = [value for value in values if math.isfinite(value)]
    if is_log or not finite or (min(finite) > 0 and max(finite) - min(finite) < 0.2 * max(finite)):
        return None, None
    return value_range(finite, is_percent)
