"""What a bench module hands to the table of `make bench`: a measured number beside the target that it is held to.

Each module has `quick() -> list[Figure]`; the target stands in that module and nowhere else. Deliberately left out: how
numbers are measured (the modules), and the table (`bench.__main__`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured number.

    >>> Figure("a command", 0.21, "s", 0.3, at_least=False).is_met, Figure("a step", 1.9, "x", 2.0, True).is_met
    (True, False)
    """

    name: str
    measured: float
    unit: str
    target: float
    at_least: bool
    """Whether more is better: `measured >= target`, else `measured <= target`."""
    note: str = ""

    @property
    def is_met(self) -> bool:
        return self.measured >= self.target if self.at_least else self.measured <= self.target
