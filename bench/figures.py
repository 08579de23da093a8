"""One measured number beside what was asked of it: the row of `make bench`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    name: str
    measured: float
    unit: str
    target: float
    at_least: bool
    note: str = ""

    @property
    def is_met(self) -> bool:
        return self.measured >= self.target if self.at_least else self.measured <= self.target
