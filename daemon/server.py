"""The request loop: size, version, schema, dispatch, reply. One thread owns the sockets, the writer and the runs.

    ctl frame ──► size      libzmq drops the connection of whoever sends more than MAX_REQUEST_BYTES
              ──► version   another protocol is told so, if its envelope can be read
              ──► schema    rubbish is counted, and answered only when it has an id to answer to; never echoed
              ──► dispatch  reading: `daemon.questions`; acting: `daemon.handlers`, here, in order
              ──► reply     a client that is gone, or does not read, is not waited for

Deliberately left out: what requests do.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

import msgspec
import zmq

from daemon.chores import Chores
from daemon.desk import READING, answer_frame, refusal_of
from daemon.feed import Feed
from daemon.handlers import Handlers
from daemon.ingest import Ingest
from daemon.log import say
from daemon.notify import Notify
from daemon.questions import Questions
from daemon.supervisor import Supervisor
from ponder import wire

ASKS_AT_ONCE = 64
TICK_S = 0.1
IDLE_TICK_S = 1.0
HOME_CHECK_S = 2.0


class Envelope(msgspec.Struct, frozen=True):
    """What every version of an Ask has; the rest is looked at only when the version is ours."""

    id: wire.Id
    protocol: int


_envelope_decoder = msgspec.msgpack.Decoder(Envelope)


class Server:
    """Turns until it is told to stop."""

    def __init__(
        self, ctl: zmq.Socket[bytes], feed_socket: zmq.Socket[bytes], ingest_socket: zmq.Socket[bytes], *,
        handlers: Handlers, questions: Questions, ingest: Ingest, feed: Feed, supervisor: Supervisor, chores: Chores,
        has_home: Callable[[], bool], notify: Notify,
    ) -> None:  # fmt: skip
        self._ctl, self._feed_socket, self._ingest_socket = ctl, feed_socket, ingest_socket
        self._handlers, self._questions = handlers, questions
        self._ingest, self._feed, self._supervisor = ingest, feed, supervisor
        self._chores, self._has_home, self._notify = chores, has_home, notify
        self.malformed = 0

    def stop(self) -> None:
        """End as soon as possible, and let the trainers live; a signal may call it."""
        self._handlers.wants_end = True

    def serve(self) -> None:
        """Take what comes, in turn from each socket, and look after the runs ten times a second, if there are any."""
        poller = zmq.Poller()
        for socket in (self._ctl, self._ingest_socket, self._feed_socket, self._questions.results):
            poller.register(socket, zmq.POLLIN)
        tick_due = home_due = 0.0
        may_work_on = False
        while not self._handlers.wants_end:
            now = time.monotonic()
            self._notify.turn(now)
            if now >= tick_due or self._handlers.is_news:
                tick_due = now + (TICK_S if self._supervisor.runs else IDLE_TICK_S)
                self._handlers.is_news = False
                self._supervisor.tick(now, may_start=not self._handlers.is_closing)
                self._ingest.retry_if_due(now)
                if self._handlers.is_closing and not self._supervisor.has_trainers():
                    break
            if now >= home_due:
                home_due = now + HOME_CHECK_S
                if not self._has_home():
                    say("the home of this daemon was deleted or replaced")
                    os._exit(0)  # closing would unlink the sockets, which may by now be another daemon's
            bell_due = self._feed.ring_if_due(now)
            wait_s = max(0.0, min(tick_due, bell_due) - time.monotonic())
            ready = dict(poller.poll(0 if may_work_on else int(wait_s * 1000) + 1))
            if self._questions.results in ready:
                self._send_results()
            if self._ctl in ready:
                self._take_asks()
            if self._ingest_socket in ready:
                self._ingest.take(time.monotonic())
            if self._feed_socket in ready:
                self._take_subscriptions()
            may_work_on = self._chores.work(time.monotonic(), is_busy=bool(ready))

    def _take_asks(self) -> None:
        for _ in range(ASKS_AT_ONCE):
            try:
                identity, *frames = self._ctl.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            self._take_ask(identity, frames)

    def _take_ask(self, identity: bytes, frames: list[bytes]) -> None:
        try:
            (frame,) = frames
            envelope = _envelope_decoder.decode(frame)
        except Exception:  # a border: rubbish of any kind, with nobody to answer to
            self.malformed += 1
            return
        if envelope.protocol != wire.PROTOCOL:
            message = f"this daemon speaks protocol {wire.PROTOCOL}, not {envelope.protocol}"
            hint = "`ponder down` and `ponder up` start the daemon of your version; runs go on"
            self._reply(identity, answer_frame(envelope.id, wire.Refusal("protocol", message, hint)))
            return
        try:
            ask = wire.decode_ask(frame)
        except Exception:  # a border: an envelope with rubbish in it; what it was is not repeated
            self.malformed += 1
            self._reply(identity, answer_frame(envelope.id, wire.Refusal("bad_request", "the request cannot be read")))
            return
        if isinstance(ask.request, READING):
            self._questions.put(identity, ask)
        else:
            self._reply(identity, answer_frame(ask.id, self._act(ask)))

    def _act(self, ask: wire.Ask) -> wire.Reply:
        try:
            return self._handlers.act(ask)
        except Exception as error:  # a border: whatever went wrong with one request, the next one is answered
            return refusal_of(error)

    def _send_results(self) -> None:
        for _ in range(ASKS_AT_ONCE):
            try:
                identity, frame = self._questions.results.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            self._reply(identity, frame)

    def _reply(self, identity: bytes, frame: bytes) -> None:
        with contextlib.suppress(zmq.ZMQError):  # it is gone, or does not read; it may ask again with the same id
            self._ctl.send_multipart([identity, frame], zmq.DONTWAIT)

    def _take_subscriptions(self) -> None:
        """Only emptied: whoever subscribes gets the next bell, at the latest in a second."""
        while self._feed_socket.poll(0):
            self._feed_socket.recv_multipart()
