"""A chart that can be in focus, and in which a place of x is pointed at with the mouse.

Left out on purpose: the keys that move a cursor, which belong to the screen with all its charts.
"""

from __future__ import annotations

from textual import events
from textual.message import Message

from tui.widgets.braille_chart import BrailleChart


class CurveChart(BrailleChart, can_focus=True):
    """A chart that a cursor can be set in with the mouse."""

    HELP = "A chart. `h`/`l` move the cursor, `z`/`Z` zoom, `Tab` goes to the next chart, `Enter` makes it large."
    DEFAULT_CSS = "CurveChart:focus > .braille-chart--title { text-style: bold reverse; }"

    class Pointed(Message):
        """A place of x was clicked."""

        def __init__(self, x: float) -> None:
            super().__init__()
            self.x = x

    def on_click(self, event: events.Click) -> None:
        """The cursor goes there."""
        offset = event.get_content_offset(self)
        x = self.x_at(offset.x) if offset is not None else None
        if x is not None:
            self.post_message(self.Pointed(x))
