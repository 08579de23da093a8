"""Why answers were put in that order: reasons by their digits, and a person's own words.

Tab goes between the two, Enter keeps both, Escape leaves things as they were. Deliberately left out: what becomes of
them, which the ranking carries (`tui.draft`).
"""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input

from ponder.ranking import REASONS
from tui.screens.dialog import Dialog
from tui.screens.text_line import Part, TextLine

MOST_NOTE = 4000


class Reasons(Dialog[tuple[tuple[str, ...], str] | None]):
    """Answers (reasons, note), or None when nothing is to change."""

    AUTO_FOCUS: ClassVar[str | None] = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "as it was", show=False),
        Binding("enter", "keep", "keep", show=False),
        Binding("tab,shift+tab", "change_side", "note", show=False, priority=True),
        *(
            Binding(str(number), f"turn({number})", REASONS[number - 1], show=False)
            for number in range(1, len(REASONS) + 1)
        ),
    ]

    def __init__(self, reasons: tuple[str, ...], note: str) -> None:
        super().__init__()
        self._chosen = set(reasons)
        self._others = [reason for reason in reasons if reason not in REASONS]
        self._note = note

    def compose(self) -> ComposeResult:
        """The reasons, a line for words, and the keys."""
        with Vertical(id="reasons"):
            yield TextLine(id="reasons-head")
            for number in range(len(REASONS)):
                yield TextLine(id=f"reason-{number}")
            yield Input(
                self._note,
                placeholder="Tab, then your own words",
                max_length=MOST_NOTE,
                id="reasons-note",
                compact=True,
            )
            yield TextLine(id="reasons-keys")

    def opened(self) -> None:
        """The digits first."""
        self.query_one("#reasons-head", TextLine).show([Part("why this order", "title")])
        self.set_focus(None)
        self._show()

    def _show(self) -> None:
        for number, reason in enumerate(REASONS):
            is_on = reason in self._chosen
            self.query_one(f"#reason-{number}", TextLine).show(
                [Part(f" {number + 1} {'[x]' if is_on else '[ ]'} {reason}", "good" if is_on else "plain")]
            )
        keys = [Part("1-9 turn on and off"), Part("Tab words"), Part("Enter keep", "key"), Part("Esc as it was")]
        self.query_one("#reasons-keys", TextLine).show(keys)

    def action_turn(self, number: int) -> None:
        """A reason on or off."""
        self._chosen ^= {REASONS[number - 1]}
        self._show()

    def action_change_side(self) -> None:
        """To the words, or back to the digits."""
        note = self.query_one("#reasons-note", Input)
        self.set_focus(None if note.has_focus else note)

    def on_input_submitted(self, _: Input.Submitted) -> None:
        """Enter in the line of words."""
        self.action_keep()

    def action_keep(self) -> None:
        """Close with both."""
        if not self.is_current:
            return
        note = self.query(Input)
        words = note.first().value.strip() if note else self._note
        self.close((tuple(reason for reason in REASONS if reason in self._chosen) + tuple(self._others), words))

    def action_leave(self) -> None:
        """Close and change nothing."""
        self.close(None)
