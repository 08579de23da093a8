"""Find anything by a few letters: runs, screens, knobs, metrics, actions, colours.

Letters match in their order anywhere in a name (`optlr` finds `optim.lr`); earlier and closer together is better.
Deliberately left out: commands with arguments, which belong to the shell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input

from ponder import wire
from ponder.errors import PonderError
from ponder.knobs import DECLARATIONS
from ponder.metrics import METRICS
from tui.actions import ACTIONS
from tui.screens.dialog import Dialog
from tui.theme import WORDS
from tui.widgets import Cell, Column, ListRow, ListSource, VirtualList

if TYPE_CHECKING:
    from tui.app import Console

COLUMNS = (Column("kind", 7), Column("name", 24), Column("what it is", 0))


@dataclass(frozen=True)
class Target:
    """One thing that can be found."""

    kind: str
    name: str
    label: str
    help: str


def closeness(letters: str, text: str) -> float | None:
    """How well the letters fit, smaller is better; None when they are not in the text in this order.

    >>> closeness("lr", "optim.lr") < closeness("lr", "linear"), closeness("x", "lr")
    (True, None)
    """
    wanted, text = letters.lower(), text.lower()
    whole = text.find(wanted)
    if whole >= 0:
        is_word = whole == 0 or not text[whole - 1].isalnum()
        return (0.0 if is_word else 1.0) + whole / 1000
    at, first, score = -1, 0, 0.0
    for number, letter in enumerate(wanted):
        found = text.find(letter, at + 1)
        if found < 0:
            return None
        first = found if number == 0 else first
        score += found - at - 1 if number else 0.0
        at = found
    return 2.0 + score + first / 1000


def fixed_targets() -> list[Target]:
    """What can be found whatever runs there are."""
    targets = [
        Target("action", action.id, action.words, action.help) for action in ACTIONS if action.id != "app.palette"
    ]
    targets += [Target("knob", name, name, knob.doc) for name, knob in DECLARATIONS.items()]
    targets += [
        Target("metric", metric.name, metric.label, metric.doc)
        for metric in METRICS.values()
        if not metric.name.endswith("*")
    ]
    targets += [Target("theme", name, f"{name} colours", words) for name, words in WORDS.items()]
    return targets


class Palette(Dialog[Sequence[str] | None]):
    """Answers (kind, name) of what was chosen, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "close", show=False),
        Binding("down,ctrl+n", "move(1)", "down", show=False, priority=True),
        Binding("up", "move(-1)", "up", show=False, priority=True),
        Binding("enter", "choose", "go", show=False, priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._targets = fixed_targets()
        self._shown: list[Target] = []

    def compose(self) -> ComposeResult:
        """A line to type in, and what fits."""
        with Vertical(id="palette"):
            yield Input(placeholder="a run, screen, knob, metric or action", id="letters", compact=True)
            yield VirtualList(COLUMNS, id="found", empty="nothing has these letters in this order")

    def opened(self) -> None:
        """What is always there at once; the runs when the daemon has told them."""
        self.query_one("#found", VirtualList).can_focus = False
        self.set_focus(self.query_one(Input))
        self._search("")
        self.run_worker(self._ask_for_runs(), exit_on_error=True)

    async def _ask_for_runs(self) -> None:
        try:
            runs = (await cast("Console", self.app).ask(wire.ListRuns(limit=200), wire.Runs)).runs
        except PonderError:
            return  # without a daemon there is still the rest
        self._targets = [Target("run", row.name, row.name, row.title or str(row.state)) for row in runs] + self._targets
        self._search(self.query_one(Input).value)

    @on(Input.Changed)
    def typed(self, event: Input.Changed) -> None:
        """Other letters, other finds."""
        self._search(event.value)

    def _search(self, letters: str) -> None:
        ranked = []
        for number, target in enumerate(self._targets):
            by_name, by_help = closeness(letters, target.label), closeness(letters, target.help) if letters else None
            scores = [score for score in (by_name, None if by_help is None else by_help + 20) if score is not None]
            if scores:
                ranked.append((min(scores), number, target))
        self._shown = [target for _, _, target in sorted(ranked, key=lambda item: item[:2])]
        rows = [
            ListRow(str(number), (Cell(target.kind, "dim"), target.label, Cell(target.help, "dim")))
            for number, target in enumerate(self._shown)
        ]
        found = self.query_one("#found", VirtualList)
        found.set_source(ListSource(rows))
        found.move_to_index(0)

    def action_move(self, by: int) -> None:
        """The cursor of the list, from the line."""
        self.query_one("#found", VirtualList).action_cursor_by(by)

    def action_choose(self) -> None:
        """Go there."""
        index = self.query_one("#found", VirtualList).cursor_index
        if index < len(self._shown):
            self.close((self._shown[index].kind, self._shown[index].name))

    def action_leave(self) -> None:
        """Go nowhere."""
        self.close(None)

    def on_virtual_list_row_selected(self, _: VirtualList.RowSelected) -> None:
        """A click."""
        self.action_choose()
