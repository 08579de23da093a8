"""The request loop: size, version, schema, dispatch, reply. One thread owns the sockets, the writer and the runs.

    ctl frame ──► size      libzmq drops the connection of whoever sends more than MAX_REQUEST_BYTES
              ──► version   another protocol is told so, if its envelope can be read
              ──► budget    who has sent too much rubbish is not listened to for a while (`daemon.budget`)
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
from dataclasses import dataclass

import msgspec
import zmq

from daemon.budget import Budget
from daemon.chores import Chores
from daemon.desk import READING, answer_frame, refusal_of
from daemon.feed import Feed, Outlet
from daemon.gate import Gate
from daemon.handlers import Handlers
from daemon.ingest import Ingest
from daemon.log import say
from daemon.notify import Notify
from daemon.questions import Questions
from daemon.rights import admit
from daemon.scrape_door import ScrapeDoor
from daemon.supervisor import Supervisor
from daemon.weighing import Weighings
from ponder import wire
from ponder.errors import Refused, StoreError
from ponder.hidden import View

ASKS_AT_ONCE = 64
TICK_S = 0.1
IDLE_TICK_S = 1.0
HOME_CHECK_S = 2.0
LOCAL, NETWORK = b"l", b"n"


class Envelope(msgspec.Struct, frozen=True):
    """What every version of an Ask has; the rest is looked at only when the version is ours."""

    id: wire.Id
    protocol: int


@dataclass(frozen=True)
class Heard:
    """A message, and where it came from."""

    place: bytes
    """The line, LOCAL or NETWORK, and the peer's identity there."""
    frames: list[bytes]
    admit: Callable[[wire.Request], wire.Request]
    """The request as this peer may ask it; raises Refused."""
    view: View = View.RAW
    """How much of an answer it may see."""


_envelope_decoder = msgspec.msgpack.Decoder(Envelope)


class Server:
    """Turns until it is told to stop."""

    def __init__(
        self, ctl: zmq.Socket[bytes], ingest_socket: zmq.Socket[bytes], *,
        handlers: Handlers, questions: Questions, ingest: Ingest, feed: Feed, supervisor: Supervisor, chores: Chores,
        gate: Gate, scrapes: ScrapeDoor, weighings: Weighings, budget: Budget, has_home: Callable[[], bool],
        notify: Notify,
    ) -> None:  # fmt: skip
        self._ctl, self._ingest_socket = ctl, ingest_socket
        self._handlers, self._questions = handlers, questions
        self._ingest, self._feed, self._supervisor = ingest, feed, supervisor
        self._chores, self._gate, self._scrapes, self._budget = chores, gate, scrapes, budget
        self._weighings, self._has_home, self._notify = weighings, has_home, notify

    def stop(self) -> None:
        """End as soon as possible, and let the trainers live; a signal may call it."""
        self._handlers.wants_end = True

    def serve(self) -> None:
        """Take what comes, in turn from each socket, and look after the runs ten times a second, if there are any."""
        poller = self._poller()
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
                self._scrapes.look(now)
                self._weighings.look(now)
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
            if self._gate.look(now):
                poller = self._poller()
                continue
            if self._gate.zap in ready:
                self._gate.answer_callers()
            if self._questions.results in ready:
                self._send_results()
            if self._ctl in ready:
                self._take_asks(self._hear_locally)
            if self._gate.ctl in ready:
                self._take_asks(self._hear_network)
            if self._ingest_socket in ready:
                self._ingest.take(time.monotonic())
            if self._take_subscriptions(ready):
                poller = self._poller()
            may_work_on = self._chores.work(time.monotonic(), is_busy=bool(ready))

    def _poller(self) -> zmq.Poller:
        poller = zmq.Poller()
        feeds = [outlet.socket for outlet in self._feed.outlets]
        network = [] if self._gate.ctl is None else [self._gate.ctl]
        for socket in (self._ctl, self._ingest_socket, self._questions.results, self._gate.zap, *feeds, *network):
            poller.register(socket, zmq.POLLIN)
        return poller

    def _take_asks(self, hear: Callable[[], Heard]) -> None:
        now = time.monotonic()
        for _ in range(ASKS_AT_ONCE):
            try:
                heard = hear()
            except zmq.Again:
                return
            if self._budget.hears(heard.place, now):
                self._take_ask(heard, now)

    def _hear_locally(self) -> Heard:
        identity, *frames = self._ctl.recv_multipart(zmq.DONTWAIT)
        return Heard(LOCAL + identity, frames, lambda request: request)

    def _hear_network(self) -> Heard:
        identity, frames, key = self._gate.receive()
        view = key.thoughts if key else View.RAW  # without a key nothing is admitted
        return Heard(NETWORK + identity, frames, lambda request: admit(key, request), view)

    def _take_ask(self, heard: Heard, now: float) -> None:
        place = heard.place
        try:
            (frame,) = heard.frames
            envelope = _envelope_decoder.decode(frame)
        except Exception:  # a border: rubbish of any kind, with nobody to answer to
            self._budget.spend(place, now)
            return
        if envelope.protocol != wire.PROTOCOL:
            message = f"this daemon speaks protocol {wire.PROTOCOL}, not {envelope.protocol}"
            hint = "`ponder down` and `ponder up` start the daemon of your version; runs go on"
            self._reply(place, answer_frame(envelope.id, wire.Refusal("protocol", message, hint)))
            return
        try:
            ask = wire.decode_ask(frame)
        except Exception:  # a border: an envelope with rubbish in it; what it was is not repeated
            self._budget.spend(place, now)
            self._reply(place, answer_frame(envelope.id, wire.Refusal("bad_request", "the request cannot be read")))
            return
        try:
            ask = msgspec.structs.replace(ask, request=heard.admit(ask.request))
        except Refused as error:
            self._reply(place, answer_frame(ask.id, refusal_of(error)))
            return
        if isinstance(ask.request, READING):
            self._questions.put(place, ask, heard.view)
        else:
            self._reply(place, answer_frame(ask.id, self._act(ask)))

    def _act(self, ask: wire.Ask) -> wire.Reply:
        try:
            return self._handlers.act(ask)
        except Exception as error:  # a border: whatever went wrong with one request, the next one is answered
            return refusal_of(error)

    def _send_results(self) -> None:
        for _ in range(ASKS_AT_ONCE):
            try:
                place, frame = self._questions.results.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            self._reply(place, frame)

    def _reply(self, place: bytes, frame: bytes) -> None:
        line = self._ctl if place.startswith(LOCAL) else self._gate.ctl
        with contextlib.suppress(zmq.ZMQError):  # it is gone, or does not read; it may ask again with the same id
            if line is not None:
                line.send_multipart([place[1:], frame], zmq.DONTWAIT)

    def _take_subscriptions(self, ready: dict[object, int]) -> bool:
        """Whether a feed was opened anew, since too much was subscribed to there."""
        is_renewed = False
        for outlet in list(self._feed.outlets):
            if outlet.socket in ready and outlet.take():
                say("more topics were subscribed to than are kept; all subscribers are to come again")
                self._renew(outlet)
                is_renewed = True
        return is_renewed

    def _renew(self, outlet: Outlet) -> None:
        try:
            outlet.renew()
        except StoreError as error:  # the network's port was taken meanwhile: the gate tries again
            say(error.message)
            self._gate.close()
