"""A window over a list that is too long to hold: the pages around the reader's eye, taken by key at either end.

    above ◄── grow(up)      rows      grow(down) ──► below          at most KEPT rows, the far end is let go

Deliberately left out: what a row looks like, and when the window should move (`tui.screens.samples`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from ponder import wire

PAGE = 128
KEPT = 8 * PAGE

Ask = Callable[[wire.GetSamples], Awaitable[wire.Samples | None]]
"""The page, or None when it could not be had."""


class Window:
    """The rows at hand; `asked` says of what run, filtered and sorted how."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self.asked = wire.GetSamples("", limit=PAGE)
        self.rows: list[wire.StoredRollout] = []
        self.total = 0
        """Answers of the run, before any filter."""
        self.above: int | None = 0
        """Rows above the window; None when nobody counted them."""
        self.is_last = False
        """Whether the last of all rows is in the window."""
        self.is_known = False
        """Whether the daemon has answered at all."""
        self.version = 0
        """Grows whenever the rows change."""
        self._index: dict[int, int] = {}

    @property
    def is_first(self) -> bool:
        """Whether the first of all rows was in the window when it was last looked for."""
        return self.above == 0

    def replace(self, stored: wire.StoredRollout) -> None:
        """A row says something else now."""
        place = self.place_of(stored.id)
        if place is not None:
            self._put([*self.rows[:place], stored, *self.rows[place + 1 :]])

    def place_of(self, rollout_id: int) -> int | None:
        """Where in the window a rollout is."""
        return self._index.get(rollout_id)

    async def begin(self, asked: wire.GetSamples) -> bool:
        """Show what this asks for, from its beginning, its end, or a step; False when it could not be had."""
        page = await self._ask(replace(asked, limit=PAGE))
        if page is None:
            return False
        self.asked = replace(asked, limit=PAGE, from_end=False, from_step=None, before_id=None, after_id=None)
        is_short = len(page.samples) < PAGE
        self.total, self.is_known = page.total, True
        if asked.from_end:
            self.above, self.is_last = 0 if is_short else None, True
        else:
            self.above, self.is_last = 0 if asked.from_step is None else None, is_short
        self._put(page.samples)
        if self.above is None and asked.from_end and is_plain(asked):
            self.above = max(0, page.total - len(page.samples))
        return True

    async def grow(self, up: bool) -> int:
        """Take one page more at an end; how many rows came."""
        if not self.rows:
            return 0
        edge = {"after_id": self.rows[0].id} if up else {"before_id": self.rows[-1].id}
        asked = self.asked
        page = await self._ask(replace(asked, **edge))
        if page is None or asked is not self.asked:
            return 0
        self.total, came, is_short = page.total, page.samples, len(page.samples) < PAGE
        if up:
            rows = [*came, *self.rows]
            self.above = 0 if is_short else None if self.above is None else max(0, self.above - len(came))
            self.is_last = self.is_last and len(rows) <= KEPT
            rows = rows[:KEPT]
        else:
            rows = [*self.rows, *came]
            gone = max(0, len(rows) - KEPT)
            self.above = None if self.above is None else self.above + gone
            self.is_last = is_short
            rows = rows[gone:]
        if came:
            self._put(rows)
        return len(came)

    def _put(self, rows: list[wire.StoredRollout]) -> None:
        self.rows = rows
        self._index = {stored.id: place for place, stored in enumerate(rows)}
        self.version += 1


def is_plain(asked: wire.GetSamples) -> bool:
    """Whether all answers are asked for, newest first."""
    where = {"before_id": None, "after_id": None, "from_end": False, "from_step": None, "excerpt": 0}
    return replace(asked, **where) == wire.GetSamples(asked.run, limit=asked.limit)
