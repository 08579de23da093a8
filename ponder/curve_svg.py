"""Curves as an SVG that loads nothing: for files, and for the pages of a report.

Curves differ in colour (safe for colour-blind eyes), in dashes, and in the letter at their ends; names stand in columns
below the title and who judged what is drawn, each behind a piece of its line. Raw values and spans lie pale behind a
curve; a mark is a dashed line whose words a browser shows under the pointer. Deliberately left out: PNG
(`ponder.chart_file`, by matplotlib), and characters (`ponder.plot_text`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ponder.plot_text import FLAT, Band, Curve, Point, finite, short_number
from ponder.safe_text import safe_line

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9", "#8a5cc2", "#777777")
"""Okabe and Ito's, darker where they were too light for a thin line on white."""
DASHES = ("", "7 3", "2 2", "9 3 2 3", "5 5", "1 3", "12 4", "4 2 1 2")
LEFT, RIGHT, TOP, BOTTOM = 58, 18, 34, 26
NAME_HEIGHT, NAME_WIDTH = 15, 320
"""Of the names of curves above the drawing, in columns."""
SAMPLE = 28
"""Of the line before its name."""
APART = 11
"""So far apart, at least, stand the letters at the ends of curves."""
STYLE = (
    ".plot text{font:12px system-ui,sans-serif;fill:currentColor}.plot .title{font-weight:600;font-size:14px}"
    ".plot path{fill:none}.plot .grid{stroke:currentColor;stroke-opacity:.15}.plot .mark{stroke:currentColor;"
    "stroke-opacity:.55;stroke-dasharray:3 3}.plot .raw{stroke-opacity:.28}.plot .span{fill-opacity:.13}"
    ".plot .line{stroke-width:1.8}.plot .mark-name{opacity:.6}.plot .judged{font-style:italic}"
)


@dataclass(frozen=True)
class Mark:
    """Something that happened at x: a letter, and the words for it."""

    x: float
    sign: str
    words: str
    name: str = ""
    """Stands upright beside the line, in place of the letter above it."""


@dataclass(frozen=True)
class Chart:
    """One of several drawings."""

    title: str
    curves: Sequence[Curve]
    judged: str = ""
    """Who judged what is drawn (`ponder.judge`), in a line below the title."""


@dataclass(frozen=True)
class Scales:
    """How the axes are divided, and what stands below."""

    x_label: str = "step"
    is_log_x: bool = False
    """By the logarithm; all x are above 0 then."""
    is_log: bool = False
    """The same for y; what is not above 0 is left out."""


BY_STEP = Scales()


def curve_svg(
    curves: Sequence[Curve],
    title: str,
    *,
    marks: Sequence[Mark] = (),
    width: int = 720,
    height: int = 280,
    scales: Scales = BY_STEP,
    judged: str = "",
) -> str:
    """One chart, as a part of a page or picture that has STYLE."""
    is_log = scales.is_log
    lines = [_above_zero(curve.smoothed(), is_log) for curve in curves]
    raws = [_above_zero(finite(curve.points), is_log) if curve.smoothing else [] for curve in curves]
    bands = [[band for band in curve.bands if not is_log or band[1] > 0] for curve in curves]
    head = NAME_HEIGHT if judged else 0
    plane = _plane(lines, raws, bands, marks, width, height, scales, head)
    body = [f'<text class="title" x="{LEFT}" y="16">{_text(title)}</text>']
    if judged:
        body.append(f'<text class="judged" x="{LEFT}" y="{16 + NAME_HEIGHT}">{_text(judged)}</text>')
    if plane is None:
        body.append(f'<text x="{LEFT}" y="{height / 2:.0f}">no data</text>')
    else:
        body += plane.axes()
        body += [plane.mark(mark) for mark in marks]
        for number, curve in enumerate(curves):
            body += plane.curve(number, curve, lines[number], raws[number], bands[number])
        body += plane.signs(curves, lines)
    columns = _columns(width)
    legend = [_legend(number, curve, columns, head) for number, curve in enumerate(curves) if len(curves) > 1]
    return (
        f'<svg class="plot" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img"><title>{_text(title)}</title>{"".join(body)}'
        f"{''.join(legend)}</svg>\n"
    )


