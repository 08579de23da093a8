"""Choose several things of many by a few letters of their names: metrics for curves, runs to lay over each other.

Letters match as in the palette; after a `/` they are a regular expression. Enter takes the row under the cursor, or
gives it back; Ctrl-A takes all that are found. Deliberately left out: what becomes of the choice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input

from tui.screens.dialog import Dialog
from tui.screens.palette import closeness
from tui.screens.text_line import Part, TextLine
from tui.widgets import Cell, Column, ListRow, ListSource, VirtualList

COLUMNS = (Column("", 1), Column("name", 26), Column("", 22, drop=1), Column("what it is", 0, drop=2))


@dataclass(frozen=True)
class Choice:
    """One thing that can be chosen."""

    name: str
    label: str
    help: str


class Chooser(Dialog[list[str]]):
    """Answers the names that are chosen in the end, in the order in which they were taken."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "done", show=False),
        Binding("down,ctrl+n", "move(1)", "down", show=False, priority=True),
        Binding("up", "move(-1)", "up", show=False, priority=True),
        Binding("enter", "turn", "take or give back", show=False, priority=True),
        Binding("ctrl+a", "take_found", "take all found", show=False, priority=True),
    ]

    def __init__(self, what: str, choices: Sequence[Choice], chosen: Sequence[str], most: int) -> None:
        """`what` is chosen, at most `most` of them."""
        super().__init__()
        self._what, self._choices, self._most = what, choices, most
        self._chosen = [name for name in chosen if any(choice.name == name for choice in choices)]
        self._found: list[Choice] = []

    def compose(self) -> ComposeResult:
        """A line to type in, what fits, and how many are chosen."""
        with Vertical(id="palette"):
            yield Input(placeholder=f"letters of {self._what}, or /expression", id="letters", compact=True)
            yield VirtualList(COLUMNS, id="found", empty="nothing fits")
            yield TextLine(id="chosen")

    def opened(self) -> None:
        """Everything, what is chosen first."""
        self.query_one("#found", VirtualList).can_focus = False
        self.set_focus(self.query_one(Input))
        self._search("")

    @on(Input.Changed)
    def typed(self, event: Input.Changed) -> None:
        """Other letters, other finds."""
        self._search(event.value)

    def _search(self, letters: str) -> None:
        self._found = found(self._choices, letters, self._chosen)
        self._show()
        self.query_one("#found", VirtualList).move_to_index(0)

    def _show(self) -> None:
        rows = [
            ListRow(
                choice.name,
                (
                    Cell("*" if choice.name in self._chosen else "", "title"),
                    Cell(choice.name, "title" if choice.name in self._chosen else "plain"),
                    choice.label,
                    Cell(choice.help, "dim"),
                ),
            )
            for choice in self._found
        ]
        self.query_one("#found", VirtualList).set_source(ListSource(rows))
        self.query_one("#chosen", TextLine).show(
            [Part(f"* {len(self._chosen)} of at most {self._most}", "title")],
            [Part("Enter takes or gives back"), Part("Ctrl-A takes all found", "plain", 1), Part("Esc done", "key")],
        )

    def action_move(self, by: int) -> None:
        """The cursor of the list, from the line."""
        self.query_one("#found", VirtualList).action_cursor_by(by)

    def action_turn(self) -> None:
        """Take what is under the cursor, or give it back."""
        name = self.query_one("#found", VirtualList).cursor_key
        if name in self._chosen:
            self._chosen.remove(name)
        elif name is not None:
            self._take([name])
        self._show()

    def action_take_found(self) -> None:
        """Take all that were found, as far as there is room."""
        self._take([choice.name for choice in self._found if choice.name not in self._chosen])
        self._show()

    def _take(self, names: list[str]) -> None:
        self._chosen += names[: self._most - len(self._chosen)]

    def action_leave(self) -> None:
        """Close with what is chosen."""
        self.close(self._chosen)

    def on_virtual_list_row_selected(self, _: VirtualList.RowSelected) -> None:
        """A click."""
        self.action_turn()


def found(choices: Sequence[Choice], letters: str, chosen: Sequence[str]) -> list[Choice]:
    """What fits the letters, best first; without letters everything, the chosen ones first.

    >>> kinds = [Choice("kl/k3", "KL", ""), Choice("reward/mean", "reward", ""), Choice("reward/std", "spread", "")]
    >>> [choice.name for choice in found(kinds, "rwst", [])], [choice.name for choice in found(kinds, "/^k|n$", [])]
    (['reward/std'], ['kl/k3', 'reward/mean'])
    """
    if not letters:
        return sorted(choices, key=lambda choice: choice.name not in chosen)
    if letters.startswith("/"):
        try:
            wanted = re.compile(letters[1:], re.IGNORECASE)
        except re.error:
            return []
        return [choice for choice in choices if wanted.search(choice.name) or wanted.search(choice.label)]
    ranked = []
    for number, choice in enumerate(choices):
        scores = [score for text in (choice.name, choice.label) if (score := closeness(letters, text)) is not None]
        if scores:
            ranked.append((min(scores), number, choice))
    return [choice for _, _, choice in sorted(ranked, key=lambda item: item[:2])]
