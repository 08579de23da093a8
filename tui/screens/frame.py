"""What all screens share: the status line on top, the tabs, and the key line at the bottom.

    line 1     run  state  step n/steps  elapsed  left  what the trainer does        age of the data when it is old
    line 2     the screens with their keys
    ...        the screen itself
    last line  what the keys do here, or what the daemon said last                   the line to the terminal

Below 60x15 only one line remains, which says so. Deliberately left out: what stands between (the screens), and
asking the daemon (`tui.app`, `tui.feed`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen
from textual.widget import Widget

from ponder import metrics
from ponder.event_text import format_duration, step_of
from ponder.events import WAIT_FOR_DISK, RunState
from ponder.safe_text import safe_line
from ponder.stage import StageKind
from ponder.wire import RunRow
from tui import actions
from tui.keys import short_tab
from tui.place import Spot
from tui.screens.text_line import Part, TextLine
from tui.terms import STATES
from tui.tutored import GUIDE
from tui.widgets import Paragraph, VirtualList
from tui.widgets.emptiness import ASKING, MayBeEmpty

if TYPE_CHECKING:
    from tui.app import Console

LEAST_COLUMNS = 60
LEAST_ROWS = 15
STALE_S = 5.0
"""A living trainer is heard about once a second; older than this is worth a word."""


class ConsoleScreen(Screen[None]):
    """A screen of the console; see the module. A subclass says its name, its body, what to pull and how to paint it."""

    screen_name: ClassVar[str] = ""
    tab: ClassVar[str] = ""
    """The screen under whose tab it stands, where it has none of its own."""
    wants_evaluations: ClassVar[bool] = False
    """Whether all evaluations of the run are shown here, and not only the first and the newest."""
    rests: ClassVar[bool] = True
    """Whether nothing that is pulled for it changes without an event."""
    placed_in: ClassVar[str] = ""
    """The list whose row under the cursor is where a person is here, where that is all there is to say."""
    BINDINGS: ClassVar[list[BindingType]] = []
    AUTO_FOCUS: ClassVar[str | None] = None
    _is_composed = False
    _pulled_of: str | None = None
    """The run of which what it shows has come."""
    _waits = False
    """Whether its views say that the daemon is asked."""
    is_filled = False
    """Whether that was painted."""

    @property
    def is_pulled(self) -> bool:
        """Whether what it shows of this run has come once."""
        return self._pulled_of == self.console.run_name

    def note_pulled(self, run: str) -> None:
        """What it shows of this run has come."""
        self._pulled_of = run

    def tell_views(self) -> None:
        """An empty view means nothing before the daemon has answered."""
        if self._waits is self.is_pulled:
            self._waits = not self.is_pulled
            for view in self.query("*"):  # the toolkit looks for a class by its first base alone
                if isinstance(view, MayBeEmpty):
                    view.wait(self._waits)

    def when_none(self, words: str) -> str:
        """`words` in a place where nothing is, once that is known."""
        return words if self.is_pulled else ASKING

    @property
    def is_there(self) -> bool:
        """Whether what a person went to is shown, so that the next key means that."""
        return self.is_filled

    @property
    def is_ready(self) -> bool:
        """Whether the widgets are there: the feed may be faster than a new screen, and outlive a closing one."""
        return self._is_composed and self.console.is_running and self.is_attached

    @property
    def console(self) -> Console:
        """The app that this screen belongs to."""
        return cast("Console", self.app)

    def body(self) -> Iterable[Widget]:
        """The widgets between tabs and key line."""
        return ()

    async def pull(self) -> None:
        """Ask the daemon for what this screen shows."""

    def paint(self) -> None:
        """Show what was pulled; widgets compare and repaint only what differs."""

    def go_back(self) -> bool:
        """Leave what is open inside this screen; False when nothing is."""
        return False

    def spot(self) -> Spot:
        """Where a person is on this screen, to come back to after the line dropped: short texts by name."""
        return {"row": self.query_one(self.placed_in, VirtualList).cursor_key or ""} if self.placed_in else {}

    def return_to(self, spot: Spot) -> None:
        """Come back to such a place, as far as it is still there. Called once the widgets are there."""
        if self.placed_in:
            self.query_one(self.placed_in, VirtualList).come_to(spot.get("row", ""))

    def copied(self) -> tuple[str, str] | None:
        """What `y` copies here: its name, and the text."""
        return None

    def foreword(self) -> list[Paragraph]:
        """What stands on the help page before the keys of this screen."""
        return []

    def hand_over(self, other: ConsoleScreen) -> None:
        """Another screen was asked for by its key: let it look at what is under the cursor here."""

    def compose(self) -> ComposeResult:
        """The frame around the body, styled for this size from the beginning."""
        wide, high = self.console.HORIZONTAL_BREAKPOINTS, self.console.VERTICAL_BREAKPOINTS
        size = self.console.size
        self.add_class(
            *self._get_breakpoint_classes(size.width, wide), *self._get_breakpoint_classes(size.height, high)
        )
        yield TextLine(id="status")
        yield TextLine(id="tabs", gap="")
        yield from self.body()
        yield from self.console.guide()
        yield TextLine(id="keys")

    def on_mount(self) -> None:
        """Show the frame at once."""
        self._is_composed = True
        if spot := self.console.place.spot_of(self.screen_name):
            self.return_to(spot)
        self.paint_frame()

    def on_screen_resume(self) -> None:
        """Pull for this screen now."""
        self.console.want()

    def on_resize(self, event: events.Resize) -> None:
        """One clear line instead of a broken layout where there is no room."""
        is_tiny = event.size.width < LEAST_COLUMNS or event.size.height < LEAST_ROWS
        self.set_class(is_tiny, "-tiny")
        self.paint_frame()
        if not is_tiny:
            self.call_after_refresh(self.paint)  # what depends on a pane's width needs the panes laid out

    def on_text_line_clicked(self, event: TextLine.Clicked) -> None:
        """A click on a tab or a key is that key."""
        self.run_worker(self.run_action(_target(event.action)), exit_on_error=True)

    @property
    def is_tiny(self) -> bool:
        """Whether there is room for one line only."""
        return self.has_class("-tiny")

    def paint_frame(self) -> None:
        """Status, tabs and keys."""
        if not self.is_ready:
            return
        self.query_one("#status", TextLine).show(*self._status())
        self.query_one("#tabs", TextLine).show(self._tabs())
        self.query_one("#keys", TextLine).show(*self._keys())
        self.console.paint_guide(self)

    @property
    def guide_rows(self) -> int:
        """How many rows the tutorial takes from what is shown."""
        return sum(guide.size.height for guide in self.query(f"#{GUIDE}") if guide.display)

    def _status(self) -> tuple[list[Part], list[Part]]:
        console = self.console
        row = console.row
        if self.is_tiny:
            return _tiny_status(row, self.size.width, self.size.height), []
        if row is None:
            left = [Part(" ponder", "title"), self._where, Part(console.no_run_words, "dim", 1)]
            return left, self._age(None)
        word = STATES[row.state]
        is_lost = console.lost_since_s is not None
        style = "stale" if is_lost else word.style
        now_us = row.seen_us if is_lost and row.seen_us is not None else console.now_us()
        left = [
            Part(f" {row.name}", "title"),
            self._where,
            Part(f"{word.sign} {row.state.upper()}", style),
            Part(_step_words(row)),
            Part(elapsed_words(row, now_us), "plain", 3),
            Part("" if is_lost else left_words(row, console.newest(metrics.STEP_S)), "plain", 4),
            Part(phase_words(console, row), "dim", 5),
            # Cut, not dropped: why a run is not learning is the most important word on the screen.
            Part(row.reason if row.state is not RunState.RUNNING else "", "warning", 0 if row.state.is_over else 2),
        ]
        return left, self._age(row)

    @property
    def _where(self) -> Part:
        """On which machine it is, where that is another one."""
        server = self.console.habits.server
        return Part(f"on {safe_line(server)}" if server else "", "dim", 2)

    def _age(self, row: RunRow | None) -> list[Part]:
        """How old the data are, once that matters."""
        console = self.console
        if console.lost_since_s is not None:
            age = format_duration(time.monotonic() - console.lost_since_s)
            return [Part(f"! daemon away {age}, reconnecting", "warning")]
        if console.other_version is not None:
            return [Part("! daemon of another version", "warning"), Part(console.other_version.hint, "dim", 1)]
        if row is not None and row.phase == WAIT_FOR_DISK and not row.state.is_over:
            return [Part("! disk full: free some space, and it goes on", "warning")]
        if row is None or row.seen_us is None or row.state.is_over or row.state is RunState.QUEUED:
            return []
        quiet_s = (console.now_us() - row.seen_us) / 1e6
        if quiet_s > STALE_S:
            return [Part(f"! trainer silent {format_duration(quiet_s)}", "warning")]
        return [Part(f"! {row.stuck}", "warning")] if row.stuck else []

    def _tabs(self) -> list[Part]:
        """Every screen with its key; they close up where the row is narrow."""
        keys = {name: self.console.keys.first(actions.BY_ID[f"screen.{name}"]) for name in actions.TABS}
        labels = [f"{key} {name.capitalize()}" for name, key in keys.items()]
        here = list(keys).index(self.tab or self.screen_name)
        if sum(len(label) + 2 for label in labels) <= self.size.width:
            texts = [f"[{label}]" if n == here else f" {label} " for n, label in enumerate(labels)]
        else:
            labels = [short_tab(name, key) for name, key in keys.items()]
            signs = {here: "[", here + 1: "]"}
            texts = [f"{signs.get(n, ' ')}{label}" for n, label in enumerate(labels)]
            texts[-1] += signs.get(len(labels), "")
        return [
            Part(text, "chosen" if n == here else "plain", 0, f"screen.{name}")
            for n, (name, text) in enumerate(zip(keys, texts, strict=True))
        ]

    def _keys(self) -> tuple[list[Part], list[Part]]:
        console = self.console
        if console.notice is not None:
            text, style = console.notice
            return [Part(f" {text}", style)], []
        parts: list[Part] = []
        for number, (key, action) in enumerate(console.keys.line(self.screen_name, console.is_readonly)):
            if not console.is_offered(action):
                continue
            words = console.words_of(action)
            is_anchor = action.id in ("app.help", "app.palette", "app.leave")
            drop = 0 if is_anchor else 10 + number
            parts.append(Part(f"{' ' if not parts else ''}{key} {words}", "plain", drop, action.id))
        scope = Part("read only" if console.is_readonly else "", "warning")  # beside the keys that are missing for it
        return parts, [scope, Part(console.link_words(), "dim", 99)]


def _target(action_id: str) -> str:
    action = actions.BY_ID[action_id]
    return f"{'screen' if action.screen else 'app'}.{action.method}"


def _tiny_status(row: RunRow | None, width: int, height: int) -> list[Part]:
    needs = Part(f"needs {LEAST_COLUMNS}x{LEAST_ROWS}", "warning", 1)
    size = Part(f"this terminal has {width}x{height}", "dim", 3)
    if row is None:
        return [Part("ponder", "title"), needs, size]
    word = STATES[row.state]
    state = Part(f"{word.sign} {row.state}", word.style)
    return [Part(row.name, "title", 2), state, Part(step_of(row.step, row.steps, "/")), needs, size]


def elapsed_words(row: RunRow, now_us: int) -> str:
    """How long the run has been going, or went; in whole minutes while it waits, so that a still screen stays still."""
    if row.started_us is None:
        return ""
    until_us = row.ended_us or (now_us if row.state is RunState.RUNNING else row.seen_us or now_us)
    seconds = (until_us - row.started_us) / 1e6
    is_exact = row.state is RunState.RUNNING or row.ended_us is not None
    if not is_exact and seconds < 60:
        return "under 1 min"
    return format_duration(seconds if is_exact else seconds // 60 * 60)


def left_words(row: RunRow, step_s: float | None) -> str:
    """How long it still takes when every step takes as long as the newest."""
    if step_s is None or row.state is not RunState.RUNNING or row.step >= row.steps:
        return ""
    return f"{format_duration(step_s * (row.steps - row.step))} left"


def phase_words(console: Console, row: RunRow) -> str:
    """What the trainer is doing now."""
    if row.state.is_over or row.state is RunState.QUEUED:
        return ""
    progress = console.progress
    if progress is None or progress.step < row.step or row.state in (RunState.STARTING, RunState.RESTARTING):
        return row.phase  # what was said last was said by a trainer that is gone
    is_counted = progress.total > 0 and progress.total != row.steps  # the steps stand on the line already
    return f"{progress.phase} {progress.done:,}/{progress.total:,}" if is_counted else progress.phase


def _step_words(row: RunRow) -> str:
    """Where the run is; with its stage, unless that is the plain case."""
    stage = "" if row.stage == StageKind.RL else f"{row.stage} "
    return f"{stage}step {step_of(row.step, row.steps, '/')}"
