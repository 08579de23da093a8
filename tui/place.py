"""Where a console that did not end by its keys was: a line that dropped, a kill, a machine that went down.

    run, screen, and what each screen says of itself (`spot`): a filter, an order, the row under the cursor

The first console of a home keeps its place, by a lock that ends with it; those beside it keep none. Left by a key, the
place is forgotten. Deliberately left out: where it is kept (`tui.memory`), and what a spot means (the screens).
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from tui.memory import Memory

Spot = dict[str, str]
NAME = "place"


class Place:
    """One console's place in the memory; without a lock's path it is the only one."""

    def __init__(self, memory: Memory, lock: Path | None = None) -> None:
        self._memory = memory
        self._lock = lock
        self._held: int | None = None
        self._is_mine = lock is None
        self._spots: dict[str, Spot] = {}

    def take(self) -> tuple[str, str]:
        """Run and screen of the console that was cut off, or two empty texts."""
        if self._lock is not None:
            try:
                self._held = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._is_mine = True
            except OSError:
                return "", ""
        kept = self._memory.recall(NAME, {"": ""})
        for name, value in kept.items():
            screen, _, key = name.partition(".")
            if key:
                self._spots.setdefault(screen, {})[key] = value
        return kept.get("run", ""), kept.get("screen", "")

    def forget(self) -> None:
        """Nothing of what was found is of use: another run is watched."""
        self._spots.clear()

    def spot_of(self, screen: str) -> Spot:
        """What a screen said of itself; empty when it said nothing."""
        return self._spots.get(screen, {})

    def keep(self, run: str, screen: str, spot: Spot) -> None:
        """The person is here now."""
        if not self._is_mine or not run:
            return
        self._spots[screen] = spot
        spots = {f"{name}.{key}": value for name, kept in self._spots.items() for key, value in kept.items()}
        self._memory.keep(NAME, {"run": run, "screen": screen, **spots})

    def leave(self) -> None:
        """Left by a key: the next console begins anew."""
        if self._is_mine:
            self._memory.keep(NAME, {})
