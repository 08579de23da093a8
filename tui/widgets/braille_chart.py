"""A line chart of braille dots with axes, painted by lines.

The drawing is `ponder.plot_text`; here it gets its colours, its title with the latest value, and is repainted only
where a line of it changed.

Left out on purpose: which part of x is shown and where the cursor is (`set_curves` is told), and smoothing by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.strip import Strip

from ponder.judge import Judge, Judges
from ponder.plot_text import AXIS, BLANK, CURSOR, MARK, RAW, Curve, Drawing, Frame, draw, short_number, wants_ascii
from ponder.safe_text import safe_line
from tui.widgets.painting import PaintsLines

FRAME = 3
"""Cells around who judged: a space and brackets."""
SERIES_STYLES = 6
"""Curves beyond the sixth begin again with the first's style."""


class BrailleChart(PaintsLines):
    """Curves over x (usually the step); see the module.

    `chart.set_curves([Curve(points, "reward", smoothing=0.9)], frame=Frame(y_low=0, y_high=1, marks={120: "!"}))`
    """

    STYLE_PREFIX = "braille-chart"
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "braille-chart--title",
        "braille-chart--value",
        "braille-chart--judged",
        "braille-chart--opinion",
        "braille-chart--axis",
        "braille-chart--mark",
        "braille-chart--cursor",
        "braille-chart--raw",
        *(f"braille-chart--series-{number}" for number in range(1, SERIES_STYLES + 1)),
    }
    ALLOW_SELECT = False
    DEFAULT_CSS = """
    BrailleChart {
        width: 1fr;
        height: 1fr;
        min-height: 3;
        & > .braille-chart--title { text-style: bold; }
        & > .braille-chart--value { text-style: bold; }
        & > .braille-chart--judged { text-style: dim; }
        & > .braille-chart--opinion { color: $warning; text-style: bold; }
        & > .braille-chart--axis { text-style: dim; }
        & > .braille-chart--mark { color: $warning; text-style: bold; }
        & > .braille-chart--cursor { text-style: bold; }
        & > .braille-chart--raw { text-style: dim; }
        & > .braille-chart--series-1 { color: $primary; }
        & > .braille-chart--series-2 { color: $warning; }
        & > .braille-chart--series-3 { color: $success; }
        & > .braille-chart--series-4 { color: $accent; }
        & > .braille-chart--series-5 { color: $error; }
        & > .braille-chart--series-6 { color: $secondary; }
    }
    """

    def __init__(
        self,
        title: str = "",
        curves: Sequence[Curve] = (),
        *,
        frame: Frame | None = None,
        ascii: bool | None = None,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        """`ascii` forces the fallback on or off; by default the terminal decides (`plot_text.wants_ascii`)."""
        super().__init__(name=name, id=id, classes=classes)
        self._title = title
        self._curves = tuple(curves)
        self._frame = frame or Frame()
        self._latest: str | None = None
        self._values: tuple[str, ...] = ()
        self._judges: tuple[Judges, ...] = ()
        self._signs: frozenset[str] = frozenset()
        self._ascii = wants_ascii() if ascii is None else ascii
        self._head: list[tuple[str, str]] = []
        self._drawing = Drawing([], [])

    def set_curves(
        self,
        curves: Sequence[Curve],
        *,
        frame: Frame | None = None,
        title: str | None = None,
        latest: str | None = None,
        values: Sequence[str] = (),
        judges: Sequence[Judges] = (),
    ) -> None:
        """Show these curves. `latest` replaces the number in the title (by default the first curve's last value).

        `values`, one for each curve, stand there instead of the curves' names, each after its curve's sign. `judges`,
        one for each curve, say behind the title by whom it was judged, as long as there is room.
        """
        before = self._shown
        self._values, self._judges = tuple(values), tuple(judges)
        self._curves = tuple(curves)
        self._frame = frame or self._frame
        self._title = self._title if title is None else title
        self._latest = latest
        if self._shown != before:
            self._redraw()

    @property
    def _shown(self) -> tuple[object, ...]:
        return self._values, self._judges, self._curves, self._frame, self._title, self._latest

    def set_marks(self, marks: Mapping[float, str]) -> None:
        """Show vertical marks: x -> the character above the line."""
        old = self._frame
        self._frame = replace(old, marks=dict(marks))
        self._redraw()

    @property
    def lines(self) -> list[str]:
        """What is drawn, title first, as plain text."""
        return ["".join(text for text, _ in self._head), *self._drawing.lines]

    @property
    def signs(self) -> frozenset[str]:
        """The signs by which the title says who judged, where there was no room for words."""
        return self._signs

    def x_at(self, column: int) -> float | None:
        """The x that a column of the chart stands for; None beside the curves, and where x has no fixed ends."""
        low, high = self._frame.x_low, self._frame.x_high
        columns, place = self.size.width - self._drawing.gutter, column - self._drawing.gutter
        if low is None or high is None or columns < 2 or place < 0:
            return None
        return low + (high - low) * place / (columns - 1)

    def on_resize(self, _: events.Resize) -> None:
        """Draw for the new size."""
        self._drawing = Drawing([], [])
        self._redraw()

    def render_line(self, y: int) -> Strip:
        """The title, or a line of the drawing."""
        base = self._base
        width = self.size.width
        if y == 0:
            segments = [
                Segment(text, base if text.isspace() else base + self._named(name)) for text, name in self._head
            ]
        elif y <= len(self._drawing.lines):
            segments = self._segments(self._drawing.lines[y - 1], self._drawing.owners[y - 1], base)
        else:
            segments = []
        return Strip(segments).extend_cell_length(width, base).crop(0, width)

    def _redraw(self) -> None:
        """Draw again and paint the lines that are not what they were."""
        width, height = self.size
        if width <= 0 or height <= 0:
            return
        old_head, old = self._head, self._drawing
        self._head = self._title_line(width)
        self._drawing = draw(self._curves, width, height - 1, frame=self._frame, ascii=self._ascii)
        if old_head != self._head:
            self.refresh(Region(0, 0, width, 1))
        for row, (line, owners) in enumerate(zip(self._drawing.lines, self._drawing.owners, strict=True)):
            if row >= len(old.lines) or old.lines[row] != line or old.owners[row] != owners:
                self.refresh(Region(0, row + 1, width, 1))

    def _title_line(self, width: int) -> list[tuple[str, str]]:
        if self._values:
            return self._title_of_values(width)
        latest = self._latest
        if latest is None:
            value = self._curves[0].latest() if self._curves else None
            latest = "" if value is None else short_number(value)
        latest = safe_line(latest, max(0, width - 1))
        room = max(0, width - cell_len(latest) - 1)
        title = safe_line(self._title)
        style, judged = self._judged(room - cell_len(title), room - cell_len(title))
        names = [("title", title), (style, judged)]
        if len(self._curves) > 1:
            names += [(f"series-{n % SERIES_STYLES + 1}", f" {safe_line(c.name)}") for n, c in enumerate(self._curves)]
        head: list[tuple[str, str]] = []
        for name, text in names:
            shown = set_cell_size(text, min(room, cell_len(text)))
            room -= cell_len(shown)
            head.append((shown, name))
        return [*head, (" " * (room + 1), "title"), (latest, "value")]

    def _title_of_values(self, width: int) -> list[tuple[str, str]]:
        """The title, and as many of the values as there is room for."""
        title = safe_line(self._title, max(0, width - 1))
        words: list[tuple[str, str]] = []
        values = [f"{c.sign} {value}" if c.sign else value for c, value in zip(self._curves, self._values, strict=True)]
        most = width - cell_len(title) - 1
        style, judged = self._judged(most - sum(cell_len(value) + 1 for value in values), most)
        room = width - cell_len(title) - cell_len(judged) - 1
        for number, (curve, value) in enumerate(zip(self._curves, self._values, strict=True)):
            text = safe_line(f"{curve.sign} {value}" if curve.sign else value)
            if cell_len(text) + 1 > room:
                break
            words += [(" ", "title"), (text, f"series-{number % SERIES_STYLES + 1}" if curve.sign else "value")]
            room -= cell_len(text) + 1
        return [(title, "title"), (judged, style), (" " * (room + 1), "title"), *words]

    def _judged(self, room: int, most: int) -> tuple[str, str]:
        """How who judged is written, and what is written.

        Words where they leave `room`, else signs, as long as these leave `most`: that much values give way.
        """
        judges, signs = self._judges, frozenset[str]()
        if len(set(judges)) < 2:
            *words, brief = judges[0].labels if judges and judges[0].labels else ("",)
        else:
            apart = [(curve.sign, one.labels) for curve, one in zip(self._curves, judges, strict=False) if one.labels]
            *words, brief = (", ".join(f"{sign} {labels[place]}" for sign, labels in apart) for place in (1, 2))
        said = next((f" [{text}]" for text in words if text and len(text) + FRAME <= room), "")
        if not said and brief and len(brief) + FRAME <= most:
            signs = frozenset(sign for one in judges for sign in one.signs)
            said = f"[{brief}]" if len(brief) + FRAME - 1 == room else f" [{brief}]"
        self._signs = signs
        is_opinion = any(Judge.MODEL in group for one in judges for group in one.in_turn)
        return "opinion" if is_opinion else "judged", said

    def _segments(self, line: str, owners: list[int], base: Style) -> list[Segment]:
        """One line, cut where the owner changes."""
        segments: list[Segment] = []
        start = 0
        for column in range(1, len(line) + 1):
            if column == len(line) or owners[column] != owners[start]:
                owner = owners[start]
                style = base if owner == BLANK else base + self._named(_style_name(owner))
                segments.append(Segment(line[start:column], style))
                start = column
        return segments


def _style_name(owner: int) -> str:
    if owner == AXIS:
        return "axis"
    if owner in (MARK, CURSOR):
        return "mark" if owner == MARK else "cursor"
    return "raw" if owner >= RAW else f"series-{owner % SERIES_STYLES + 1}"
