"""A table of any number of rows that reads only those in view.

Rows come page by page from a `RowSource` (a list, a query over a million rollouts) and are identified by a key, so that
the cursor stays on its row, at its place on the screen, when rows are added above it.

Left out on purpose: sorting and filtering (the source's work), markup, cells of more than one line, horizontal
scrolling (columns are dropped in a fixed order instead).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

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
from tui.widgets.rows import Cell, Column, ListRow, ListSource, RowSource, column_widths, fit

PAGE_ROWS = 128
PAGES_KEPT = 16
STYLES = ("plain", "dim", "title", "good", "bad", "warning", "running", "reflect")
"""Names that cells and rows may use; each can be restyled as `VirtualList > .virtual-list--NAME`."""


class VirtualList(ScrollView, PaintsLines, MayBeEmpty, can_focus=True):
    """A table of rows with a cursor; see the module.

    Keys: `j k` or arrows, page keys, `g` first, `G` last, `Enter` selects.
    """

    STYLE_PREFIX = "virtual-list"
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"virtual-list--{name}" for name in (*STYLES, "header", "cursor", "empty")}
    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "cursor_by(1)", "Down", id="list.down", show=False),
        Binding("k,up", "cursor_by(-1)", "Up", id="list.up", show=False),
        Binding("pagedown,space", "page(1)", "Page down", id="list.page_down", show=False),
        Binding("pageup", "page(-1)", "Page up", id="list.page_up", show=False),
        Binding("g,home", "first", "First", id="list.first", show=False),
        Binding("G,end", "last", "Last", id="list.last", show=False),
        Binding("enter", "select", "Open", id="list.select", show=False),
    ]
    HELP = "A list. `j`/`k` move by a row, `PgDn` by a page, `g`/`G` to the first and last row, `Enter` opens."
    DEFAULT_CSS = """
    VirtualList {
        scrollbar-size-vertical: 1;
        overflow-x: hidden;
        overflow-y: scroll;
        & > .virtual-list--header { text-style: bold underline; }
        & > .virtual-list--cursor { text-style: bold; }
        &:focus > .virtual-list--cursor { text-style: bold reverse; }
        & > .virtual-list--empty { text-style: italic; }
        & > .virtual-list--dim { text-style: dim; }
        & > .virtual-list--title { text-style: bold; }
        & > .virtual-list--good { color: $success; }
        & > .virtual-list--bad { color: $error; }
        & > .virtual-list--warning { color: $warning; text-style: bold; }
        & > .virtual-list--running { color: $accent; text-style: bold; }
        & > .virtual-list--reflect { color: $warning; text-style: underline; }
    }
    """

    @dataclass
    class RowHighlighted(Message):
        """The cursor is on another row now; None when there is none."""

        list: VirtualList
        key: str | None

        @property
        def control(self) -> VirtualList:
            """The list, so that handlers can select by it."""
            return self.list

    @dataclass
    class RowSelected(Message):
        """Enter was pressed on a row, or the row under the cursor was clicked."""

        list: VirtualList
        key: str

        @property
        def control(self) -> VirtualList:
            """The list, so that handlers can select by it."""
            return self.list

    def __init__(
        self,
        columns: Sequence[Column],
        source: RowSource | None = None,
        *,
        empty: str = "nothing here yet",
        follow_first: bool = False,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        """`empty` names the next action while there are no rows.

        With `follow_first` a cursor on the first row stays on the first row when newer ones come in above it.
        """
        super().__init__(name=name, id=id, classes=classes)
        self._columns = tuple(columns)
        self._source: RowSource = source or ListSource()
        self._empty = empty
        self._follow_first = follow_first
        self._count = 0
        self._cursor = 0
        self._cursor_key: str | None = None
        self._awaited: str | None = None
        self._pages: OrderedDict[int, Sequence[ListRow]] = OrderedDict()
        self._painted: dict[int, tuple[ListRow | None, bool]] = {}

    @property
    def cursor_key(self) -> str | None:
        """The key of the row under the cursor."""
        return self._cursor_key

    @property
    def cursor_index(self) -> int:
        """The number of the row under the cursor."""
        return self._cursor

    @property
    def row_count(self) -> int:
        """How many rows the source had when it was last asked."""
        return self._count

    @property
    def rows_above(self) -> int:
        """Rows above the view, for a line such as `12 new above`."""
        return self.scroll_offset.y

    def set_source(self, source: RowSource) -> None:
        """Show another source; the cursor stays on its key where the new source has it."""
        self._source = source
        self.reload()

    def set_columns(self, columns: Sequence[Column]) -> None:
        """Show other columns."""
        if tuple(columns) != self._columns:
            self._columns = tuple(columns)
            self._painted.clear()
            self.refresh()

    def come_to(self, key: str) -> None:
        """Put the cursor on the row of this key as soon as the source has it."""
        self._awaited = key
        self.reload()

    def reload(self) -> None:
        """Ask the source again and paint the rows that changed; cheap when nothing did."""
        if not self.is_attached:
            return
        self._pages.clear()
        was_first = self._cursor == 0
        old_cursor, old_key, top = self._cursor, self._cursor_key, self.scroll_offset.y
        self._count = self._source.count()
        found = self._source.index_of(old_key) if old_key is not None else None
        if self._follow_first and was_first:
            found = 0
        if self._awaited is not None and (awaited := self._source.index_of(self._awaited)) is not None:
            found, self._awaited = awaited, None
        self._cursor = max(0, min(old_cursor if found is None else found, self._count - 1))
        self._resize_rows()
        if found is not None:
            top += self._cursor - old_cursor
        self.scroll_to(y=max(0, min(top, self._last_top)), animate=False, immediate=True)
        self._settle()
        self._paint_changes()

    def move_to(self, key: str) -> bool:
        """Put the cursor on the row of this key; False when the source has none."""
        index = self._source.index_of(key)
        if index is None:
            return False
        self.move_to_index(index)
        return True

    def move_to_index(self, index: int) -> None:
        """Put the cursor on a row and bring it into view."""
        if not self._count:
            return
        self._awaited = None
        self._cursor = max(0, min(index, self._count - 1))
        top = self.scroll_offset.y
        if self._cursor < top:
            top = self._cursor
        elif self._cursor >= top + self._body_height:
            top = self._cursor - self._body_height + 1
        self.scroll_to(y=top, animate=False, immediate=True)
        self._settle()
        self._paint_changes()

    # -- keys and mouse --

    def action_cursor_by(self, rows: int) -> None:
        """Move the cursor by rows."""
        self.move_to_index(self._cursor + rows)

    def action_page(self, pages: int) -> None:
        """Move cursor and view by a page less a row."""
        step = pages * max(1, self._body_height - 1)
        top = max(0, min(self.scroll_offset.y + step, self._last_top))
        self.scroll_to(y=top, animate=False, immediate=True)
        self.move_to_index(self._cursor + step)

    def action_first(self) -> None:
        """Cursor to the first row."""
        self.move_to_index(0)

    def action_last(self) -> None:
        """Cursor to the last row."""
        self.move_to_index(self._count - 1)

    def action_select(self) -> None:
        """Open the row under the cursor."""
        if self._cursor_key is not None:
            self.post_message(self.RowSelected(self, self._cursor_key))

    def on_click(self, event: events.Click) -> None:
        """Cursor to the clicked row; a click on the cursor opens it."""
        offset = event.get_content_offset(self)
        if offset is None or offset.y == 0:
            return
        index = self.scroll_offset.y + offset.y - 1
        if index == self._cursor and index < self._count:
            self.action_select()
        elif index < self._count:
            self.move_to_index(index)

    def on_mount(self) -> None:
        """Read the source for the first time."""
        self.reload()

    def on_resize(self, _: events.Resize) -> None:
        """Keep the cursor in view; paint again, for the event may come after the paint that the new size brought."""
        self._painted.clear()
        self.refresh()
        self._resize_rows()
        self.move_to_index(self._cursor)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Rows under other places are painted by the scroll itself."""
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self._painted.clear()

    # -- painting --

    def render_line(self, y: int) -> Strip:
        """The header, a row, or the line that says what to do when there are none."""
        width = self.scrollable_content_region.width
        base = self._base
        if y == 0:
            cells = [(column.name, "plain") for column in self._columns]
            return self._strip("", cells, width, base + self._named("header"))
        if not self._count:
            text = safe_line(self._nothing, width - 2) if y == 1 else ""
            return self._padded([Segment(f"  {text}", base + self._named("empty"))], width, base)
        index = self.scroll_offset.y + y - 1
        row = self._row(index)
        is_cursor = index == self._cursor
        self._painted[y] = (row, is_cursor)
        if row is None:
            return Strip.blank(width, base)
        style = base + self._named(row.style)
        if is_cursor:
            style += self._named("cursor")
        parts = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row.cells]
        return self._strip(">" if is_cursor else "", [(part.text, part.style) for part in parts], width, style)

    def _strip(self, sign: str, cells: Sequence[tuple[str, str]], width: int, style: Style) -> Strip:
        segments = [Segment(f"{sign:<2}", style)]
        for column, room, (text, name) in zip(
            self._columns, column_widths(self._columns, width - 2), cells, strict=False
        ):
            if room <= 0:
                continue
            cell_style = style if name == "plain" else style + self._named(name)
            fitted = fit(safe_line(text[: room * 5 + 5]), room, column.align)
            if cell_style is style:
                segments.append(Segment(f"{fitted} ", style))
            else:
                segments += [Segment(fitted, cell_style), Segment(" ", style)]
        return self._padded(segments, width, style)

    def _padded(self, segments: list[Segment], width: int, style: Style) -> Strip:
        return Strip(segments).extend_cell_length(width, style).crop(0, width)

    def _row(self, index: int) -> ListRow | None:
        if not 0 <= index < self._count:
            return None
        number, inside = divmod(index, PAGE_ROWS)
        page = self._pages.get(number)
        if page is None:
            page = self._source.rows(number * PAGE_ROWS, PAGE_ROWS)
            self._pages[number] = page
            if len(self._pages) > PAGES_KEPT:
                self._pages.popitem(last=False)
        else:
            self._pages.move_to_end(number)
        return page[inside] if inside < len(page) else None

    @property
    def _body_height(self) -> int:
        return max(1, self.scrollable_content_region.height - 1)

    @property
    def _last_top(self) -> int:
        return max(0, self._count - self._body_height)

    def _resize_rows(self) -> None:
        size = Size(self.scrollable_content_region.width, self._count + 1)
        if size != self.virtual_size:
            was_empty = self.virtual_size.height <= 1
            self.virtual_size = size
            if was_empty or not self._count:
                self.refresh()

    def _settle(self) -> None:
        """Learn the key under the cursor and tell when it is another."""
        row = self._row(self._cursor)
        key = row.key if row is not None else None
        if key != self._cursor_key:
            self._cursor_key = key
            self.post_message(self.RowHighlighted(self, key))

    def _paint_changes(self) -> None:
        """Paint the rows in view that are not what they were when last painted."""
        top = self.scroll_offset.y
        for y, (row, was_cursor) in list(self._painted.items()):
            index = top + y - 1
            if self._row(index) != row or (index == self._cursor) != was_cursor:
                self.refresh_line(index + 1)
