"""Small curves drawn with characters: the mathematics of the charts on the screens and in plain output.

A braille character holds 2 x 4 dots, so that a chart of 40 x 8 cells shows 80 x 32 points. Where braille cannot be
shown (`wants_ascii`), one cell holds one point at one of three heights.

    `sparkline(values, width)`                 one line, for tables
    `braille_lines(curves, width, height)`     a chart with axes as lines of text
    `draw(curves, width, height)`              the same with the owner of every cell, for whoever colours it

Left out on purpose: colours and widgets (tui/widgets/braille_chart.py), titles, legends, files.
Numbers that are not finite are left out of the picture, of the range and of the smoothing.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Point = tuple[float, float]
Band = tuple[float, float, float]
"""x, and the least and the greatest y of all that stands there."""

MOST_RUNS = 8
"""So many runs can be told apart, over each other or side by side."""
FLAT = 1e-9
"""A range that is a smaller share than this of its ends is the rounding of one value."""

BLANK = -1
"""Owner of a cell that no curve touches."""
AXIS = -2
"""Owner of labels and axis lines."""
MARK = -3
"""Owner of a vertical mark, such as an intervention."""
CURSOR = -4
"""Owner of the vertical line at a reader's x."""

_DOT_BITS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = "_.-=+*%#"
_ASCII_HEIGHTS = "'-."


@dataclass(frozen=True, slots=True)
class Curve:
    """Points (x, y) in the order of x, smoothed by an exponential moving average when `smoothing` is above 0.

    A smoothed curve is drawn over its own raw points. Where points stand for many values each, `bands` are those.
    """

    points: Sequence[Point]
    name: str = ""
    smoothing: float = 0.0
    bands: Sequence[Band] = ()
    sign: str = ""
    """One character at the end of the curve, which tells it from others where there are no colours."""

    def smoothed(self) -> list[Point]:
        """The finite points, their y smoothed."""
        points = finite(self.points)
        values = moving_average([y for _, y in points], self.smoothing)
        return [(x, value) for (x, _), value in zip(points, values, strict=True)]

    def latest(self) -> float | None:
        """The last finite smoothed value."""
        points = self.smoothed()
        return points[-1][1] if points else None


@dataclass(frozen=True, slots=True)
class Drawing:
    """Lines of text, all of one width, and for each cell who drew it.

    `owners[row][column]` is the curve's number, plus `RAW` for its unsmoothed points, or BLANK, AXIS, MARK, CURSOR.
    """

    lines: list[str]
    owners: list[list[int]]
    gutter: int = 0
    """Columns left of the curves."""


RAW = 100
"""Added to a curve's number for cells that only its raw, unsmoothed points touch."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What the chart's axes show: None means "as wide as the points"."""

    x_low: float | None = None
    x_high: float | None = None
    y_low: float | None = None
    y_high: float | None = None
    marks: Mapping[float, str] = field(default_factory=dict)
    """Vertical marks: x -> the one character that stands above the line."""
    cursor: float | None = None
    """The x of a line in front of the marks."""
    is_log: bool = False
    """Whether y is drawn by its logarithm; what is not above 0 has none and is left out."""
    x_words: Callable[[float], str] | None = None
    """How x is written; None: as a short number."""
    is_log_x: bool = False
    """Whether x is drawn by its logarithm, too; all x are above 0 then."""

    def across(self, x: float) -> float:
        """Where x is drawn."""
        return math.log10(x) if self.is_log_x else x

    def write_x(self, across: float) -> str:
        """What stands below a place."""
        return (self.x_words or short_number)(10**across if self.is_log_x else across)


def wants_ascii(environ: Mapping[str, str] | None = None) -> bool:
    """Whether only ASCII should be drawn: PONDER_ASCII=1 asks for it, or the locale knows no UTF-8."""
    env = os.environ if environ is None else environ
    if asked := env.get("PONDER_ASCII", ""):
        return asked != "0"
    locale = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or ""
    if locale:
        return "utf8" not in locale.lower().replace("-", "")
    return environ is None and (sys.__stdout__ is None or "utf" not in sys.__stdout__.encoding.lower())


def mark_sign(what: str) -> str:
    """The letter above a mark: a knob was turned, the run went back, was forked, was ill, came to another stage, or
    begins to be trained by a monitor.

    >>> marks = ("optim.lr 0.1 -> 0.2", "resumed from step 5", "forked from x", "watchdog: kl", "monitor `x` ...")
    >>> [mark_sign(what) for what in marks]
    ['k', 'r', 'f', 'w', 'm']
    >>> mark_sign("stage rl begins")
    's'
    """
    signs = {"resumed": "r", "forked": "f", "watchdog:": "w", "monitor": "m", "stage": "s"}
    return signs.get(what.split(" ")[0], "k")


