"""The lines of the tutorial above the key line: the station, what it says, and the key that it waits for.

They take their own rows, so that they cover nothing: three of a small terminal, more of a tall one, and more where
long names of keys need them. Deliberately left out: what they say (`tui.stations`), and when it changes (`tui.tutor`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.containers import Vertical

from tui import actions
from tui.answers import row_count
from tui.keys import Keys
from tui.screens.text_line import Part, TextLine
from tui.tutor import Tutor, pieces
from tui.widgets import LineView, Paragraph, Span

if TYPE_CHECKING:
    from tui.app import Console

HEAD_ROWS = 1
PADDING_CELLS = 2


class Guide(Vertical):
    """See the module."""

    DEFAULT_CSS = """
    Guide {
        height: 3;
        & > LineView { height: 1fr; padding: 0 1; scrollbar-size-vertical: 0; }
    }
    .-tall Guide { height: 6; }
    .-tall.-wide Guide { height: 4; }
    """

    def compose(self) -> ComposeResult:
        """The heading and the text."""
        yield TextLine(id="guide-head", rule="-" if cast("Console", self.app).is_ascii else "─")
        yield LineView(id="guide-text", gutter=False)

    def on_mount(self) -> None:
        """Nobody walks into it by Tab."""
        self.query_one(LineView).can_focus = False

    def show(self, tutor: Tutor, console: Console) -> None:
        """Say where the person is."""
        keys = console.keys
        ways = {"tutorial.skip": 2, "tutorial.leave": 1} if tutor.station is not None else {"tutorial.leave": 1}
        named = [actions.BY_ID[name] for name in ways]
        self.query_one("#guide-head", TextLine).show(
            [Part(tutor.heading, "title")],
            [Part(f"{keys.first(action)} {action.words}", "dim", ways[action.id], action.id) for action in named],
        )
        words, more = tutor.words(console)
        lines = [guide_paragraph(words, keys)]
        lines += [guide_paragraph(more, keys, style="dim")] if more and self.screen.has_class("-tall") else []
        self.styles.min_height = HEAD_ROWS + row_count(lines, console.size.width - PADDING_CELLS)
        self.query_one(LineView).set_document(lines)


def guide_paragraph(text: str, keys: Keys, *, style: str = "plain") -> Paragraph:
    """A text of the tutorial, with its keys set off."""
    shown, spans = "", []
    for piece in pieces(text, keys):
        if piece.is_key:
            spans.append(Span(len(shown), len(shown) + len(piece.text), "search"))
        shown += piece.text
    return Paragraph.of(shown, spans, style=style)
