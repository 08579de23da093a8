"""A text whose tokens can be told apart: each in one of four heats, one of them under the cursor.

A heat is a background; with `signs` a second row below each row of text has it as a digit, and `^` below the token
under the cursor, for terminals and eyes without colour. Moving the cursor paints the rows that it leaves and enters.
Left out on purpose: what a heat means, and sanitising: the text that comes here is safe (`tui.token_facts`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ponder.safe_text import safe_line
from tui.widgets.emptiness import MayBeEmpty
from tui.widgets.painting import PaintsLines
from tui.widgets.wrapping import Row, show_tabs, wrap_from

HEATS = 4


@dataclass(frozen=True, slots=True)
class HeatSpan:
    """Where a token stands in the text, and its heat: 1 to 4, or 0 where nothing is known."""

    start: int
    end: int
    heat: int


class TokenView(ScrollView, PaintsLines, MayBeEmpty, can_focus=True):
    """See the module. Keys: `j k` or arrows by a row, page keys, `g` first token, `G` last."""

    STYLE_PREFIX = "token-view"
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "token-view--cursor",
        "token-view--sign",
        "token-view--empty",
        *(f"token-view--heat-{heat}" for heat in range(HEATS + 1)),
    }
    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "row(1)", "Down", id="text.down", show=False),
        Binding("k,up", "row(-1)", "Up", id="text.up", show=False),
        Binding("pagedown", "page(1)", "Page down", id="text.page_down", show=False),
        Binding("pageup", "page(-1)", "Page up", id="text.page_up", show=False),
        Binding("g,home", "end(0)", "First", id="text.top", show=False),
        Binding("G,end", "end(1)", "Last", id="text.end", show=False),
    ]
    HELP = "The tokens of an answer. `h`/`l` move by a token, `j`/`k` by a row, `g`/`G` to the first and last token."
    DEFAULT_CSS = """
    TokenView {
        scrollbar-size-vertical: 1;
        overflow-x: hidden;
        overflow-y: scroll;
        & > .token-view--sign { text-style: bold; }
        & > .token-view--empty { text-style: italic; }
        & > .token-view--cursor { text-style: bold reverse; }
        & > .token-view--heat-2 { background: $warning 22%; }
        & > .token-view--heat-3 { background: $warning 50%; }
        & > .token-view--heat-4 { background: $error 65%; text-style: bold; }
    }
    """

    @dataclass
    class Moved(Message):
        """Another token is under the cursor."""

        view: TokenView
        token: int

        @property
        def control(self) -> TokenView:
            """The view, so that handlers can select by it."""
            return self.view

    def __init__(self, *, empty: str = "", id: str | None = None) -> None:
        """`empty` stands in an empty view."""
        super().__init__(id=id)
        self._text = ""
        self._spans: tuple[HeatSpan, ...] = ()
        self._starts: list[int] = []
        self._rows: list[Row] = []
        self._signs = False
        self._cursor = 0
        self._empty = empty
        self._width = 0

    @property
    def cursor(self) -> int:
        """The number of the token under the cursor."""
        return self._cursor

    @property
    def lines(self) -> list[str]:
        """The rows as plain text, with their rows of signs."""
        height = len(self._rows) * self._step
        return ["".join(segment.text for segment in self._paint(index)).rstrip() for index in range(height)]

    def show(self, text: str, spans: Sequence[HeatSpan], signs: bool) -> None:
        """Show a text and its tokens, which stand in order; paints only when something is another."""
        if (text, tuple(spans), signs) == (self._text, self._spans, self._signs):
            return
        is_other_text = text != self._text
        self._text, self._spans, self._signs = text, tuple(spans), signs
        self._starts = [span.start for span in spans]
        self._cursor = 0 if is_other_text else min(self._cursor, max(0, len(spans) - 1))
        self._lay_out()
        if is_other_text:
            self.scroll_to(y=0, animate=False, immediate=True)
        self._keep_in_view()

    def move_to(self, token: int) -> None:
        """Put the cursor on a token and bring it into view."""
        token = max(0, min(token, len(self._spans) - 1))
        if token == self._cursor or not self._spans:
            return
        before, self._cursor = self._cursor, token
        for changed in (before, token):
            for row in self._rows_of(changed):
                for line in range(row * self._step, (row + 1) * self._step):
                    self.refresh_line(line)
        self._keep_in_view()
        self.post_message(self.Moved(self, token))

    # -- keys and mouse --

    def action_row(self, by: int) -> None:
        """To the token at about the same column of another row."""
        rows = self._rows_of(self._cursor)
        if not rows:
            return
        row = rows[0]
        target = max(0, min(row + by, len(self._rows) - 1))
        column = self._spans[self._cursor].start - self._rows[row].start
        self.move_to(self._token_at(min(self._rows[target].start + column, max(0, self._rows[target].end - 1))))

    def action_page(self, pages: int) -> None:
        """By a page less a row."""
        self.action_row(pages * max(1, self._height // self._step - 1))

    def action_end(self, last: int) -> None:
        """To the first or the last token."""
        self.move_to(len(self._spans) - 1 if last else 0)

    def on_click(self, event: events.Click) -> None:
        """Cursor to the clicked token."""
        offset = event.get_content_offset(self)
        row = (self.scroll_offset.y + offset.y) // self._step if offset is not None else -1
        if offset is None or not 0 <= row < len(self._rows):
            return
        place = self._rows[row].start
        while place < self._rows[row].end and self._column(self._rows[row], place + 1) <= offset.x:
            place += 1
        if place < self._rows[row].end:
            self.move_to(self._token_at(place))

    def on_resize(self, _: events.Resize) -> None:
        """Wrap again where the width changed."""
        if max(1, self.scrollable_content_region.width) != self._width:
            self._lay_out()
        self._keep_in_view()

    # -- painting --

    def render_line(self, y: int) -> Strip:
        """A row of text, or of signs."""
        width = self.scrollable_content_region.width
        return Strip(self._paint(self.scroll_offset.y + y)).extend_cell_length(width, self._base).crop(0, width)

    @property
    def _step(self) -> int:
        return 2 if self._signs else 1

    @property
    def _height(self) -> int:
        return self.scrollable_content_region.height

    def _lay_out(self) -> None:
        self._width = max(1, self.scrollable_content_region.width)
        self._rows = wrap_from(self._text, 0, self._width) if self._text else []
        self.virtual_size = Size(self._width, len(self._rows) * self._step)
        self.refresh()

    def _keep_in_view(self) -> None:
        rows = self._rows_of(self._cursor)
        if not rows:
            return
        top, last = self.scroll_offset.y, (rows[0] + 1) * self._step - 1
        if rows[0] * self._step < top:
            self.scroll_to(y=rows[0] * self._step, animate=False, immediate=True)
        elif last >= top + self._height:
            self.scroll_to(y=last - self._height + 1, animate=False, immediate=True)

    def _token_at(self, place: int) -> int:
        """The token that has this character; of several that begin here the last, for the others add nothing."""
        return max(0, bisect_right(self._starts, place) - 1)

    def _rows_of(self, token: int) -> range:
        if not self._rows or token >= len(self._spans):
            return range(0)
        span = self._spans[token]
        first = max(0, bisect_right(self._rows, span.start, key=lambda row: row.start) - 1)
        last = max(first, bisect_right(self._rows, max(span.start, span.end - 1), key=lambda row: row.start) - 1)
        return range(first, last + 1)

    def _column(self, row: Row, place: int) -> int:
        """In cells."""
        return cell_len(show_tabs(self._text[row.start : min(place, row.end)]))

    def _paint(self, index: int) -> list[Segment]:
        base = self._base
        if not self._rows:
            text = safe_line(self._nothing, max(1, self._width - 2))
            return [Segment(f" {text}", base + self._named("empty"))] if index == 0 else []
        number, is_sign = divmod(index, self._step)
        if number >= len(self._rows):
            return []
        row = self._rows[number]
        inside = self._inside(row)
        return self._sign_row(row, inside, base) if is_sign else self._text_row(row, inside, base)

    def _inside(self, row: Row) -> list[int]:
        """The tokens that have a character in a row."""
        first = max(0, bisect_right(self._starts, row.start) - 1)
        found = []
        for token in range(first, len(self._spans)):
            span = self._spans[token]
            if span.start >= row.end:
                break
            if span.end > row.start and span.end > span.start:
                found.append(token)
        return found

    def _text_row(self, row: Row, inside: list[int], base: Style) -> list[Segment]:
        segments, at = [], row.start
        for token in inside:
            span = self._spans[token]
            start, end = max(span.start, row.start), min(span.end, row.end)
            if start > at:
                segments.append(Segment(show_tabs(self._text[at:start]), base))
            style = base + self._named(f"heat-{span.heat}")
            if token == self._cursor:
                style += self._named("cursor")
            segments.append(Segment(show_tabs(self._text[start:end]), style))
            at = end
        if at < row.end:
            segments.append(Segment(show_tabs(self._text[at : row.end]), base))
        return segments

    def _sign_row(self, row: Row, inside: list[int], base: Style) -> list[Segment]:
        line = ""
        for token in inside:
            span = self._spans[token]
            begin = self._column(row, max(span.start, row.start))
            cells = self._column(row, min(span.end, row.end)) - begin
            sign = "^" * cells if token == self._cursor else str(span.heat) if span.heat > 1 else ""
            line = set_cell_size(line, begin) + set_cell_size(sign, cells)
        return [Segment(line, base + self._named("sign"))]
