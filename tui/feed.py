"""What comes in from the daemon, at a pace that eyes and lines can follow.

    client.feed ──bell──► something happened: pull what the screen shows, as often as the pace allows (`tui.pace`)
                ──live──► texts that are being written: into `Streams`, painted as often as the pace allows

Bells that come while a pull is under way become one more pull: the newest state wins, nothing queues. Silence for
QUIET_S means that no daemon lives: the screens keep their data and show its age, and the first bell of the next
daemon brings everything up to date. Two tasks run here: `listen` waits for the feed, `work` waits for `listen`, for
`want` (a key was pressed) or for the second hand. Deliberately left out: what is pulled and how it looks
(`tui.screens`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from msgspec import Struct

from ponder import wire
from ponder.errors import NoDaemon
from ponder.events import Preview, Progress
from tui.pace import FULL, Pace

R = TypeVar("R", bound=Struct)

QUIET_S = 3.5
"""A daemon rings once a second even when nothing happens."""
QUIET_PULL_S = 2.5
"""So seldom the daemon is asked while nothing happens; a trainer's silence is told after five seconds."""
STEPS_KEPT = 3
"""Streamed answers of the newest so many steps are kept."""


class Asks(Protocol):
    """What the console needs of a client: `ponder.client.AsyncClient`, or a fake in a test."""

    async def ask(
        self, request: wire.Request, reply_type: type[R], timeout_s: float | None = None, ask_id: str = ""
    ) -> R:
        """The daemon's reply; raises a PonderError."""
        ...

    def feed(self) -> AsyncIterator[wire.Bell | wire.Live]:
        """Bells and passing events, for ever."""
        ...


StreamKey = tuple[int, int, int]
"""Step, group in the step's batch, index in the group."""


@dataclass
class Stream:
    """One answer that is being written, as far as it was heard."""

    key: StreamKey
    prompt: str
    text: str = ""
    is_done: bool = False
    heard_s: float = 0.0
    """When its last text came, on the monotonic clock."""


class Streams:
    """The texts of the answers that a run streams, newest steps only.

    A delta that does not begin where its text ends is dropped: the next message with `at` = 0 brings the whole text.
    """

    def __init__(self) -> None:
        self._streams: dict[StreamKey, Stream] = {}

    def clear(self) -> None:
        """Forget everything: another run is watched."""
        self._streams.clear()

    def take(self, preview: Preview, now_s: float) -> None:
        """Add what a preview brought."""
        for answer in preview.answers:
            key = (preview.step, answer.group, answer.index)
            stream = self._streams.get(key)
            if answer.at == 0:
                prompt = answer.prompt or (stream.prompt if stream else "")
                self._streams[key] = Stream(key, prompt, answer.text, answer.is_done, now_s)
            elif stream is not None and answer.at == len(stream.text):
                stream.text += answer.text
                stream.is_done = stream.is_done or answer.is_done
                stream.heard_s = now_s
        steps = sorted({key[0] for key in self._streams})[-STEPS_KEPT:]
        self._streams = {key: stream for key, stream in self._streams.items() if key[0] in steps}

    def of_step(self, step: int) -> list[Stream]:
        """The streams of a step, in the order of groups and answers."""
        return [self._streams[key] for key in sorted(self._streams) if key[0] == step]

    def find(self, key: StreamKey) -> Stream | None:
        """The stream of this key, if it is still known."""
        return self._streams.get(key)

    @property
    def newest_step(self) -> int | None:
        """The newest step of which something was heard."""
        return max((key[0] for key in self._streams), default=None)


