"""The console: its screens over one daemon, and what is true for all of them.

    bell ──► Feed ──► Console.pull ──► the shown screen's pull ──► its paint      (one at a time, newest state wins)
    key  ──► action_* ──► send ──► accepted ──► settle      (`tui.asking`)

Leaving never stops a run: there is no request behind `q`. Deliberately left out: what a key is (`tui.actions`),
what the screens show (`tui.screens`), when the terminal is there at all (`tui.session`).
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import ClassVar

from textual import events
from textual.binding import BindingType
from textual.driver import Driver

from ponder import wire
from ponder.answer_text import with_counted_parts
from ponder.errors import INTERRUPTED_EXIT_CODE, NoDaemon, OtherVersion, PonderError
from ponder.events import Progress, RunState
from ponder.judged import RunJudges, judges_of
from ponder.knobs import KnobValue
from ponder.news import News, Notice
from ponder.person import user_name
from ponder.plot_text import wants_ascii
from ponder.safe_text import safe_text
from tui import actions
from tui.action import Action
from tui.asking import NOTICE_LEAST_S, NOTICE_S
from tui.bell import Bell
from tui.clipboard import copy
from tui.driver import driver_class
from tui.feed import QUIET_PULL_S, Asks, Feed, Streams
from tui.habits import Habits
from tui.keys import Keys
from tui.line import LineApp
from tui.memory import Memory
from tui.outbox import Kept
from tui.place import Place
from tui.rank_words import NO_SCORING, SCORING_WORDS
from tui.screens.dialog import Dialog
from tui.screens.frame import ConsoleScreen
from tui.steering import PAUSABLE, SteeringApp
from tui.styles import ThriftyStyles
from tui.theme import THEMES, choose_theme
from tui.widgets.emptiness import ASKING

ANNOTATOR = "annotator"
"""What the memory calls the person's name."""
NEVER_STYLED = -1
"""The toolkit's count of themes for a screen that has seen none."""


def screen_class(name: str) -> type[ConsoleScreen]:
    """The screen of this name; its module is read when it is first wanted, for all together delay the first picture."""
    known = vars(import_module(f"tui.screens.{name}")).values()
    screens = (kind for kind in known if isinstance(kind, type) and issubclass(kind, ConsoleScreen))
    return next(kind for kind in screens if kind.screen_name == name)


def make_screen(name: str) -> ConsoleScreen:
    """A new screen of this name."""
    return screen_class(name)()


