"""A question that needs a yes before something is done that a stray key must not do.

Deliberately left out: everything that can be undone, which is never asked about.
"""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical

from tui.screens.dialog import Dialog
from tui.screens.text_line import Part, TextLine


class Confirm(Dialog[bool]):
    """Answers True for `y`; everything else that answers is False."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,Y", "answer(True)", "yes", show=False),
        Binding("n,N,escape,q,enter", "answer(False)", "no", show=False),
    ]

    def __init__(self, lines: list[str], yes: str, no: str) -> None:
        super().__init__()
        self._lines = lines
        self._words = (yes, no)

    def compose(self) -> ComposeResult:
        """The lines and the two keys."""
        with Vertical(id="dialog"):
            for number in range(len(self._lines)):
                yield TextLine(id=f"ask-{number}")
            yield TextLine()
            yield TextLine(id="answers", gap="     ")

    def opened(self) -> None:
        """Say what is asked."""
        for number, line in enumerate(self._lines):
            self.query_one(f"#ask-{number}", TextLine).show([Part(line, "plain" if number else "title")])
        yes, no = self._words
        self.query_one("#answers", TextLine).show([Part(f"y {yes}", "bad"), Part(f"n {no}", "key")])

    def action_answer(self, is_meant: bool) -> None:
        """Close with the answer."""
        self.close(is_meant)
