"""What stands beside a knob's type in its annotation: unit, when it acts, whence its default.

Apart from `ponder.knobs`, so that a group of knobs can be declared in a file of its own. Deliberately left out: the
knobs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TakesEffect(StrEnum):
    """When a changed knob begins to act."""

    NEXT_STEP = "next step"
    NEXT_RUN = "next run"


@dataclass(frozen=True)
class Knob:
    """What stands beside a knob's type: unit, when it acts, whence its default."""

    unit: str = ""
    takes_effect: TakesEffect = TakesEffect.NEXT_STEP
    source: str = ""
    scale: str = "linear"
    """How a form steps through values: `linear` or `log`."""


LIVE = TakesEffect.NEXT_STEP
FIXED = TakesEffect.NEXT_RUN