def stacked(charts: Sequence[Chart], marks: Sequence[Mark], scales: Scales = BY_STEP) -> str:
    """A file with several charts below each other."""
    width, height = 720, 280
    drawn = [curve_svg(chart.curves, chart.title, marks=marks, scales=scales, judged=chart.judged) for chart in charts]
    inside = "".join(f'<g transform="translate(0 {number * height})">{svg}</g>' for number, svg in enumerate(drawn))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height * len(charts)}" width="{width}" '
        f'height="{height * len(charts)}" color="#222"><style>{STYLE}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>{inside}</svg>\n'
    )


def _above_zero(points: Sequence[Point], is_log: bool) -> list[Point]:
    return [(x, y) for x, y in points if y > 0 or not is_log]


def _text(words: str) -> str:
    return escape(safe_line(words))


def _columns(width: int) -> int:
    """Names of curves beside each other."""
    return max(1, (width - LEFT - RIGHT) // NAME_WIDTH)


def _legend(number: int, curve: Curve, columns: int, head: int) -> str:
    """One name of a curve below the title and `head` more, behind a piece of its line."""
    row, column = divmod(number, columns)
    x, y = LEFT + NAME_WIDTH * column, 18 + head + NAME_HEIGHT * (row + 1)
    words = f"{curve.sign} {curve.name}".strip()
    return (
        f"{_line(number, f'M{x} {y - 4}H{x + SAMPLE}')}"
        f'<text x="{x + SAMPLE + 6}" y="{y}" style="fill:{_colour(number)}">{_text(words)}</text>'
    )


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _line(number: int, path: str) -> str:
    """A path as that curve is drawn."""
    dash = DASHES[number % len(DASHES)]
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<path class="line" stroke="{_colour(number)}"{dashes} d="{path}"/>'


def _plane(
    lines: Sequence[Sequence[Point]],
    raws: Sequence[Sequence[Point]],
    bands: Sequence[Sequence[Band]],
    marks: Sequence[Mark],
    width: int,
    height: int,
    scales: Scales,
    head: int,
) -> _Plane | None:
    is_log = scales.is_log
    points = [point for part in (*lines, *raws) for point in part]
    if not points:
        return None
    ys = [y for _, y in points] + [y for part in bands for _, *ends in part for y in ends]
    xs = [x for x, _ in points] + [mark.x for mark in marks]
    low, high = min(ys), max(ys)
    if not is_log:
        low = min(0.0, low) if low > 0 and high - low > 0.2 * high else low
    if high - low <= FLAT * max(abs(low), abs(high)):
        room = abs(low) * 0.1 or 1.0
        low, high = (low / 2, high * 2) if is_log else (low - room if low else 0.0, high + room)
    left, right = min(xs), max(xs)
    if right <= left:
        right = left * 2 if scales.is_log_x else left + 1
    rows = math.ceil(len(lines) / _columns(width)) if len(lines) > 1 else 0
    marked = NAME_HEIGHT if rows and any(not mark.name for mark in marks) else 0
    return _Plane(left, right, low, high, width, height, scales, head + max(TOP, 26 + NAME_HEIGHT * rows + marked))


@dataclass(frozen=True)
class _Plane:
    """Which x and y are where."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    width: int
    height: int
    scales: Scales
    top: int = TOP

    def x(self, value: float) -> float:
        low, high, here = self.x_low, self.x_high, value
        if self.scales.is_log_x:
            low, high, here = math.log10(low), math.log10(high), math.log10(value)
        share = (here - low) / (high - low)
        return LEFT + share * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high, here = self.y_low, self.y_high, value
        if self.scales.is_log:
            low, high, here = math.log10(low), math.log10(high), math.log10(value)
        return self.top + (1 - (here - low) / (high - low)) * (self.height - self.top - BOTTOM)

    def axes(self) -> list[str]:
        bottom, right = self.height - BOTTOM, self.width - RIGHT
        parts = []
        for value in _powers(self.y_low, self.y_high) if self.scales.is_log else ticks(self.y_low, self.y_high, 5):
            y = self.y(value)
            parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>')
        places = _powers_and_between if self.scales.is_log_x else ticks
        for value in places(self.x_low, self.x_high, 6):
            x = self.x(value)
            parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{short_number(value)}</text>')
        parts.append(f'<path class="grid" d="M{LEFT} {self.top}V{bottom}H{right}"/>')
        parts.append(f'<text x="{LEFT - 18}" y="{bottom + 16}" text-anchor="end">{_text(self.scales.x_label)}</text>')
        return parts

    def mark(self, mark: Mark) -> str:
        x = self.x(mark.x)
        if mark.name:
            place = f'transform="translate({x + 11:.1f} {self.height - BOTTOM - 5}) rotate(-90)" class="mark-name"'
            label = f"<text {place}>{_text(mark.name)}</text>"
        else:
            label = f'<text x="{x:.1f}" y="{self.top - 3}" text-anchor="middle">{_text(mark.sign)}</text>'
        return (
            f'<g><title>{_text(mark.words)}</title><path class="mark" d="M{x:.1f} {self.top}V{self.height - BOTTOM}"/>'
            f"{label}</g>"
        )

    def curve(
        self, number: int, curve: Curve, line: Sequence[Point], raw: Sequence[Point], bands: Sequence[Band]
    ) -> list[str]:
        colour = _colour(number)
        parts = []
        if len(bands) > 1:
            there = self._path([(x, high) for x, _, high in bands])
            back = self._path([(x, low) for x, low, _ in reversed(bands)]).replace("M", "L", 1)
            parts.append(f'<path class="span" style="fill:{colour}" d="{there}{back}Z"/>')
        elif raw:
            parts.append(f'<path class="raw" stroke="{colour}" d="{self._path(raw)}"/>')
        parts.append(_line(number, self._path(line)))
        if len(line) == 1 and not curve.sign:
            parts.append(f'<circle cx="{self.x(line[0][0]):.1f}" cy="{self.y(line[0][1]):.1f}" r="2" fill="{colour}"/>')
        return parts

    def signs(self, curves: Sequence[Curve], lines: Sequence[Sequence[Point]]) -> list[str]:
        """The letters at the ends of curves, none over another: from below, each as low as the one before allows."""
        ends = [
            (self.y(line[-1][1]), self.x(line[-1][0]), number)
            for number, (curve, line) in enumerate(zip(curves, lines, strict=True))
            if curve.sign and line
        ]
        parts, room = [], math.inf
        for y, x, number in sorted(ends, reverse=True):
            room = min(y, room - APART)
            words = f'<text x="{x + 4:.1f}" y="{room + 4:.1f}" style="fill:{_colour(number)}">'
            parts.append(f"{words}{_text(curves[number].sign)}</text>")
        return parts

    def _path(self, points: Sequence[Point]) -> str:
        return "".join(f"{'L' if n else 'M'}{self.x(x):.1f} {self.y(y):.1f}" for n, (x, y) in enumerate(points))


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers inside a range, a few of them.

    >>> ticks(0.0, 0.62, 5), ticks(0, 30, 6)
    ([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0])
    """
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = min((size * factor for factor in (1, 2, 2.5, 5, 10)), key=lambda step: abs(step - rough))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _number(value: float) -> str:
    """As on other charts, but with all digits of small numbers: neighbours on an axis must differ."""
    return f"{value:.3g}" if 0 < abs(value) < 1e-3 else short_number(value)


def _powers(low: float, high: float) -> list[float]:
    """The powers of ten in a range, or its ends where there is none."""
    inside = [10.0**n for n in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    return inside or [low, high]


def _powers_and_between(low: float, high: float, most: int) -> list[float]:
    """The powers of ten in a range; where there are few, their doubles and fives, too.

    >>> _powers_and_between(8, 300, 6), _powers_and_between(1e9, 1e15, 6)[::3]
    ([10.0, 20.0, 50.0, 100.0, 200.0], [1000000000.0, 1000000000000.0, 1000000000000000.0])
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1.0, 2.0, 5.0) if last - first <= most // 2 else (1.0,)
    return [factor * 10.0**n for n in range(first, last + 1) for factor in factors if low <= factor * 10.0**n <= high]
