"""Following a run without a console: a progress bar on a terminal, a line every ten seconds elsewhere.

    durable events ──► lines of what matters, figures of the newest step ──┐
    passing events ──► (a thread, may miss some) what the trainer does now ┴──► bar or lines, on stderr

The thread only writes `Watched.phase`; the main thread alone draws. It ends when the run is over. Deliberately left
out: what is said when it is over (`ponder.demo`), and every event as a line (`ponder follow`).
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

from ponder import events, metrics, wire
from ponder.client import Client
from ponder.errors import NoDaemon, PonderError
from ponder.event_text import event_line, format_duration, step_of
from ponder.output import say
from ponder.paths import Paths
from ponder.safe_text import safe_line

LINE_EVERY_S = 10.0
"""Seconds between two lines of progress where there is no terminal."""

_PHASES = {
    events.LOAD: "loading the model",
    "evaluate": "measuring on held-out problems",
    "save": "saving a checkpoint",
    events.WAIT_FOR_DISK: "the disk is full: free some space, and the run goes on",
}
"""Phases that are shown with their own progress; all others are parts of a step."""

_TOLD = (
    events.RunStarted,
    events.StageStarted,
    events.Evaluated,
    events.CommandApplied,
    events.CommandRefused,
    events.WatchdogFired,
    events.BrakeChanged,
    events.RunBroke,
    events.AttemptEnded,
)
"""Events that get a line of their own."""


@dataclass
class Watched:
    """What is known of a followed run."""

    run: str
    state: events.RunState
    step: int = 0
    steps: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    phase: events.Progress | None = None
    """The newest passing event; written by the listening thread alone."""
    step_times: list[float] = field(default_factory=list)

    def take(self, event: events.FeedEvent) -> None:
        """Learn what a durable event says."""
        match event:
            case events.StepDone():
                self.step, self.figures, self.phase = event.step, event.metrics, None
                self.step_times = [*self.step_times[-49:], event.metrics.get(metrics.STEP_S, 0.0)]
            case events.RunStarted():
                self.step, self.steps, self.phase = event.step, event.steps, None
            case events.StateChanged():
                self.state = event.new
            case _:
                pass

    def look(self, row: wire.RunRow) -> None:
        """Learn what only a beat tells: that the trainer waits for the disk, on which it can say nothing else."""
        if row.phase == events.WAIT_FOR_DISK:
            self.phase = events.Progress(row.step, row.phase, 0, 0)

    @property
    def doing(self) -> str:
        """What it is doing now, in words."""
        phase = self.phase
        if self.state is not events.RunState.RUNNING or phase is None or phase.phase not in _PHASES:
            return (
                str(self.state)
                if self.state is not events.RunState.RUNNING
                else f"step {step_of(self.step, self.steps, '/')}"
            )
        return _PHASES[phase.phase] + (f" {phase.done}/{phase.total}" if self._is_counted(phase) else "")

    @property
    def shares(self) -> tuple[int, int]:
        """Done and total of the phase that is shown, else of the steps."""
        phase = self.phase
        if phase is not None and phase.phase in _PHASES and self._is_counted(phase):
            return phase.done, phase.total
        return self.step, max(self.steps, 1)

    def _is_counted(self, phase: events.Progress) -> bool:
        """Whether the phase counts something of its own, and not the steps once more."""
        return phase.total > 1 and phase.total != self.steps

    @property
    def newest(self) -> str:
        """The newest step's figures, short."""
        names = (metrics.REWARD_MEAN, metrics.LENGTH_MEAN, metrics.REFLECT)
        known = [
            f"{metrics.METRICS[name].label} {metrics.format_metric(name, self.figures[name])}"
            for name in names
            if name in self.figures
        ]
        return ", ".join(known)

    @property
    def left(self) -> str:
        """About how long the steps that are left will take, without evaluations; empty when not known."""
        if not self.step_times or self.step >= self.steps:
            return ""
        each_s = sum(self.step_times) / len(self.step_times)
        return f"about {format_duration(each_s * (self.steps - self.step))} left"


class Progress(Protocol):
    """What shows a followed run."""

    def show(self, watched: Watched) -> None: ...


