"""Which steps of a run are looked at, and where the cursor is among them.

Everything is in steps of the watched run; the end of it that grows stays in view until a person moves away.
Deliberately left out: what is drawn there (`tui.screens.curves`), and wall time, which only the drawing knows.
"""

from __future__ import annotations

LEAST_STEPS = 10.0
"""The fewest steps that are shown."""


class View:
    """See the module. `here` is the watched run's newest step, `last` the newest of all runs that are shown."""

    def __init__(self) -> None:
        self.here = 0.0
        self.last = 1.0
        self.cursor: float | None = None
        """None: at the newest step, wherever that is by now."""
        self._width: float | None = None
        self._end: float | None = None

    def reach(self, here: float, last: float) -> None:
        """The runs are so far now; what lay beyond, before one went back, is left."""
        self.here, self.last = here, max(1.0, last)
        if self.cursor is not None and self.cursor > here:
            self.cursor = None
        if self._end is not None and self._end >= self.last:
            self._end = None
        if self._width is not None and self._width >= self.last:
            self.show_all()

    @property
    def is_whole(self) -> bool:
        """Whether all steps are in view."""
        return self._width is None

    @property
    def range(self) -> tuple[float, float]:
        """The first and the last step in view."""
        if self._width is None:
            return 0.0, self.last
        end = self.last if self._end is None else self._end
        return max(0.0, end - self._width), end

    def show_all(self) -> None:
        """Every step again."""
        self._width = self._end = None

    def zoom(self, factor: float) -> None:
        """So many times as many steps, with the cursor where it is on the screen, else with the same last step."""
        low, high = self.range
        width = max(LEAST_STEPS, (high - low) * factor)
        if width >= self.last:
            self.show_all()
            return
        self._width = width
        if self.cursor is not None:
            share = (self.cursor - low) / max(high - low, 1.0)
            self._move_end(self.cursor + width * (1 - share))

    def pan(self, share: float) -> bool:
        """Move on by a share of what is in view; False when everything is."""
        if self._width is None:
            return False
        self._move_end(self.range[1] + share * self._width)
        return True

    def point(self, step: float) -> bool:
        """The cursor to a step; True when the view had to move with it."""
        self.cursor = None if step > self.here else max(0.0, step)
        place = self.here if self.cursor is None else self.cursor
        low, high = self.range
        if self._width is None or low <= place <= high:
            return False
        self._move_end(place + self._width / 2)
        return True

    def move(self, columns: int, of: int) -> bool:
        """The cursor by columns, of which so many are in view; True when the view had to move with it."""
        low, high = self.range
        step = max(1.0, (high - low) / of)
        return self.point(float(round((self.here if self.cursor is None else self.cursor) + columns * step)))

    def _move_end(self, end: float) -> None:
        self._end = None if end >= self.last else max(self._width or 0.0, end)
