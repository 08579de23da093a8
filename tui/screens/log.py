"""The trainer's log as it grows.

The file is read through the daemon by offsets; only what is new comes. Deliberately left out: the whole file
(`ponder logs` and a pager have that), and filters.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import BindingType
from textual.widget import Widget

from ponder import wire
from ponder.event_text import format_bytes
from tui import actions
from tui.screens.frame import ConsoleScreen
from tui.screens.text_line import Part, TextLine
from tui.widgets import LineView

TAIL_BYTES = 65_536
KEPT_CHARACTERS = 1_000_000
"""Beyond this the view begins anew from the tail."""


class LogScreen(ConsoleScreen):
    """See the module."""

    screen_name: ClassVar[str] = "log"
    AUTO_FOCUS: ClassVar[str | None] = "#log"
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("log")]

    def __init__(self) -> None:
        super().__init__()
        self._run: str | None = None
        self._offset = -TAIL_BYTES
        self._page: wire.LogPage | None = None
        self._kept = 0

    def body(self) -> Iterable[Widget]:
        """Where the file is, and its end."""
        yield TextLine(id="log-head")
        yield LineView(follow=True, gutter=False, id="log", empty=" the log is empty so far")

    async def pull(self) -> None:
        """What the file has beyond what is shown; the daemon's log where there is no run."""
        run = self.console.run_name or None
        view = self.query_one("#log", LineView)
        if run != self._run or self._kept > KEPT_CHARACTERS or (self._page and self._page.size_bytes < self._offset):
            view.clear()
            self._run, self._offset, self._kept = run, -TAIL_BYTES, 0
        while True:
            page = await self.console.ask(wire.GetLog(run, self._offset), wire.LogPage)
            self._page = page
            text = page.text
            if self._offset < 0 and page.offset > 0:
                text = text.partition("\n")[2]  # the tail begins inside a line
            view.append(text)
            self._kept += len(text)
            self._offset = page.next_offset
            if not page.text or page.next_offset >= page.size_bytes:
                return

    def action_log_follow(self) -> None:
        """Stay at the end, or stop."""
        view = self.query_one("#log", LineView)
        view.follow(not view.following)
        self.paint()

    def on_line_view_follow_changed(self, _: LineView.FollowChanged) -> None:
        """Say at once whether the end is followed."""
        self.paint()

    def paint(self) -> None:
        """The heading; the text paints itself."""
        if not self.is_ready:
            return
        view, page = self.query_one("#log", LineView), self._page
        where = [Part(f" {page.path}", "title"), Part(format_bytes(page.size_bytes), "dim", 1)] if page else []
        below = f"{view.lines_below:,} lines below, G for the end" if view.lines_below else "HELD"
        state = Part("following" if view.following else below, "running" if view.following else "warning")
        self.query_one("#log-head", TextLine).show(where, [state])
