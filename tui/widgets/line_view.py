"""A scrolling view of many lines of text that costs what changed and nothing more.

It shows a document: paragraphs of sanitised text with styled spans (reflection marks, replaced characters), wrapped by
cell width. A document can be replaced as often as one likes; only rows that differ are painted. Streaming text can be
appended for the cost of its last line.

While it follows, the end stays in view; the view moves up by a third of its height at a time, not by a line, so that
the text under the reader's eye stands still and a slow link is not asked to repaint everything for each new line.

Left out on purpose: markup (no string is ever parsed), selection with the mouse, horizontal scrolling, search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import ClassVar

from rich.cells import set_cell_size
from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ponder.safe_text import safe_line, sanitise
from tui.widgets.document import STYLES, Block, Paragraph, RowKey, row_keys
from tui.widgets.emptiness import MayBeEmpty
from tui.widgets.painting import PaintsLines
from tui.widgets.wrapping import wrap_from


class LineView(ScrollView, PaintsLines, MayBeEmpty, can_focus=True):
    """Many lines of text; see the module.

    Keys: `j k` or arrows, `space`/page keys, `g` top, `G` end (and follow again).
    """

    STYLE_PREFIX = "line-view"
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"line-view--{name}" for name in (*STYLES, "gutter")}
    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "scroll_down", "Down", id="text.down", show=False),
        Binding("k,up", "scroll_up", "Up", id="text.up", show=False),
        Binding("pagedown,space", "page_down", "Page down", id="text.page_down", show=False),
        Binding("pageup", "page_up", "Page up", id="text.page_up", show=False),
        Binding("g,home", "scroll_home", "Top", id="text.top", show=False),
        Binding("G,end", "scroll_end", "End", id="text.end", show=False),
    ]
    HELP = (
        "Text. `j`/`k` move by a row, `PgDn` by a page, `g` to the top, `G` to the end, where it follows what is new."
    )
    DEFAULT_CSS = """
    LineView {
        scrollbar-size-vertical: 1;
        overflow-x: hidden;
        overflow-y: scroll;
        & > .line-view--gutter { text-style: bold; }
        & > .line-view--dim { text-style: dim; }
        & > .line-view--title { text-style: bold; }
        & > .line-view--prompt { text-style: italic; }
        & > .line-view--think { text-style: none; color: $secondary; }
        & > .line-view--answer { text-style: bold; }
        & > .line-view--reflect { text-style: bold underline; color: $warning; }
        & > .line-view--verify { text-style: underline; color: $success; }
        & > .line-view--backtrack { text-style: bold underline; color: $error; }
        & > .line-view--aha { text-style: bold reverse; color: $accent; }
        & > .line-view--good { text-style: bold; color: $success; }
        & > .line-view--bad { text-style: bold; color: $error; }
        & > .line-view--warning { text-style: reverse; color: $warning; }
        & > .line-view--search { text-style: reverse; }
        & > .line-view--heat-1 { text-style: dim; }
        & > .line-view--heat-2 { text-style: none; }
        & > .line-view--heat-3 { text-style: bold; color: $warning; }
        & > .line-view--heat-4 { text-style: bold reverse; color: $error; }
    }
    """

    @dataclass
    class FollowChanged(Message):
        """The view began or stopped to follow its end."""

        view: LineView
        following: bool

        @property
        def control(self) -> LineView:
            """The view, so that handlers can select by it."""
            return self.view

    def __init__(
        self,
        *,
        follow: bool = False,
        gutter: bool = True,
        empty: str = "",
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        """`follow` pins the view to its end; `gutter` keeps two columns for signs; `empty` stands in an empty view."""
        super().__init__(name=name, id=id, classes=classes)
        self._blocks: list[Block] = []
        self._document: tuple[Paragraph, ...] = ()
        self._keys: list[RowKey] = []
        self._strips: dict[int, Strip] = {}
        self._following = follow
        self._moving = False
        self._gutter = 2 if gutter else 0
        self._empty = sanitise(empty).text
        self._width = 0

    @property
    def following(self) -> bool:
        """Whether the end stays in view."""
        return self._following

    @property
    def lines_below(self) -> int:
        """Rows of text below the view, for a line such as `+312 below`."""
        return max(0, len(self._keys) - self.scroll_offset.y - self._height)

    @property
    def lines(self) -> list[str]:
        """The wrapped rows as plain text."""
        return [key[0] for key in self._keys]

    def set_document(self, document: Sequence[Paragraph]) -> None:
        """Show these paragraphs; those already shown keep their rows, and only rows that differ are painted."""
        if tuple(document) == self._document and not any(block.is_streamed for block in self._blocks):
            return
        same = 0
        for old, new in zip(self._document, document, strict=False):
            if old != new or self._blocks[same].is_streamed:
                break
            same += 1
        self._document = tuple(document)
        old_blocks = self._blocks[same:]
        self._blocks[same:] = [
            Block.shown(paragraph, self._width, before)
            for paragraph, before in zip_longest(document[same:], old_blocks[: len(document) - same])
        ]
        self._changed(same)

    def append(self, text: str, *, style: str | None = None, sign: str = "") -> None:
        """Stream raw text onto the last paragraph, or, with another `style` than its own, as a new paragraph."""
        if not text:
            return
        if not self._blocks or (style is not None and style != self._blocks[-1].style):
            self._blocks.append(Block("", (), (), style or "plain", sign, []))
        self._blocks[-1].stream(text, self._width)
        self._changed(len(self._blocks) - 1)

    def clear(self) -> None:
        """Show nothing."""
        self._document = ()
        self._blocks = []
        self._changed(0)

    def follow(self, on: bool = True) -> None:
        """Begin (and go to the end) or stop to follow."""
        if on:
            self._place(self._end_top())
        if on != self._following:
            self._following = on
            self.post_message(self.FollowChanged(self, on))

    def show_span(self, paragraph: int, offset: int) -> None:
        """Scroll so that a place in a paragraph is in the upper third of the view; stops following."""
        if not 0 <= paragraph < len(self._blocks):
            return
        above = sum(len(block.rows) for block in self._blocks[:paragraph])
        inside = sum(row.start <= offset for row in self._blocks[paragraph].rows) - 1
        self.follow(False)
        self._place(max(0, above + max(inside, 0) - self._height // 3))

    # -- keys and mouse: whatever moves the view up pauses following --

    def action_scroll_up(self) -> None:
        """Up by a row; stops following."""
        self.follow(False)
        self._place(self.scroll_offset.y - 1)

    def action_scroll_down(self) -> None:
        """Down by a row."""
        self._place(self.scroll_offset.y + 1)

    def action_page_up(self) -> None:
        """Up by a page less a row; stops following."""
        self.follow(False)
        self._place(self.scroll_offset.y - max(1, self._height - 1))

    def action_page_down(self) -> None:
        """Down by a page less a row."""
        self._place(self.scroll_offset.y + max(1, self._height - 1))

    def action_scroll_home(self) -> None:
        """To the first row; stops following."""
        self.follow(False)
        self._place(0)

    def action_scroll_end(self) -> None:
        """To the end, and follow it from now on."""
        self.follow(True)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """A mouse wheel or a dragged scrollbar that leaves the end pauses following."""
        super().watch_scroll_y(old_value, new_value)
        if self._following and not self._moving and new_value < old_value:
            self.follow(False)

    def on_resize(self, _: events.Resize) -> None:
        """Wrap again where the width changed."""
        width = max(1, self.scrollable_content_region.width - self._gutter)
        if width != self._width:
            self._width = width
            for block in self._blocks:
                block.rows = wrap_from(block.text, 0, width)
            self._keys = []
            self._changed(0)
        elif self._following:
            self._place(self._end_top())

    def notify_style_update(self) -> None:
        """Forget painted rows when the theme changes."""
        super().notify_style_update()
        self._strips.clear()

    def _paint_empty(self) -> None:
        self._strips.clear()
        super()._paint_empty()

    def render_line(self, y: int) -> Strip:
        """One row of the view."""
        index = self.scroll_offset.y + y
        width = self.scrollable_content_region.width
        strip = self._strips.get(index)
        if strip is None or strip.cell_length != width:
            strip = self._paint(index).extend_cell_length(width, self._base).crop(0, width)
            self._strips[index] = strip
        return strip

    @property
    def _height(self) -> int:
        return self.scrollable_content_region.height

    def _paint(self, index: int) -> Strip:
        base = self._base
        if index >= len(self._keys):
            return Strip([Segment(self._nothing, self._named("dim"))] if index == 0 and not self._keys else [])
        text, style, spans, sign = self._keys[index]
        segments: list[Segment] = []
        if self._gutter:
            segments.append(Segment(set_cell_size(safe_line(sign), 1) + " ", base + self._named("gutter")))
        row_style = base + self._named(style)
        cuts = sorted({0, len(text), *(start for start, _, _ in spans), *(end for _, end, _ in spans)})
        for start, end in pairwise(cuts):
            piece = row_style
            for span_start, span_end, name in spans:
                if span_start <= start and end <= span_end:
                    piece += self._named(name)
            segments.append(Segment(text[start:end], piece))
        return Strip(segments)

    # -- what changed --

    def _changed(self, first_block: int) -> None:
        """Recompute the rows from a block on; paint those that differ and keep the end in view."""
        if not self._width:
            return
        before = sum(len(block.rows) for block in self._blocks[:first_block])
        old = self._keys[before:]
        new = [key for block in self._blocks[first_block:] for key in row_keys(block)]
        self._keys[before:] = new
        top, height = self.scroll_offset.y, self._height
        for index in range(before, before + max(len(old), len(new))):
            was = old[index - before] if index - before < len(old) else None
            now = new[index - before] if index - before < len(new) else None
            if was != now:
                self._strips.pop(index, None)
                if top <= index < top + height:
                    self.refresh_line(index)
        if not self._keys or (not before and not old):
            self._strips.pop(0, None)
            self.refresh_line(0)
        if self._following:
            self._place(self._following_top())
        else:
            self._place(top)

    def _end_top(self) -> int:
        return max(0, len(self._keys) - self._height)

    def _following_top(self) -> int:
        """Where the view stands while following: unmoved while the end fits, else up by a third of its height."""
        top = self.scroll_offset.y
        below = len(self._keys) - top - self._height
        jump = max(1, self._height // 3)
        if below <= 0:
            return min(top, self._end_top() + jump) if self._end_top() else 0
        return top + jump if below <= jump else self._end_top()

    def _place(self, top: int) -> None:
        """Move to a top row, making room below it while following."""
        room = len(self._keys)
        if self._following:
            top = max(0, top)
            room = max(room, top + self._height)
        size = Size(self.scrollable_content_region.width, room)
        self._moving = True
        try:
            if size != self.virtual_size:
                self.virtual_size = size
            self.scroll_to(y=max(0, min(top, max(0, room - self._height))), animate=False, immediate=True)
        finally:
            self._moving = False
