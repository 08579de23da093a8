"""How often the console asks and paints by itself; what a key does is shown at once at any pace.

Deliberately left out: when the line to the terminal is slow (`tui.pacing`), and who obeys (`tui.feed`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Pace:
    """At most so many of each a second."""

    pulls_per_s: float
    paints_per_s: float


FULL = Pace(pulls_per_s=2.0, paints_per_s=10.0)
SLOW = Pace(pulls_per_s=0.2, paints_per_s=1.0)


class Thrift(StrEnum):
    """What a person wants of the line."""

    AUTO = "auto"
    """Slow while the line is."""
    ON = "on"
    OFF = "off"

    @property
    def next(self) -> Thrift:
        """What comes after it when a key goes through all."""
        order = list(Thrift)
        return order[(order.index(self) + 1) % len(order)]


def choose_pace(thrift: Thrift, is_line_slow: bool) -> Pace:
    """The pace for now.

    >>> choose_pace(Thrift.AUTO, True) is SLOW, choose_pace(Thrift.OFF, True) is SLOW
    (True, False)
    """
    return SLOW if thrift is Thrift.ON or (thrift is Thrift.AUTO and is_line_slow) else FULL