def finite(points: Iterable[Point]) -> list[Point]:
    """The points without NaN and infinities."""
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def moving_average(values: Iterable[float], smoothing: float) -> list[float]:
    """Exponential moving average without the pull towards zero at the start; 0 leaves the values as they are.

    average = sum(smoothing**k * value[n-k]) / sum(smoothing**k): the bias correction of Adam, arXiv:1412.6980, 3.

    >>> moving_average([1.0, 3.0], 0.5)
    [1.0, 2.3333333333333335]
    """
    averages: list[float] = []
    total = weight = 0.0
    for value in values:
        total = smoothing * total + value
        weight = smoothing * weight + 1.0
        averages.append(total / weight)
    return averages


def short_number(value: float) -> str:
    """A number in at most seven characters and with three significant digits, for axes and titles.

    >>> [short_number(n) for n in (0.6142, -3.0, 812.0, 12345.0, 999_900.0, 1.2e-7, 0.0, float("nan"))]
    ['0.614', '-3', '812', '12.3k', '1M', '1e-07', '0', '-']
    """
    if not math.isfinite(value):
        return "-"
    size = abs(float(f"{value:.3g}"))
    if size >= 1e15 or 0 < size < 1e-3:
        return f"{value:.0e}"
    for unit, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if size >= scale and size >= 1e4:
            return f"{value / scale:.3g}{unit}"
    if size >= 1000:
        return f"{value:.4g}"
    return f"{value:.3g}" if size >= 0.1 else f"{value:.2g}"


