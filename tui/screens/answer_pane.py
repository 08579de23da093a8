"""One answer that is judged: its number and what is said of it, and its text.

Deliberately left out: what stands in it (`tui.screens.rank`).
"""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical

from tui.screens.text_line import TextLine
from tui.widgets import LineView


class AnswerPane(Vertical):
    """See the module."""

    DEFAULT_CSS = "AnswerPane { height: 1fr; width: 1fr; }"

    def __init__(self, place: int) -> None:
        super().__init__(id=f"ranked-{place}")

    def compose(self) -> ComposeResult:
        """The two parts."""
        yield TextLine(classes="cell-head")
        yield LineView(classes="cell-text")

    @property
    def text(self) -> LineView:
        return self.query_one(LineView)
