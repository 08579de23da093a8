"""One measured figure beside its target.

Deliberately left out: measuring, and the table of all figures.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """What was measured, and what it should have been."""

    name: str
    measured: float
    unit: str
    target: float
    at_least: bool
    """Whether more is better; else the target is what may not be exceeded."""
    note: str = ""

    @property
    def is_met(self) -> bool:
        return self.measured >= self.target if self.at_least else self.measured <= self.target