class Console(SteeringApp, LineApp):
    """See the module."""

    CSS_PATH = Path(__file__).with_name("ponder.tcss")
    TITLE = "ponder"
    ENABLE_COMMAND_PALETTE = False
    AT_ONCE = frozenset({"ctrl+c"})
    DEFAULT_MODE = "live"
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings()]
    MODES: ClassVar[dict[str, Callable[[], ConsoleScreen]]] = {  # type: ignore[assignment]  # Textual's is wider
        name: partial(make_screen, name) for name in actions.SCREENS
    }
    # Textual declares these two as instance variables, so ClassVar would contradict it.
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-normal"), (160, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (36, "-tall")]  # noqa: RUF012

    def __init__(
        self,
        client: Asks,
        run: str = "",
        *,
        is_readonly: bool = False,
        is_ascii: bool | None = None,
        driver: type[Driver] | None = None,
        habits: Habits | None = None,
        screen: str = "",
    ) -> None:
        """`run` is a run as a person names it; empty for the newest active one, else the newest.

        `screen` is shown first, whatever was shown when the line dropped.
        """
        has_no_colour = "NO_COLOR" in os.environ
        super().__init__(driver_class=driver or driver_class(), ansi_color=True if has_no_colour else None)
        for theme in THEMES.values():
            self.register_theme(theme)
        self.habits = habits or Habits()
        self.theme = choose_theme(os.environ, self.memory.recall("theme", "")).name
        self.stylesheet = ThriftyStyles(variables=self.get_css_variables())
        self.animation_level = "none"
        self._disable_tooltips = self._disable_notifications = True  # two widgets a screen that nothing here uses
        self.client = client
        self.reference = run
        self._first_screen = screen if screen in self.MODES else ""
        self.is_readonly = is_readonly
        self.is_scoring = False
        """Whether answers are scored one by one on the screen Rank."""
        self.is_ascii = wants_ascii() if is_ascii is None else is_ascii
        self.place = Place(self.habits.memory, self.habits.lock)
        self._bell = Bell()
        self.feed = Feed(client, self.pull, self.paint_news, pace=self.pace)
        self._painted: tuple[ConsoleScreen | None, int, float] = (None, -1, 0.0)
        """The screen that was painted, after how many news, and when."""
        self.detail: wire.RunDetail | None = None
        self.knobs: dict[str, KnobValue] = {}
        """The watched run's knobs, as they were at its newest step."""
        self._knobs_of: tuple[str, int] = ("", -1)
        self._changes: list[wire.KnobChange] = []
        self.other_version: OtherVersion | None = None
        """What the daemon said last could not be read; what is shown is older."""
        self.no_run_words = ASKING
        self._unsettled = {}
        self._styled_as = NEVER_STYLED

    # -- life --

    async def on_mount(self) -> None:
        """Start to listen; the first pull decides which screen comes first."""
        self.set_keymap(self.keys.keymap)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._end, 128 + number)
        run, screen = self.place.take()
        asked, self.reference = self.reference, self.reference or run
        await self._find_run()
        if self.row is None and not asked:  # that run is gone
            self.reference = ""
            await self._find_run()
        if self._first_screen:
            self.place.forget()
            await self.switch_mode(self._first_screen)
        elif self.row is not None and self.row.name == run and screen in self.MODES:
            await self.switch_mode(screen)
            self.say("as it was when the line dropped", "plain")
        else:
            self.place.forget()
            await self.switch_mode("live" if self.row is not None else "runs")
        self.call_after_refresh(_spare_what_stays)
        self.run_worker(self.feed.listen(), name="feed", exit_on_error=True)
        self.run_worker(self.feed.work(), name="pulls", exit_on_error=True)
        self.run_worker(self._send_rankings_again(), name="rankings", exit_on_error=True)

    async def _send_rankings_again(self) -> None:
        """What a console that was killed had not yet brought to the daemon."""

        async def send(request: Kept, ask_id: str) -> wire.Accepted:
            return await self.ask(request, wire.Accepted, ask_id)

        kept, refused = await self.habits.outbox.send_again(send, lambda: asyncio.sleep(1.0))
        if refused:
            self.say(f"! {len(refused)} rankings or labels from before were refused and put aside: {refused[0]}", "bad")
        elif kept:
            self.say(f"+ {kept} rankings or labels that had waited are kept now", "good")

    def refresh_css(self, animate: bool = True) -> None:
        """Style everything anew, where the theme is another; a screen that comes up was styled as it was made."""
        theme, stack = self._css_update_count, self.screen_stack
        if theme == self._styled_as and stack and stack[-1]._css_update_count in (NEVER_STYLED, theme):
            stack[-1]._css_update_count = theme
        else:
            super().refresh_css(animate)
            self._styled_as = theme

    def is_there(self) -> bool:
        """A screen takes keys once it shows what it has: a key may be for the row that is on top then."""
        return not isinstance(self.screen, ConsoleScreen) or self.screen.is_there

    def stop_waiting(self) -> None:
        """Let keys through to a screen whose data do not come."""
        if isinstance(self.screen, ConsoleScreen):
            self.screen.is_filled = True

    def _end(self, code: int) -> None:
        """Leave with an exit code, restoring the terminal."""
        self.exit(code, return_code=code)

    async def _find_run(self) -> None:
        """Watch the run that was asked for, else the newest active one (those that wait come last), else the newest."""
        try:
            if not self.reference:
                runs = (await self.ask(wire.ListRuns(limit=50), wire.Runs)).runs
                active = [row for row in runs if not row.state.is_over]
                if not runs:
                    self.no_run_words = "no runs yet"
                    return
                begun = [row for row in active if row.state is not RunState.QUEUED]
                self.reference = (begun or active or runs)[0].name
            self.detail = await self.ask(wire.GetRun(self.reference, only_ends=True), wire.RunDetail)
        except PonderError as error:
            self.say(f"! {error.message}", "bad")
            return
        self.row = self.detail.row
        self.feed.watch(self.row.name)

    async def pull(self) -> None:
        """Ask for what the shown screen needs; raises NoDaemon where none answers, and shows every other refusal."""
        self.look_at_line()
        try:
            if self.row is None and not self.reference:
                await self._find_run()
            if self.reference:
                only_ends = self.shown is None or not self.shown.wants_evaluations
                self.detail = await self.ask(wire.GetRun(self.reference, only_ends), wire.RunDetail)
                self.row = self.detail.row
                self._ring(self._bell.hear(self.detail))
                await self._pull_knobs(self.row)
            await self.settle()
            if (screen := self.shown) is not None and screen.is_ready:
                run = self.run_name
                if not (self.feed.is_quiet and screen.is_pulled and screen.rests):
                    await screen.pull()
                screen.note_pulled(run)
                await self.look_for_tutor()
                self.place.keep(self.run_name, screen.screen_name, screen.spot())
        except OtherVersion as error:
            if self.other_version is None:
                self.say(f"! {error.message}; {error.hint}", "bad")
            self.other_version = error
        except NoDaemon:
            raise
        except PonderError as error:
            self.say(f"! {error.message}", "bad")
        else:
            self.other_version = None

    async def _pull_knobs(self, row: wire.RunRow) -> None:
        """Knobs are turned at the boundaries of steps, so that they are asked for once a step."""
        if (row.name, row.step) != self._knobs_of:
            table = await self.ask(wire.GetKnobs(row.name), wire.KnobTable)
            self.knobs, self._changes, self._knobs_of = table.values, table.changes, (row.name, row.step)

    @property
    def judges(self) -> RunJudges:
        """Who judges the watched run."""
        return RunJudges() if self.detail is None else judges_of(self.detail, self._changes)

    def counted(self, stored: wire.StoredRollout) -> wire.StoredRollout:
        """An answer of the watched run with those parts of its reward that weigh something."""
        return with_counted_parts(stored, self.knobs)

    def paint_news(self) -> None:
        """Show what is known; without news the screen itself only now and then, for the clocks tick in the frame."""
        screen, news, painted_s = self._painted
        if screen is not self.shown or news != self.feed.news or time.monotonic() - painted_s >= QUIET_PULL_S:
            self.paint()
        else:
            self.take_notice_away(NOTICE_S)
            self.show_notice()

    def paint(self) -> None:
        """Show what is known; costs nothing where nothing changed."""
        self.take_notice_away(NOTICE_S)
        self.let_line_go()
        screen = self.shown
        if screen is not None and screen.is_ready:
            self._painted = screen, self.feed.news, time.monotonic()
            screen.paint_frame()
            screen.set_class(self.lost_since_s is not None, "-lost")
            screen.tell_views()
            if not screen.is_tiny:
                screen.paint()
            screen.is_filled |= screen.is_pulled
            self.look_again()

    def want(self) -> None:
        """Pull as soon as possible."""
        self.feed.want()

    @property
    def keys(self) -> Keys:
        """The keys of this person."""
        return self.habits.keys

    @property
    def memory(self) -> Memory:
        """What the console remembers of this person."""
        return self.habits.memory

    @property
    def annotator(self) -> str:
        """Who ranks here: as they said with `--as`, once and for all, else as the machine calls them."""
        return self.memory.recall(ANNOTATOR, "") or user_name()

    @property
    def shown(self) -> ConsoleScreen | None:
        """The screen of the present mode, under whatever dialog is open."""
        stack = self.screen_stack
        return stack[0] if stack and isinstance(stack[0], ConsoleScreen) else None

    @property
    def streams(self) -> Streams:
        """The answers that are being written."""
        return self.feed.streams

    @property
    def progress(self) -> Progress | None:
        """What the trainer said last of what it is doing."""
        return self.feed.progress

    @property
    def lost_since_s(self) -> float | None:
        """When the daemon was last heard, while it is missed; on the monotonic clock."""
        return self.feed.lost_since_s

    def newest(self, metric: str) -> float | None:
        """The newest value of a metric of the watched run."""
        return self.detail.newest.get(metric) if self.detail is not None else None

    def now_us(self) -> int:
        """The wall clock, which the rows' times are measured on."""
        return time.time_ns() // 1000

    async def watch_run(self, name: str) -> None:
        """Watch another run from now on."""
        self.reference = name
        self.row = self.detail = None
        self.no_run_words = f"asking for {name}"
        self.detail = await self.try_ask(wire.GetRun(name, only_ends=True), wire.RunDetail)
        if self.detail is not None:
            self.row = self.detail.row
            self.feed.watch(self.row.name)

    # -- saying --

    def show_notice(self) -> None:
        """Say in the key line what there is to say."""
        if (screen := self.shown) is not None:
            screen.paint_frame()

    def on_key(self, event: events.Key) -> None:
        """A key takes the last sentence away once it could be read."""
        del event
        if self.take_notice_away(NOTICE_LEAST_S):
            self.show_notice()

    def words_of(self, action: Action) -> str:
        """The words of an action as things stand."""
        if action.id == "run.pause" and self.row is not None:
            return "pause" if self.row.state in PAUSABLE else "resume"
        return SCORING_WORDS.get(action.id, action.words) if self.is_scoring else action.words

    def is_offered(self, action: Action) -> bool:
        """Whether the key would do something as things stand."""
        if not action.id.startswith("run."):
            return not (self.is_scoring and action.id in NO_SCORING)
        if self.row is None or self.row.state is RunState.FINISHED:
            return False
        return action.id == "run.pause" or not self.row.state.is_over

    # -- keys of all screens; named after `tui.actions` --

    async def show_screen(self, name: str) -> None:
        """Switch to a screen by its name."""
        while isinstance(self.screen, Dialog):
            await self.pop_screen()
        if self.current_mode != name:
            await self.switch_mode(name)

    async def action_screen(self, name: str) -> None:
        """Switch to a screen by its name: the key of its tab; it may look at what is under the cursor here."""
        before = self.shown
        await self.show_screen(name)
        if before is not None and self.shown is not None and self.shown is not before:
            before.hand_over(self.shown)

    async def action_app_back(self) -> None:
        """Out of what is open, or back to the live screen."""
        if (screen := self.shown) is not None and screen.go_back():
            return
        await self.show_screen("live" if self.row is not None else "runs")

    def action_app_next_pane(self) -> None:
        """Focus the next pane."""
        self.screen.focus_next()

    async def action_app_copy(self) -> None:
        """What the shown screen has under its cursor, to a clipboard."""
        found = self.shown.copied() if self.shown is not None else None
        if found is None:
            self.say("there is nothing here to copy")
            return
        what, text = found
        file = self.habits.clipboard
        try:
            where = await asyncio.to_thread(copy, safe_text(text), self.copy_to_terminal, file)
        except OSError as error:
            self.say(f"! not copied: `{file}` cannot be written: {error.strerror}", "bad")
            return
        self.say(f"+ {what}, {len(text):,} characters: {where}", "good")

    def _ring(self, news: Sequence[Notice]) -> None:
        """Say what is news; the terminal's bell too, for what is wished."""
        for notice in news:
            self.say(f"{notice.run}: {notice.text}", "bad" if notice.kind is News.TROUBLE else "good")
            wishes = self.habits.wishes
            if wishes.bell and notice.kind in wishes.on:
                self.ring(f"{notice.title}: {notice.text}")

    def action_app_interrupt(self) -> None:
        """Leave as after Ctrl-C."""
        self.place.leave()
        self._end(INTERRUPTED_EXIT_CODE)

    def action_app_leave(self) -> None:
        """Leave; runs go on."""
        self.place.leave()
        self._end(0)

    def action_app_help(self) -> None:
        """Keys, the pane in focus, words."""
        from tui.screens.help import HelpScreen

        if isinstance(self.screen, HelpScreen):
            self.screen.close(None)
            return
        focused = self.screen.focused
        screen = self.shown
        if screen is not None and not isinstance(self.screen, Dialog):
            self.push_screen(HelpScreen(screen.screen_name, focused, screen.foreword()))

    def action_app_palette(self) -> None:
        """Find anything by its name."""
        from tui.screens.palette import Palette

        if isinstance(self.screen, ConsoleScreen):
            self.push_screen(Palette(), self._found)

    async def _found(self, target: Sequence[str] | None) -> None:
        """Go where the palette points: (kind, name)."""
        from tui.screens.curves import CurvesScreen
        from tui.screens.knobs import KnobsScreen

        if not target:
            return
        kind, name = target
        if kind == "theme":
            self.memory.keep("theme", name)
            self.theme = THEMES[name].name
        elif kind == "run":
            await self.watch_run(name)
            await self.show_screen("live")
        elif kind == "knob":
            await self.show_screen("knobs")
            if isinstance(self.shown, KnobsScreen):
                self.shown.point_at(name)
        elif kind == "action":
            action = actions.BY_ID[name]
            if action.screen and action.screen != self.current_mode:
                await self.show_screen(action.screen)
            await self.run_action(f"{'screen' if action.screen else 'app'}.{action.method}")
        else:
            await self.show_screen("curves")
            if isinstance(self.shown, CurvesScreen):
                self.shown.show_metric(name)


def _spare_what_stays() -> None:
    """Let the collector look only at what is made from now on: all modules and screens take it a tenth of a second."""
    gc.freeze()
    gc.enable()