class _Lines:
    """A line every `LINE_EVERY_S`, for logs and pipes."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def show(self, watched: Watched) -> None:
        if time.monotonic() - self._last < LINE_EVERY_S:
            return
        self._last = time.monotonic()
        say("  ".join(filter(None, (watched.doing, watched.newest, watched.left))))


class _Bar:
    """One line on a terminal, redrawn."""

    def __init__(self, draw: Callable[[str, int, int, str], None]) -> None:
        self._draw = draw

    def show(self, watched: Watched) -> None:
        done, total = watched.shares
        details = "  ".join(filter(None, (watched.newest, watched.left)))
        self._draw(safe_line(watched.doing), done, total, safe_line(details))


@contextmanager
def progress_display() -> Iterator[Progress]:
    """A bar when stderr is a terminal, lines otherwise; the terminal is left as it was."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console  # 30 ms that a pipe does not pay
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[details]}", markup=False),
    )
    # Lines that go to stdout while the bar stands are drawn above it, but only where both share the terminal.
    with RichProgress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()
    ) as rich_progress:
        task = rich_progress.add_task("", total=1, details="")

        def draw(doing: str, done: int, total: int, details: str) -> None:
            rich_progress.update(task, description=doing, completed=done, total=total, details=details)

        yield _Bar(draw)


def follow_plainly(paths: Paths, run: str, *, after: int, tell: Callable[[str], None]) -> wire.RunDetail:
    """Follow the run from the event id `after` until it is over; `tell` gets the lines of what matters.

    Returns what is known of the run then. KeyboardInterrupt passes through: the run goes on.
    """
    with Client(paths) as client, progress_display() as progress:
        detail = client.ask(wire.GetRun(run), wire.RunDetail)
        watched = Watched(detail.row.name, detail.row.state, detail.row.step, detail.row.steps)
        if detail.row.queue_place is not None and detail.row.queue_place > 0:
            tell(f"queued at place {detail.row.queue_place}; `ponder ls` shows what runs before it")
        with _listening(paths, watched):
            follower = EndingFollower(client, watched.run, after, detail.row.state.is_over)
            looked = time.monotonic()

            def idle() -> None:
                nonlocal looked
                if time.monotonic() - looked > LINE_EVERY_S / 2:
                    looked = time.monotonic()
                    with suppress(NoDaemon):  # the follower's patience is the longer one
                        watched.look(client.ask(wire.GetRun(watched.run), wire.RunDetail).row)
                progress.show(watched)

            for stored in follower.events(idle):
                watched.take(stored.event)
                if isinstance(stored.event, _TOLD):
                    tell(event_line(stored.event))
                progress.show(watched)
        return client.ask(wire.GetRun(watched.run), wire.RunDetail)


class EndingFollower:
    """A follower that ends with its run: when the run is over and every event of it has been given.

    A run that is over may be resumed, so a past end in the history is no end.
    """

    def __init__(self, client: Client, run: str, after: int, is_over: bool) -> None:
        self._client = client
        self._run = run
        self._last = after
        self._is_over = is_over

    def events(self, idle: Callable[[], None] = lambda: None) -> Iterator[events.StoredEvent]:
        """Every durable event after `after`; `idle` is called about twice a second."""

        def stop() -> bool:
            idle()
            return self._is_over and not self._has_more()

        for stored in self._client.follow(self._run, self._last, stop):
            self._last = stored.id
            if isinstance(stored.event, events.StateChanged):
                self._is_over = stored.event.new.is_over
            yield stored

    def _has_more(self) -> bool:
        try:
            page = self._client.ask(wire.GetEvents(after=self._last, run=self._run, limit=1), wire.Events)
        except NoDaemon:
            return True  # for all we know; following has the patience for a daemon that comes back
        return bool(page.events)


@contextmanager
def _listening(paths: Paths, watched: Watched) -> Iterator[None]:
    """Keep `watched.phase` fresh from the feed, in a thread with a line of its own, until the block is left."""
    is_done = threading.Event()

    def listen() -> None:
        try:
            with Client(paths) as client:
                for live in client.live(watched.run, is_done.is_set):
                    if isinstance(live.event, events.Progress):
                        watched.phase = live.event
        except PonderError:
            return  # progress is a kindness; the durable events say what is true

    thread = threading.Thread(target=listen, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_done.set()
        thread.join(1.0)
