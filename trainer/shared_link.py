"""The link of several processes that learn one policy: rank 0 tells, and what it hears all hear in the same call.

So every rank takes an order at the same step boundary. While rank 0 waits for an order, the others wait for rank 0.
Deliberately left out: the link itself, which rank 0 alone has (`trainer.link`).
"""

from __future__ import annotations

import msgspec

from ponder.events import PassingEvent, TrainerEvent
from ponder.wire import Order
from trainer.link import Link
from trainer.parallel import Ranks


class Told(msgspec.Struct, frozen=True):
    """What rank 0 hears at a step boundary."""

    orders: list[Order]
    is_ending: bool


class SharedLink:
    """A `trainer.link.Link` that all ranks have."""

    def __init__(self, link: Link | None, ranks: Ranks) -> None:
        """`link` is rank 0's window; the others have none."""
        self._link, self._ranks = link, ranks
        self.is_ending = False
        """As it was at the newest `commands`, the same for all."""

    def emit(self, event: TrainerEvent) -> None:
        if self._link:
            self._link.emit(event)

    def preview(self, event: PassingEvent) -> None:
        if self._link:
            self._link.preview(event)

    def commands(self, wait_s: float = 0.0) -> list[Order]:
        """Rank 0 waits for the first order, and the others for rank 0."""
        told = Told(self._link.commands(wait_s), self._link.is_ending) if self._link else Told([], False)
        told = self._ranks.of_first(told, Told)
        self.is_ending = told.is_ending
        return told.orders
