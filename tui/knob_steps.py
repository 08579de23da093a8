"""The next value above or below a knob's, as `+` and `-` choose it.

Deliberately left out: whether it may be changed at all (`ponder.knobs`).
"""

from __future__ import annotations

import math

from ponder.errors import KnobError
from ponder.knobs import Declaration, KnobValue, check_value, format_value

LOG_STEP = 1.25
SHARE_OF_VALUE = 0.1
"""A linear step is a tenth of the value, rounded to one digit."""


def stepped(knob: Declaration, value: KnobValue, steps: int) -> KnobValue:
    """`value` moved by so many steps, kept inside the knob's bounds.

    >>> from ponder.knobs import DECLARATIONS
    >>> stepped(DECLARATIONS["optim.lr"], 0.001, 1), stepped(DECLARATIONS["policy.clip_low"], 0.2, -1)
    (0.00125, 0.18)
    >>> stepped(DECLARATIONS["policy.normaliser"], "token", 1), stepped(DECLARATIONS["sampling.group_size"], 8, 1)
    ('sequence', 9)
    """
    if knob.kind == "bool":
        return not value
    if knob.kind == "choice":
        place = knob.choices.index(str(value)) if value in knob.choices else 0
        return knob.choices[(place + steps) % len(knob.choices)]
    number = float(value)
    if knob.scale == "log":
        least = 1e-6
        moved = number * LOG_STEP**steps if number > 0 else max(0.0, steps * least)
    else:
        moved = number + steps * _linear_step(number, knob.kind == "int")
    low = knob.low if knob.low is not None else -math.inf
    high = knob.high if knob.high is not None else math.inf
    inside = min(max(moved, low), high)
    try:
        return check_value(knob.name, round(inside) if knob.kind == "int" else float(format_value(inside)))
    except KnobError:
        return value  # a bound that does not belong to the values itself


def _linear_step(number: float, is_whole: bool) -> float:
    """A tenth of the value, rounded to one digit; at least 1 for whole numbers, 0.01 for others near 0."""
    size = abs(number) * SHARE_OF_VALUE
    if is_whole:
        return max(1.0, _one_digit(size))
    return _one_digit(size) if size > 0 else 0.01


def _one_digit(size: float) -> float:
    """Rounded down to one digit.

    >>> _one_digit(0.028), _one_digit(9.6)
    (0.02, 9.0)
    """
    if size <= 0:
        return 0.0
    digit = 10.0 ** math.floor(math.log10(size))
    return float(f"{math.floor(size / digit + 1e-9) * digit:.6g}")
