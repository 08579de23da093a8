"""The trainer's only window: what happened goes out, what is wanted comes in.

The worker process of the daemon has one that journals and relays; `ListLink` is for tests, measurements and everyone
who wants to train without a daemon. Deliberately left out: sockets, files, threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from ponder.events import PassingEvent, TrainerEvent
from ponder.wire import Order


class Link(Protocol):
    """What the loop needs of the world."""

    @property
    def is_ending(self) -> bool:
        """Whether the process was told to end: the run saves at its next step boundary and goes on another day."""

    def emit(self, event: TrainerEvent) -> None:
        """Take a durable event. Returns quickly; must not lose it."""

    def preview(self, event: PassingEvent) -> None:
        """Take a passing event; may be dropped. Returns at once."""

    def commands(self, wait_s: float = 0.0) -> list[Order]:
        """The orders that came since the last call, oldest first; waits up to `wait_s` for the first one."""


class ListLink:
    """A link to lists in the same process.

    What is put into `waiting` is handed out at the next step boundary. `on_event` sees each durable event as it comes,
    and may put orders there.
    """

    def __init__(self, on_event: Callable[[TrainerEvent], None] | None = None, *, keeps: bool = True) -> None:
        self.events: list[TrainerEvent] = []
        self.passing: list[PassingEvent] = []
        self.waiting: deque[Order] = deque()
        self.is_ending = False
        self.on_event = on_event
        self._keeps = keeps

    def emit(self, event: TrainerEvent) -> None:
        if self._keeps:
            self.events.append(event)
        if self.on_event:
            self.on_event(event)

    def preview(self, event: PassingEvent) -> None:
        if self._keeps:
            self.passing.append(event)

    def commands(self, wait_s: float = 0.0) -> list[Order]:
        if wait_s and not self.waiting:
            raise AssertionError("the run is held and nobody could put an order into this list")
        orders = list(self.waiting)
        self.waiting.clear()
        return orders
