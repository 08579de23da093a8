"""The console's line to the daemon: many asks in flight at once, and the feed, on one event loop.

It outlives daemons: sockets reconnect by themselves, and an ask that meets silence is sent again with the same id until
its time is over. Deliberately left out: following without gaps, the console's own loop of pulls after bells.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Collection
from types import TracebackType

import zmq
import zmq.asyncio

from ponder import wire
from ponder.client import R, dial, explain_silence, read_answer, read_feed, read_frame
from ponder.errors import NoDaemon, OtherVersion, PonderError
from ponder.handshakes import Handshakes
from ponder.paths import Paths
from ponder.patience import answer_s, try_wait_s
from ponder.remote import find_server


class AsyncClient:
    """One event loop's line to the daemon; make it inside the running loop, and close it there."""

    def __init__(self, paths: Paths, timeout_s: float | None = None) -> None:
        self.paths = paths
        self.server = find_server()
        self.timeout_s = answer_s(self.server) if timeout_s is None else timeout_s
        self._context = zmq.asyncio.Context()
        self._ctl: zmq.asyncio.Socket | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting: dict[str, asyncio.Future[wire.Answer]] = {}
        self._asked: dict[str, bytes] = {}
        """What was sent and not answered yet, by its id."""

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the sockets; asks in flight end with NoDaemon."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail(NoDaemon("this client was closed"))
        self._context.destroy(linger=0)

    async def ask(
        self, request: wire.Request, reply_type: type[R], timeout_s: float | None = None, ask_id: str = ""
    ) -> R:
        """The daemon's reply, or what its Refusal stands for; NoDaemon when no daemon answers in time, Refused at once
        when the network does not let us in.

        `ask_id` is for what must be the same ask when it is sent again later; else each has a new one.
        Unlike `Client.ask` it does not give up at once when nobody listens: a daemon that restarts is worth a wait.
        What was asked before and not answered is asked again with its `ask_id`.
        """
        ask = wire.Ask(ask_id or wire.new_id(), wire.PROTOCOL, request)
        whole_s = self.timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + whole_s
        ctl = self._line()
        future: asyncio.Future[wire.Answer] = asyncio.get_running_loop().create_future()
        self._waiting[ask.id] = future
        self._asked[ask.id] = data = wire.encode(ask)
        tries = 0
        try:
            while (left_s := deadline - time.monotonic()) > 0:
                await ctl.send(data)
                done, _ = await asyncio.wait({future}, timeout=min(try_wait_s(self.server, tries), left_s))
                if done:
                    return read_answer(future.result(), reply_type)
                tries += 1
        finally:
            del self._waiting[ask.id], self._asked[ask.id]
        raise explain_silence(self.paths, self.server, whole_s)

    async def command(self, request: wire.Request, ask_id: str = "") -> wire.Accepted:
        """Ask for something to be done; returns when it is accepted: on disk, will be tried."""
        return await self.ask(request, wire.Accepted, ask_id=ask_id)

    async def feed(self, runs: Collection[str] | None = None) -> AsyncGenerator[wire.Bell | wire.Live, None]:
        """Bells, and the passing events of these runs (None: of all), for ever, over any number of daemons.

        A bell comes at least once a second while a daemon lives; three seconds without one mean that none does.
        """
        feed = self._context.socket(zmq.SUB)
        feed.setsockopt(zmq.SUBSCRIBE, wire.BELL_TOPIC)
        for run in ("",) if runs is None else runs:
            feed.setsockopt(zmq.SUBSCRIBE, wire.LIVE_TOPIC + run.encode())
        dial(feed, self.paths, self.server, "feed")
        try:
            while True:
                message = read_feed(await feed.recv_multipart())
                if isinstance(message, wire.Live) and runs is not None and message.run not in runs:
                    continue  # subscriptions are beginnings of topics
                if message is not None:
                    yield message
        finally:
            feed.close(linger=0)

    def _line(self) -> zmq.asyncio.Socket:
        if self._ctl is None:
            self._ctl = self._context.socket(zmq.DEALER)
            self._ctl.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
            handshakes = Handshakes(self._ctl, self.server) if self.server else None
            dial(self._ctl, self.paths, self.server, "ctl")
            self._tasks = [asyncio.create_task(self._read(self._ctl), name="answers")]
            if handshakes is not None:
                self._tasks.append(asyncio.create_task(self._watch(self._ctl, handshakes), name="handshakes"))
        return self._ctl

    async def _watch(self, ctl: zmq.asyncio.Socket, handshakes: Handshakes[zmq.asyncio.Socket]) -> None:
        """Consumes what is told of the line's handshakes; asks over a new line what the lost one left unanswered; when
        nobody lets us in, wakes whoever waits and hangs up.

        The next ask knocks again: the key may be allowed by then.
        """
        try:
            while True:
                if handshakes.see(await handshakes.monitor.recv_multipart()):
                    for data in list(self._asked.values()):
                        await ctl.send(data)
        except PonderError as error:
            self._fail(error)
            self._tasks[0].cancel()
            self._ctl = None
            ctl.close(linger=0)
        finally:
            handshakes.close()

    def _fail(self, error: PonderError, only: str = "") -> None:
        """Whoever waits for an answer gets none; or only who asked this."""
        for ask_id, future in self._waiting.items():
            if not future.done() and only in ("", ask_id):
                future.set_exception(error)

    async def _read(self, ctl: zmq.asyncio.Socket) -> None:
        """Consumes answers, wakes whoever waits for each; an answer that nobody waits for any more is dropped."""
        while True:
            frame = await ctl.recv()
            try:
                answer = read_frame(frame)
            except OtherVersion as error:
                self._fail(error, _asked(frame))
                continue
            future_or_none = self._waiting.get(answer.id)
            if future_or_none is not None and not future_or_none.done():
                future_or_none.set_result(answer)


def _asked(frame: bytes) -> str:
    """Which ask an answer is for that cannot be read; empty where not even that can."""
    try:
        return wire.decode_answer_id(frame)
    except Exception:  # a border: msgspec raises four kinds of exception on rubbish
        return ""
