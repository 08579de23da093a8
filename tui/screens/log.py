"""A run's diary: what began and ended, what was asked and turned, measured, saved, and what broke; below it the log.

Both only grow, and only what is new comes: events after the last one, the file by offsets. Deliberately left out:
groups and steps, which the other screens show, the whole file (`ponder logs` and a pager have that), and filters.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Vertical
from textual.widget import Widget

from ponder import events, wire
from ponder.event_text import event_line, format_bytes
from ponder.events import REWARD_MODEL_VERB, RunState, StoredEvent
from tui import actions
from tui.screens.frame import ConsoleScreen
from tui.screens.text_line import Part, TextLine
from tui.widgets import LineView, Paragraph, Span

TAIL_BYTES = 65_536
KEPT_CHARACTERS = 1_000_000
"""Beyond this the view begins anew from the tail."""
EVENTS_AT_ONCE = 200
EVENTS_KEPT = 2_000
BAD = (events.RunBroke, events.CommandRefused)
WARNING = (events.WatchdogFired, events.BrakeChanged)


class LogScreen(ConsoleScreen):
    """See the module."""

    screen_name: ClassVar[str] = "log"
    rests: ClassVar[bool] = False
    AUTO_FOCUS: ClassVar[str | None] = "#diary"
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("log")]

    def __init__(self) -> None:
        super().__init__()
        self._run: str | None = None
        self._offset = -TAIL_BYTES
        self._page: wire.LogPage | None = None
        self._kept = 0
        self._seen = 0
        """The newest event that was asked for."""
        self._diary: list[Paragraph] = []

    def body(self) -> Iterable[Widget]:
        """What happened; where the file is, and its end."""
        with Vertical(id="diary-pane"):
            yield TextLine(id="diary-head")
            yield LineView(follow=True, id="diary", empty=" nothing happened so far")
        with Vertical(id="log-pane"):
            yield TextLine(id="log-head")
            yield LineView(follow=True, gutter=False, id="log", empty=" the log is empty so far")

    async def pull(self) -> None:
        """What is new since the last time; the daemon's log where there is no run."""
        run = self.console.run_name or None
        view = self.query_one("#log", LineView)
        if run != self._run:
            self._diary, self._seen = [], 0
        if run != self._run or self._kept > KEPT_CHARACTERS or (self._page and self._page.size_bytes < self._offset):
            view.clear()
            self._run, self._offset, self._kept = run, -TAIL_BYTES, 0
        await self._pull_diary(run)
        await self._pull_log(run, view)

    async def _pull_diary(self, run: str | None) -> None:
        while True:
            asked = wire.GetEvents(self._seen, run, EVENTS_AT_ONCE, only_notable=True)
            page = await self.console.ask(asked, wire.Events)
            self._diary += [
                entry(stored, with_run=run is None) for stored in page.events if not is_routine(stored.event)
            ]
            if len(page.events) < EVENTS_AT_ONCE:
                break
            self._seen = page.events[-1].id
        self._seen = max(self._seen, page.head)
        del self._diary[:-EVENTS_KEPT]

    async def _pull_log(self, run: str | None, view: LineView) -> None:
        while True:
            page = await self.console.ask(wire.GetLog(run, self._offset), wire.LogPage)
            self._page = page
            text = page.text
            if self._offset < 0 and page.offset > 0:
                text = text.partition("\n")[2]  # the tail begins inside a line
            view.append(text)
            self._kept += len(text)
            self._offset = page.next_offset
            if not page.text or page.next_offset >= page.size_bytes:
                return

    def action_log_follow(self) -> None:
        """Stay at the end, or stop; of the half in focus."""
        view = self.focused if isinstance(self.focused, LineView) else self.query_one("#diary", LineView)
        view.follow(not view.following)
        self.paint()

    def on_line_view_follow_changed(self, _: LineView.FollowChanged) -> None:
        """Say at once whether the end is followed."""
        self.paint()

    def paint(self) -> None:
        """The headings and the diary; the log paints itself."""
        if not self.is_ready:
            return
        diary, page = self.query_one("#diary", LineView), self._page
        diary.set_document(self._diary)
        what = f" what happened in {self._run}" if self._run else " what happened"
        self.query_one("#diary-head", TextLine).show([Part(what, "title")], [_place(diary)])
        where = [Part(f" {page.path}", "title"), Part(format_bytes(page.size_bytes), "dim", 1)] if page else []
        self.query_one("#log-head", TextLine).show(where, [_place(self.query_one("#log", LineView))])


def is_routine(event: events.FeedEvent) -> bool:
    """Whether it comes with every ranking, for a program asked for it: another version of the reward model."""
    commands = (events.CommandAccepted, events.CommandApplied)
    return isinstance(event, commands) and event.verb == REWARD_MODEL_VERB


def entry(stored: StoredEvent, *, with_run: bool) -> Paragraph:
    """One line of the diary: the local time of day, what happened, and a sign where something went wrong."""
    clock = time.strftime("%H:%M:%S", time.localtime(stored.time_us / 1e6))
    run = f"{stored.run}  " if with_run else ""
    style, sign = weight(stored.event)
    return Paragraph.of(
        f"{clock}  {run}{event_line(stored.event)}", [Span(0, len(clock), "dim")], style=style, sign=sign
    )


def weight(event: events.FeedEvent) -> tuple[str, str]:
    """(style, sign) of an event: what a person must not miss has both."""
    is_death = isinstance(event, events.AttemptEnded) and (event.signal is not None or event.exit_code not in (0, None))
    is_failure = isinstance(event, events.StateChanged) and event.new is RunState.FAILED
    if isinstance(event, BAD) or is_death or is_failure:
        return "bad", "!"
    return ("warning", "!") if isinstance(event, WARNING) else ("plain", "")


def _place(view: LineView) -> Part:
    """Whether a view follows its end, and what is below it where it does not."""
    if view.following:
        return Part("following", "running")
    return Part(f"{view.lines_below:,} lines below, G for the end" if view.lines_below else "HELD", "warning")
