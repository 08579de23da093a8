"""One row of styled parts, of which the less important ones give way when the row is too narrow.

Deliberately left out: what the rows say (status, tabs, keys, headings of panes), which the screens decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual import events
from textual.message import Message
from textual.strip import Strip

from ponder.safe_text import safe_line
from tui.widgets.painting import PaintsLines

STYLES = (
    "plain", "dim", "title", "key", "good", "bad", "warning", "running", "chosen", "stale",
    "heat-1", "heat-2", "heat-3", "heat-4",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a row. The part with the highest `drop` goes first when there is no room; 0 stays."""

    text: str
    style: str = "plain"
    drop: int = 0
    action: str = ""
    """The id of the action that a click on it means."""


class TextLine(PaintsLines):
    """A row: parts on the left, parts on the right; painted only when it says something else than before."""

    STYLE_PREFIX = "text-line"
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"text-line--{name}" for name in STYLES}
    ALLOW_SELECT = False
    DEFAULT_CSS = """
    TextLine {
        height: 1;
        width: 1fr;
        & > .text-line--dim { text-style: dim; }
        & > .text-line--title { text-style: bold; }
        & > .text-line--key { text-style: bold; color: $primary; }
        & > .text-line--good { color: $success; text-style: bold; }
        & > .text-line--bad { color: $error; text-style: bold; }
        & > .text-line--warning { color: $warning; text-style: bold; }
        & > .text-line--running { color: $accent; text-style: bold; }
        & > .text-line--chosen { text-style: bold reverse; }
        & > .text-line--stale { text-style: dim italic; }
        & > .text-line--heat-2 { background: $warning 22%; }
        & > .text-line--heat-3 { background: $warning 50%; }
        & > .text-line--heat-4 { background: $error 65%; text-style: bold; }
    }
    """

    @dataclass
    class Clicked(Message):
        """A part with an action was clicked."""

        action: str

    def __init__(self, *, gap: str = "  ", rule: str = " ", id: str | None = None, classes: str | None = None) -> None:
        """`gap` stands between parts, `rule` fills what is left of the row."""
        super().__init__(id=id, classes=classes)
        self._left: tuple[Part, ...] = ()
        self._right: tuple[Part, ...] = ()
        self._gap = gap
        self._rule = rule

    def show(self, left: Sequence[Part], right: Sequence[Part] = ()) -> None:
        """Say this from now on."""
        if (tuple(left), tuple(right)) != (self._left, self._right):
            self._left, self._right = tuple(left), tuple(right)
            self.refresh()

    @property
    def line(self) -> str:
        """What stands there now, as plain text."""
        return "".join(text for text, _ in self._laid_out()).rstrip()

    def on_click(self, event: events.Click) -> None:
        """A click on a part with an action means that action."""
        at = 0
        for text, part in self._laid_out():
            at += cell_len(text)
            if event.x < at:
                if part is not None and part.action:
                    self.post_message(self.Clicked(part.action))
                return

    def render_line(self, y: int) -> Strip:
        """The row."""
        base = self._base
        if y:
            return Strip.blank(self.size.width, base)
        segments = []
        for text, part in self._laid_out():
            style = base
            if part is not None and part.style != "plain":
                style += self._named(part.style)
            elif part is None and self._rule != " ":
                style += self._named("dim")
            segments.append(Segment(text, style))
        return Strip(segments).extend_cell_length(self.size.width, base).crop(0, self.size.width)

    def _laid_out(self) -> list[tuple[str, Part | None]]:
        """The pieces of the row with the part that each belongs to; None between parts."""
        width = self.size.width
        parts = [*self._left, *self._right]
        shown = {number: safe_line(part.text) for number, part in enumerate(parts) if part.text}
        gap = len(self._gap)
        while sum(cell_len(text) + gap for text in shown.values()) - gap > width:
            droppable = [number for number in shown if parts[number].drop]
            if not droppable:
                break
            del shown[max(droppable, key=lambda number: (parts[number].drop, number))]
        left = [number for number in shown if number < len(self._left)]
        right = [number for number in shown if number >= len(self._left)]
        row = self._joined(left, shown, parts)
        end = self._joined(right, shown, parts)
        taken = sum(cell_len(text) for text, _ in (*row, *end))
        filler = max(gap if row and end else 0, width - taken)  # where it is too long, both stay apart and it is cut
        if self._rule != " " and filler > 2:
            row.append((f" {self._rule * (filler - 1 - bool(end))}{' ' if end else ''}", None))
        else:
            row.append((" " * filler, None))
        row += end
        return _cut(row, width)

    def _joined(self, numbers: list[int], shown: dict[int, str], parts: list[Part]) -> list[tuple[str, Part | None]]:
        pieces: list[tuple[str, Part | None]] = []
        for number in numbers:
            if pieces:
                pieces.append((self._gap, None))
            pieces.append((shown[number], parts[number]))
        return pieces


def _cut(row: list[tuple[str, Part | None]], width: int) -> list[tuple[str, Part | None]]:
    """The row cut to its width, with a sign that something is missing."""
    pieces: list[tuple[str, Part | None]] = []
    room = width
    for text, part in row:
        cells = cell_len(text)
        if cells > room:
            if room > 0:
                pieces.append((set_cell_size(text, room - 1) + "…", part))
            break
        pieces.append((text, part))
        room -= cells
    return pieces
