"""Which runs a run's past belongs to: its own steps, and before them those of the run that it was forked from.

    countdown-zero-3   0 ......... 40 ......... 60
    countdown-zero-4                └ 40 ...... 100         its past: -3 up to and with step 40, then its own

Numbers are read through the lineage and never copied. Deliberately left out: texts, which stay with the run whose they
are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite3 import Connection

END = 2**62


@dataclass(frozen=True)
class Part:
    """A part of a run's past: what a run did, up to and with step `last`."""

    run_id: int
    last: int


def lineage(connection: Connection, run_id: int) -> list[Part]:
    """The parts of a run's past, the oldest first and its own at the end. Where two tell of a step, the later holds."""
    parts = [Part(run_id, END)]
    while True:
        parent, forked_at = connection.execute(
            "SELECT parent_id, forked_at FROM runs WHERE id = ?", (parts[0].run_id,)
        ).fetchone()
        if parent is None:
            return parts
        parts.insert(0, Part(parent, min(forked_at, parts[0].last)))
