"""A run's curves as a console holds them: no more points than a screen has columns, and each asked for once.

    part of x that is shown ──► Window ──► wire.GetMetrics for what is not known yet ──► take ──► curves

A window is a range of steps and the span of steps that becomes one point of it, a power of two. While a window stays
the same only its newest span is asked for again; a run that grows out of it, went back to a checkpoint, or is looked at
more closely begins a new one. Deliberately left out: asking (`tui.screens.curves`), and drawing (`ponder.plot_text`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from ponder import wire
from ponder.plot_text import Band, Curve, Point


@dataclass(frozen=True)
class Window:
    """Steps `first` to `last` (None: to the end), one point for every `span` of them."""

    first: int
    last: int | None
    span: int


def whole_window(steps: float, columns: int) -> Window:
    """All of a run of so many steps on so many columns of dots: at least one point for each column, at most two.

    >>> whole_window(100_000, 160)
    Window(first=0, last=None, span=512)
    """
    span = 1
    while steps / (2 * span) >= columns:
        span *= 2
    return Window(0, None, span)


def part_window(low: float, high: float, columns: int) -> Window:
    """A part of a run, with as much again on both sides at least: for smoothing, and for moving on.

    >>> part_window(500, 600, 160), part_window(510, 610, 160)
    (Window(first=384, last=704, span=1), Window(first=384, last=768, span=1))
    """
    width = max(1.0, high - low)
    span = whole_window(width, columns).span
    grid = max(span, 1 << int(width).bit_length() - 1)  # so that a window holds while a person moves
    return Window(max(0, int(low - width) // grid * grid), -int(-(high + width) // grid) * grid, span)


class RunSeries:
    """What is known of one run's curves."""

    def __init__(self) -> None:
        self.marks: list[tuple[int, str]] = []
        """What was changed in the run, and where."""
        self.step = 0
        """The step up to which everything was asked for."""
        self.changes = 0
        """Goes up whenever something else is to be drawn."""
        self._attempt = -1
        self._is_over = False
        self._window = Window(0, None, 1)
        self._points: dict[str, dict[int, float]] = {}
        self._bands: dict[str, dict[int, tuple[float, float]]] = {}
        self._times: dict[int, int] = {}
        self._timed: list[int] = []

    def requests(self, row: wire.RunRow, names: Sequence[str], window: Window) -> list[wire.GetMetrics]:
        """What has to be asked for to show these metrics in this window: what is new, and what was never asked for."""
        if (row.attempt, window) != (self._attempt, self._window) or row.step < self.step:
            self._attempt, self._window = row.attempt, window
            self._points, self._bands, self._times, self._timed = {}, {}, {}, []
            self.step, self._is_over = 0, False
            self.changes += 1
        known = [name for name in names if name in self._points]
        fresh = [name for name in names if name not in self._points]
        is_past = window.last is not None and self.step > window.last
        asks = []
        if known and not self._is_over and not is_past:
            asks.append((known, max(window.first, self.step // window.span * window.span) - 1))
        if fresh:
            asks.append((fresh, window.first - 1))
        return [
            wire.GetMetrics(row.name, names, after, window.last, window.span, with_times=True) for names, after in asks
        ]

    def take(self, request: wire.GetMetrics, found: wire.Curves) -> None:
        """Learn what one of the requests was answered with."""
        before = (len(self._times), self.marks)
        for name in request.names:
            points, bands = self._points.setdefault(name, {}), self._bands.setdefault(name, {})
            new = dict(found.curves.get(name, []))
            replaced = {step: value for step, value in points.items() if step > request.after_step}
            for step in replaced:
                del points[step]  # the newest span, which may end with a later step now
                bands.pop(step, None)
            points.update(new)
            bands.update({step: (low, high) for step, low, high in found.bands.get(name, [])})
            self.changes += new != replaced
        self._times.update(found.times)
        self._timed = sorted(self._times)
        self.marks = found.marks
        self.changes += before != (len(self._times), self.marks)

    def caught_up(self, row: wire.RunRow) -> None:
        """All requests were answered: what the run had when it looked like this is known."""
        self.step, self._is_over = row.step, row.state.is_over

    def curve(self, name: str, *, smoothing: float, scale: float, is_time: bool, sign: str) -> Curve:
        """A metric as it is drawn; values times `scale`, x in steps or in seconds since the first step."""
        bands = self._bands.get(name, {})
        points: list[Point] = []
        strokes: list[Band] = []
        for step, value in sorted(self._points.get(name, {}).items()):
            x = self.seconds_at(step) if is_time else float(step)
            points.append((x, value * scale))
            if step in bands:
                strokes.append((x, bands[step][0] * scale, bands[step][1] * scale))
        return Curve(points, name, smoothing**self._window.span, strokes, sign)

    def value_at(self, name: str, step: float) -> float | None:
        """A metric's value at a step, or the last one before it."""
        points = self._points.get(name, {})
        found = max((known for known in points if known <= step), default=None)
        return None if found is None else points[found]

    def seconds_at(self, step: float) -> float:
        """How long after the run's first step this one was done."""
        place = bisect_right(self._timed, step)
        return 0.0 if not place else (self._times[self._timed[place - 1]] - self._times[self._timed[0]]) / 1e6

    def step_at(self, seconds: float) -> float:
        """The last step that was done so long after the first one."""
        if not self._timed:
            return 0.0
        until = self._times[self._timed[0]] + seconds * 1e6
        return float(max((step for step in self._timed if self._times[step] <= until), default=self._timed[0]))