class Feed:
    """See the module. `pull` asks the daemon, `paint` shows; both belong to the app."""

    def __init__(
        self,
        client: Asks,
        pull: Callable[[], Awaitable[None]],
        paint: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        pace: Callable[[], Pace] = lambda: FULL,
    ) -> None:
        self._pace = pace
        self._client = client
        self._pull = pull
        self._paint = paint
        self._clock = clock
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._is_pull_wanted = True
        self._head = -1
        self._heard_s = clock()
        self._next_pull_s = 0.0
        self.lost_since_s: float | None = None
        """When the daemon was last heard, once it is missed."""
        self.pulled_s: float | None = None
        """When the last pull came back."""
        self.streams = Streams()
        self.progress: Progress | None = None
        """What the watched run's trainer said last of what it is doing."""
        self.run = ""
        """The run whose passing events are kept."""
        self.news = 0
        """How often something was heard, asked for by a key, or missed."""
        self._pulled_news = -1
        self.is_quiet = False
        """Whether what is pulled now is pulled without any news: only what no event tells may have changed."""

    def watch(self, run: str) -> None:
        """Keep the passing events of this run from now on."""
        if run != self.run:
            self.run = run
            self.streams.clear()
            self.progress = None
        self.want()

    def want(self) -> None:
        """Pull as soon as possible: a key was pressed."""
        self.news += 1
        self._is_pull_wanted = True
        self._next_pull_s = 0.0
        self._hurry.set()
        self._wake.set()

    async def listen(self) -> None:
        """Consume the feed for ever."""
        async for message in self._client.feed():
            self.hear(message)

    def hear(self, message: wire.Bell | wire.Live) -> None:
        """Take one message; wakes `work`."""
        if isinstance(message, wire.Bell):
            self._heard_s = self._clock()
            is_news = self.lost_since_s is not None or message.head != self._head
            if is_news:
                self.news += 1
                self._wake.set()
            # A quiet bell is a second hand: the trainer may have been heard without anything durable to say.
            if is_news or self.pulled_s is None or self._heard_s - self.pulled_s >= QUIET_PULL_S:
                self._is_pull_wanted = True
            self._head = message.head
        elif message.run == self.run:
            if isinstance(message.event, Preview):
                self.streams.take(message.event, self._clock())
            else:
                self.progress = message.event
            self.news += 1
            self._wake.set()

    async def work(self) -> None:
        """Pull and paint for ever, at its pace."""
        while True:
            began_s = self._clock()
            self._hurry.clear()
            await self._once()
            self._paint()
            await _wait(self._hurry, max(0.0, 1 / self._pace().paints_per_s - (self._clock() - began_s)))
            if await _wait(self._wake, 1.0):
                self._wake.clear()

    async def _once(self) -> None:
        """Pull if it is wanted and its time has come, and see whether the daemon still lives."""
        now_s = self._clock()
        if self._is_pull_wanted and now_s >= self._next_pull_s:
            self._is_pull_wanted = False
            self._next_pull_s = now_s + 1 / self._pace().pulls_per_s
            self.is_quiet, self._pulled_news = self.news == self._pulled_news, self.news
            try:
                await self._pull_patiently()
            except NoDaemon:
                self._is_pull_wanted = True
                self._next_pull_s = self._clock() + 1.0
                self._miss()
            else:
                self.pulled_s = self._clock()
                self._heard_s = max(self._heard_s, self.pulled_s)
                self.news += self.lost_since_s is not None
                self.lost_since_s = None
        elif self._is_pull_wanted:
            self._wake.set()
        if self._clock() - self._heard_s > QUIET_S:
            self._miss()

    async def _pull_patiently(self) -> None:
        """Pull; while the answers are slow, the second hand goes on."""
        pull = asyncio.ensure_future(self._pull())
        try:
            while not pull.done():
                await asyncio.wait({pull}, timeout=1.0)
                if not pull.done():
                    if self._clock() - self._heard_s > QUIET_S:
                        self._miss()
                    self._paint()
            await pull
        finally:
            pull.cancel()

    def _miss(self) -> None:
        if self.lost_since_s is None:
            self.lost_since_s = self._heard_s
            self.news += 1
        self._is_pull_wanted = True


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Whether it was set within so many seconds."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
