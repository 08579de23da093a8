"""A small console for the driver's tests: our widgets, stock widgets that leak, and the keys that were pressed."""

from __future__ import annotations

import os
import sys
from typing import ClassVar

from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Static

from ponder.plot_text import Curve
from tui.driver import PonderDriver, driver_class
from tui.theme import THEMES, choose_theme
from tui.widgets import BrailleChart, Cell, Column, LineView, ListRow, ListSource, Paragraph, Span, VirtualList

HOSTILE = (
    "\x1b]52;c;cm0gLXJmIH4=\x07 \x1b[2J\x1b[H\x1b[?1049l\x1bc \x9b6n \x9d0;t\x07 \u202eevil\u202c a\u200bb "
    "e"
    + "\u0301" * 50
    + " \U000e0041 \ufe0f\u200d 👨\u200d👩\u200d👧 漢字 \x00\x07\x08\r\x7f \x1bP+q\x1b\\ \x1b[6n\x1b[c"
)


class SmallConsole(App[None]):
    """`python -m tests.tui.small_console [hostile]`"""

    CSS = "Horizontal { height: 8; } VirtualList { height: 6; } LineView { height: 1fr; } Static { height: 1; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", priority=True),
        Binding("ctrl+l", "repaint", priority=True),
        Binding("ctrl+t", "stream", priority=True),
    ]

    def __init__(self, hostile: bool) -> None:
        super().__init__(driver_class=driver_class())
        for theme in THEMES.values():
            self.register_theme(theme)
        self.theme = choose_theme(os.environ).name
        self.keys: list[str] = []
        self.name_text = HOSTILE if hostile else "plain"
        self.streamed = 0

    def compose(self) -> ComposeResult:
        yield Static("keys:", id="keys", markup=False)
        yield Static(self.name_text, id="leaky", markup=False)
        with Horizontal():
            yield BrailleChart(f"reward {self.name_text}", [Curve([(x, x % 7) for x in range(50)], smoothing=0.9)])
        rows = [ListRow(str(n), (str(n), Cell("1.00", "good"), f"answer {n} {self.name_text}")) for n in range(1000)]
        yield VirtualList([Column("step", 5, "right"), Column("reward", 7), Column("first line")], ListSource(rows))
        yield LineView(follow=True)

    def on_mount(self) -> None:
        text = f"Let me think 漢字.\nWait, no. {self.name_text}\nThe answer is 42."
        wait = text.index("Wait")
        marks = [Span(wait, wait + 8, "reflect", "R")]
        self.query_one(LineView).set_document([Paragraph.of(text, marks, style="think")])

    def on_key(self, event: events.Key) -> None:
        self.keys.append(event.key)
        self.query_one("#keys", Static).update("keys: " + " ".join(self.keys))

    def action_repaint(self) -> None:
        if isinstance(self._driver, PonderDriver):
            self._driver.repaint()

    def action_stream(self) -> None:
        """Stream for a while, then say so; faster than any terminal should have to follow."""
        if self.streamed < 60:
            self.streamed += 1
            self.query_one(LineView).append(f"word{self.streamed} {'漢' * (self.streamed % 3)} ")
            self.set_timer(0.01, self.action_stream)
        else:
            self.query_one(LineView).append("streamed.")


if __name__ == "__main__":
    SmallConsole("hostile" in sys.argv[1:]).run()
