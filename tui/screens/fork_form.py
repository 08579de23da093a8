"""What a fork is to change: knobs, and a name; asked in a form that says the command that does the same.

    knobs   optim.lr=1e-4 stage.steps=200     live knobs, and how many steps; checked while they are typed
    name    slower                            the new run's name without its number; like its parent when empty

Deliberately left out: asking the daemon, which the screen does with what this form answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Input

from ponder.errors import KnobError
from ponder.knobs import KnobValue, check_value, find_knob
from tui.screens.dialog import Dialog
from tui.screens.text_line import Part, TextLine

STEPS = "stage.steps"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class Wishes:
    """What the new run is to be."""

    changes: Mapping[str, KnobValue]
    name: str


def read_wishes(knobs: str, name: str) -> Wishes:
    """What is typed, checked; KnobError says what does not fit.

    >>> read_wishes("optim.lr=1e-4 stage.steps=200", "slow")
    Wishes(changes={'optim.lr': 0.0001, 'stage.steps': 200}, name='slow')
    """
    changes: dict[str, KnobValue] = {}
    for word in knobs.split():
        knob, equals, text = word.partition("=")
        if not equals or not text:
            raise KnobError(f"`{word}` is not `knob=value`", "for example `optim.lr=1e-4`")
        if knob == STEPS:
            if not text.isdecimal() or int(text) < 1:
                raise KnobError(f"`{STEPS}` cannot be `{text}`", "it takes a number of steps")
            changes[knob] = int(text)
            continue
        if not find_knob(knob).is_live:
            raise KnobError(f"`{knob}` is part of the past that a fork shares", "set it in a new run")
        changes[knob] = check_value(knob, text)
    if name and not NAME.fullmatch(name):
        raise KnobError(f"a run cannot be called `{name}`", "lower-case letters, digits, `.`, `_` and `-`")
    return Wishes(changes, name)


def fork_command(run: str, step: int, knobs: str, name: str) -> str:
    """The `ponder` command that does the same.

    >>> fork_command("demo-1", 20, "kl.coef=0", "free")
    'ponder fork demo-1 --at 20 --set kl.coef=0 --name free'
    """
    sets = "".join(f" --set {word}" for word in knobs.split())
    return f"ponder fork {run} --at {step}{sets}{f' --name {name}' if name else ''}"


class ForkForm(Dialog[Wishes | None]):
    """Answers with what is wished, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "leave", show=False, priority=True),
        Binding("up,down", "other", "other", show=False),
    ]

    def __init__(self, run: str, step: int) -> None:
        super().__init__()
        self._run, self._step = run, step

    def compose(self) -> ComposeResult:
        """Two lines to type in, what is wrong with them, and the command."""
        with Vertical(id="fork-form"):
            yield TextLine(id="fork-title")
            yield TextLine()
            with Horizontal(classes="fork-row"):
                yield TextLine(id="fork-knobs-label")
                yield Input(placeholder="optim.lr=1e-4 stage.steps=200, or nothing", id="fork-knobs", compact=True)
            with Horizontal(classes="fork-row"):
                yield TextLine(id="fork-name-label")
                yield Input(placeholder="like its parent", id="fork-name", compact=True)
            yield TextLine()
            yield TextLine(id="fork-check")
            yield TextLine(id="fork-command")
            yield TextLine()
            yield TextLine(id="fork-keys", gap="     ")

    def opened(self) -> None:
        """Say what is asked."""
        self.query_one("#fork-title", TextLine).show([Part(f"Fork {self._run} at step {self._step:,}", "title")])
        self.query_one("#fork-knobs-label", TextLine).show([Part("knobs")])
        self.query_one("#fork-name-label", TextLine).show([Part("name")])
        keys = [Part("Enter forks", "key"), Part("Tab other line", "key"), Part("Esc leaves", "key")]
        self.query_one("#fork-keys", TextLine).show(keys)
        self.set_focus(self.query_one("#fork-knobs", Input))
        self.check()

    @property
    def _typed(self) -> tuple[str, str]:
        return self.query_one("#fork-knobs", Input).value, self.query_one("#fork-name", Input).value.strip()

    @on(Input.Changed)
    def check(self) -> None:
        """Say while typing whether it fits, and the command."""
        if not self.is_current:  # it was closed with a letter still on its way
            return
        knobs, name = self._typed
        line = self.query_one("#fork-check", TextLine)
        try:
            wishes = read_wishes(knobs, name)
        except KnobError as error:
            line.show([Part(f"! {error.message}", "bad"), Part(error.hint, "dim", 1)])
        else:
            changed = (
                f"{len(wishes.changes)} changed" if wishes.changes else "nothing changed: it goes on as its parent"
            )
            line.show([Part(changed, "good")])
        self.query_one("#fork-command", TextLine).show(
            [Part(f"$ {fork_command(self._run, self._step, knobs, name)}", "dim")]
        )

    @on(Input.Submitted)
    def submit(self, event: Input.Submitted) -> None:
        """Answer, when it fits."""
        event.stop()
        if not self.is_current:
            return
        try:
            self.close(read_wishes(*self._typed))
        except KnobError:
            return  # what does not fit stands there

    def action_leave(self) -> None:
        """No fork."""
        self.close(None)

    def action_other(self) -> None:
        """To the other line."""
        self.focus_next()