def sparkline(values: Sequence[float], width: int, ascii: bool | None = None) -> str:
    """At most `width` characters, one for each value or for the mean of a few; a gap where nothing is finite.

    >>> sparkline([1, 2, 3, float("nan"), 8], 5, ascii=False)
    '▁▂▃ █'
    """
    if width <= 0 or not values:
        return ""
    bars = _ASCII_BARS if (wants_ascii() if ascii is None else ascii) else _BARS
    count = min(width, len(values))
    means: list[float] = []
    for column in range(count):
        part = values[column * len(values) // count : (column + 1) * len(values) // count]
        known = [value for value in part if math.isfinite(value)]
        means.append(sum(known) / len(known) if known else math.nan)
    shown = [mean for mean in means if math.isfinite(mean)]
    if not shown:
        return " " * count
    low, high = min(shown), max(shown)
    step = (high - low) or 1.0
    top = len(bars) - 1
    return "".join(" " if math.isnan(mean) else bars[round((mean - low) / step * top)] for mean in means)


def braille_lines(
    curves: Sequence[Curve | Sequence[Point]],
    width: int,
    height: int,
    *,
    frame: Frame | None = None,
    ascii: bool | None = None,
) -> list[str]:
    """A chart of exactly `height` lines of `width` characters: y labels on the left, x labels below."""
    given = [curve if isinstance(curve, Curve) else Curve(curve) for curve in curves]
    return draw(given, width, height, frame=frame, ascii=ascii).lines


def draw(
    curves: Sequence[Curve],
    width: int,
    height: int,
    *,
    frame: Frame | None = None,
    ascii: bool | None = None,
) -> Drawing:
    """Draw curves with their axes; too small a space gives blank lines rather than a torn chart."""
    only_ascii = wants_ascii() if ascii is None else ascii
    frame = frame or Frame()
    shown = [_shown(curve, frame) for curve in curves]
    heights = [y for line, raw, bands in shown for y in (*_heights(line), *_heights(raw), *_band_heights(bands))]
    places = [x for line, _, bands in shown for x in (*(x for x, _ in line), *(x for x, _, _ in bands))]
    if height < 2 or width < 12 or not heights:
        is_below = frame.is_log and any(finite(curve.points) for curve in curves)
        return _empty(width, height, "" if heights else "nothing is above 0" if is_below else "no data yet")
    edges = [None if edge is None else frame.across(edge) for edge in (frame.x_low, frame.x_high)]
    x_low, x_high = _range(places, *edges)
    y_low, y_high = _range(heights, _height(frame.y_low, frame.is_log), _height(frame.y_high, frame.is_log))
    labels = _y_labels(y_low, y_high, height - 1, frame.is_log)
    gutter = max(map(len, labels.values())) + 1
    canvas = _Canvas(width - gutter, height - 1, only_ascii)
    canvas.scale(x_low, x_high, y_low, y_high)
    for x, sign in frame.marks.items():
        canvas.vertical(frame.across(x), sign)
    if frame.cursor is not None:
        canvas.cursor(frame.across(frame.cursor))
    for number, (_, raw, bands) in enumerate(shown):
        owner = number + RAW if curves[number].smoothing else number
        canvas.bands(bands, owner)
        canvas.dots(raw, owner)
    for number, (line, _, _) in enumerate(shown):
        canvas.line(line, number)
    for number, (line, _, _) in enumerate(shown):
        canvas.letter([point for point in line if x_low <= point[0] <= x_high], curves[number].sign, number)
    bar = "|" if only_ascii else "│"
    lines = [f"{labels.get(row, ''):>{gutter - 1}}{bar}" for row in range(height - 1)]
    owners = [[AXIS] * gutter + canvas.owners[row] for row in range(height - 1)]
    lines = [line + canvas.text(row) for row, line in enumerate(lines)]
    lines.append(" " * gutter + _x_labels(x_low, x_high, width - gutter, frame.write_x))
    owners.append([AXIS] * width)
    return Drawing(lines, owners, gutter)


def _shown(curve: Curve, frame: Frame) -> tuple[list[Point], list[Point], list[Band]]:
    """The line, the raw points behind it, and the bands, where they are drawn."""
    line, raw = curve.smoothed(), finite(curve.points) if curve.smoothing else []
    bands = [band for band in curve.bands if all(map(math.isfinite, band))]
    if frame.is_log_x:
        line = [(frame.across(x), y) for x, y in line]
        raw = [(frame.across(x), y) for x, y in raw]
        bands = [(frame.across(x), low, high) for x, low, high in bands]
    if not frame.is_log:
        return line, raw, bands
    return (
        [(x, math.log10(y)) for x, y in line if y > 0],
        [(x, math.log10(y)) for x, y in raw if y > 0],
        [(x, math.log10(low), math.log10(high)) for x, low, high in bands if low > 0],
    )


def _heights(points: Sequence[Point]) -> list[float]:
    return [y for _, y in points]


def _band_heights(bands: Sequence[Band]) -> list[float]:
    return [y for _, low, high in bands for y in (low, high)]


def _height(y: float | None, is_log: bool) -> float | None:
    """An edge that was asked for, as it is drawn; none where it has no logarithm."""
    if y is None or not is_log:
        return y
    return math.log10(y) if y > 0 else None


def _empty(width: int, height: int, notice: str) -> Drawing:
    lines = [" " * max(width, 0)] * max(height, 0)
    if lines:
        lines[len(lines) // 2] = f"{notice[: max(width, 0)]:^{max(width, 0)}}" if width > 0 else ""
    return Drawing(lines, [[AXIS] * max(width, 0) for _ in lines])


def _range(values: Sequence[float], low: float | None, high: float | None) -> tuple[float, float]:
    """The asked range, or that of the values; never empty."""
    least = min(values) if low is None else low
    most = max(values) if high is None else high
    if most - least <= FLAT * max(abs(least), abs(most)):
        room = abs(least) * 0.1 or 1.0
        return (least, least + room) if low is not None else (least - room, least + room)
    return least, most


def _y_labels(low: float, high: float, rows: int, is_log: bool) -> dict[int, str]:
    """Labels at the top, the bottom and, where there is room, the middle."""

    def words(y: float) -> str:
        return short_number(10**y if is_log else y)

    labels = {0: words(high)}
    if rows > 1:
        labels[rows - 1] = words(low)
    if rows >= 5:
        labels[rows // 2] = words(high - (high - low) * (rows // 2 + 0.5) / rows)
    return labels


def _x_labels(low: float, high: float, width: int, words: Callable[[float], str]) -> str:
    left, right = words(low), words(high)
    middle = words((low + high) / 2)
    if len(left) + len(right) + 2 > width:
        return f"{right:>{width}}"[:width]
    gap = width - len(left) - len(right)
    return left + (f"{middle:^{gap}}" if gap > 3 * len(middle) + 4 else " " * gap) + right


class _Canvas:
    """Cells of dots: 2 x 4 a cell in braille, 1 x 3 in ASCII."""

    def __init__(self, columns: int, rows: int, only_ascii: bool) -> None:
        self._ascii = only_ascii
        self._across, self._down = (1, 3) if only_ascii else (2, 4)
        self._columns, self._rows = columns, rows
        self._bits = [[0] * columns for _ in range(rows)]
        self._signs: dict[tuple[int, int], str] = {}
        self._letters: dict[tuple[int, int], str] = {}
        self.owners = [[BLANK] * columns for _ in range(rows)]

    def scale(self, x_low: float, x_high: float, y_low: float, y_high: float) -> None:
        """Say which x and y the edges stand for."""
        self._x_low, self._y_high = x_low, y_high
        self._x_scale = (self._columns * self._across - 1) / (x_high - x_low)
        self._y_scale = (self._rows * self._down - 1) / (y_high - y_low)

    def vertical(self, x: float, sign: str) -> None:
        """A mark through the whole height, with its sign on top."""
        column = self._column(x) // self._across
        if not 0 <= column < self._columns:
            return
        for row in range(self._rows):
            line = ":" if self._ascii else "┊"
            self._signs[row, column] = sign[:1] if row == 0 and sign else line
            self.owners[row][column] = MARK

    def cursor(self, x: float) -> None:
        """A line through the whole height; the sign of a mark at the same place stays."""
        column = self._column(x) // self._across
        if not 0 <= column < self._columns:
            return
        for row in range(self._rows):
            if row or (row, column) not in self._signs:
                self._signs[row, column] = "|" if self._ascii else "│"
            self.owners[row][column] = CURSOR

    def letter(self, points: Sequence[Point], sign: str, owner: int) -> None:
        """A sign at the last of the points, or as near to its left as there is room."""
        if not points or not sign:
            return
        x, y = points[-1]
        column = min(max(0, self._column(x) // self._across), self._columns - 1)
        row = min(max(0, self._line(y) // self._down), self._rows - 1)
        while column and (row, column) in self._letters:
            column -= 1
        self._letters[row, column] = sign[:1]
        self.owners[row][column] = owner

    def bands(self, bands: Sequence[Band], owner: int) -> None:
        """A stroke from the least to the greatest at each place."""
        for x, low, high in bands:
            column = self._column(x)
            for height in range(self._line(high), self._line(low) + 1):
                self._dot(column, height, owner)

    def dots(self, points: Sequence[Point], owner: int) -> None:
        """Separate points."""
        for x, y in points:
            self._dot(self._column(x), self._line(y), owner)

    def line(self, points: Sequence[Point], owner: int) -> None:
        """Joined points. Many points in one column become one stroke from the lowest to the highest."""
        strokes: dict[int, list[int]] = {}
        for x, y in points:
            strokes.setdefault(self._column(x), []).append(self._line(y))
        previous: tuple[int, int] | None = None
        for column, heights in strokes.items():
            if previous is not None:
                self._join(previous, (column, heights[0]), owner)
            for height in range(min(heights), max(heights) + 1):
                self._dot(column, height, owner)
            previous = (column, heights[-1])

    def text(self, row: int) -> str:
        """One row of cells; a curve covers a mark."""
        characters: list[str] = []
        for column, bits in enumerate(self._bits[row]):
            if (row, column) in self._letters:
                characters.append(self._letters[row, column])
            elif bits == 0:
                characters.append(self._signs.get((row, column), " "))
            elif self._ascii:
                characters.append(":" if bits & (bits - 1) else _ASCII_HEIGHTS[bits.bit_length() - 1])
            else:
                characters.append(chr(0x2800 + bits))
        return "".join(characters)

    def _join(self, start: tuple[int, int], end: tuple[int, int], owner: int) -> None:
        """A straight stroke between two dots, without its ends."""
        steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
        for step in range(1, steps):
            column = start[0] + (end[0] - start[0]) * step / steps
            height = start[1] + (end[1] - start[1]) * step / steps
            self._dot(round(column), round(height), owner)

    def _dot(self, across: int, down: int, owner: int) -> None:
        column, row = across // self._across, down // self._down
        if not (0 <= column < self._columns and 0 <= row < self._rows):
            return
        bit = 1 << down % self._down if self._ascii else _DOT_BITS[across % 2][down % 4]
        if owner < RAW <= self.owners[row][column]:
            self._bits[row][column] = 0
        self._bits[row][column] |= bit
        self.owners[row][column] = owner

    def _column(self, x: float) -> int:
        return round((x - self._x_low) * self._x_scale)

    def _line(self, y: float) -> int:
        """Dots from the top; beyond the edge means outside, so that a clipped curve leaves the chart."""
        return max(-1, min(self._rows * self._down, round((self._y_high - y) * self._y_scale)))
