"""The help page: the keys here, the keys everywhere, the pane in focus, and what the words mean.

Everything on it is read from where it is declared: `tui.actions`, the widgets' HELP, `tui.terms`, `ponder.metrics`.
Deliberately left out: knobs, which explain themselves on their own screen.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widget import Widget

from tui.action import Action
from tui.actions import WIDGET_KEYS, actions_of
from tui.answers import LEGEND
from tui.keys import Keys, key_name
from tui.screens.dialog import Dialog
from tui.screens.text_line import Part, TextLine
from tui.terms import CURVE_SIGNS, STATES, glossary
from tui.widgets import LineView, Paragraph, Span

if TYPE_CHECKING:
    from tui.app import Console

KEY_CELLS = 14
TERM_CELLS = 22


class HelpScreen(Dialog[None]):
    """See the module."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,f1,question_mark", "leave", "close", show=False)]

    def __init__(self, screen_name: str, focused: Widget | None, foreword: Sequence[Paragraph] = ()) -> None:
        """`foreword` is what the screen itself has to say, before its keys."""
        super().__init__()
        self._foreword = foreword
        self._screen_name = screen_name
        self._pane = (getattr(focused, "HELP", None) or "").replace("`", "")

    def compose(self) -> ComposeResult:
        """One long text."""
        with Vertical(id="page"):
            yield TextLine(id="page-head")
            yield LineView(id="page-text", gutter=False)

    def opened(self) -> None:
        """Fill the page."""
        console = cast("Console", self.app)
        self.query_one("#page-head", TextLine).show(
            [Part(f" help: {self._screen_name}", "title")], [Part("Esc closes ")]
        )
        view = self.query_one("#page-text", LineView)
        width = min(120, self.app.size.width) - 2
        page = help_page(self._screen_name, console.keys, console.run_name, self._pane, width)
        view.set_document([*self._foreword, *page])
        view.focus()

    def action_leave(self) -> None:
        """Close."""
        self.close(None)


def help_page(screen_name: str, keys: Keys, run: str, pane: str = "", width: int = 78) -> list[Paragraph]:
    """The page as paragraphs."""
    page = [_title(f"keys of the {screen_name} screen")]
    page += [_key_line(action, keys, run, width) for action in actions_of(screen_name)]
    if pane:
        page += [_title("the pane in focus"), Paragraph.of(pane)]
    page += [_title("keys of every screen")]
    page += [_key_line(action, keys, run, width) for action in actions_of("")]
    page += [_title("keys of lists and texts")]
    for name, (default, words) in WIDGET_KEYS.items():
        shown = " ".join(key_name(key) for key in keys.keymap.get(name, default).split(","))
        page.append(_entry(shown, f"{words} [{name}]", KEY_CELLS, width))
    page += [_title("what the words mean")]
    page += [_entry(term, meaning, TERM_CELLS, width) for term, meaning in glossary()]
    page.append(
        _entry(
            "signs of a text",
            f"{LEGEND}  + right  - wrong",
            TERM_CELLS,
            width,
        )
    )
    page += [_entry(f"{sign} on a curve", meaning, TERM_CELLS, width) for sign, meaning in CURVE_SIGNS.items()]
    page += [_title("what a run is doing")]
    page += [_entry(f"{word.sign} {state}", word.meaning, TERM_CELLS, width) for state, word in STATES.items()]
    page.append(_title("keys can be changed in `keys.toml` beside the store, by the names in brackets"))
    return page


def words_page(title: str, words: Iterable[tuple[str, str]], width: int) -> list[Paragraph]:
    """Words with their meanings, for the foreword of a screen that cannot be used without them."""
    head = Paragraph.of(title, style="title")
    return [head, *(_entry(word, meaning, KEY_CELLS, min(120, width) - 2) for word, meaning in words)]


def _title(text: str) -> Paragraph:
    return Paragraph.of(f"\n{text}", style="title")


def _key_line(action: Action, keys: Keys, run: str, width: int) -> Paragraph:
    command = f"   = {action.command.format(run=run or 'RUN')}" if action.command else ""
    return _entry(" ".join(keys.of(action)), f"{action.help}{command} [{action.id}]", KEY_CELLS, width)


def _entry(term: str, meaning: str, cells: int, width: int) -> Paragraph:
    lines = textwrap.wrap(meaning, max(20, width - cells - 2))
    text = f"\n{' ' * (cells + 2)}".join(lines)
    return Paragraph.of(f"  {term:<{cells}}{text}", [Span(2, 2 + len(term), "title")])
