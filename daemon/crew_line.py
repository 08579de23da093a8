"""A rollout worker's line to a trainer: what is said gets its answer, or none for a while; a beat goes out meanwhile.

Deliberately left out: what is said, and what is done when nobody answers (`daemon.rollout_worker`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

import zmq

from ponder import crew, wire
from ponder.errors import NoDaemon
from ponder.handshakes import Handshakes
from ponder.remote import Server

SILENCE_S = 6.0
"""Whoever says nothing for so long is not there; a trainer that has nothing to do says so every two seconds."""
AGAIN_S = 3.0
BEAT_S = 1.0
PIECES_AT_ONCE = 8


class CrewLine:
    """Speaks with a trainer; use as a context manager, in one thread."""

    def __init__(self, server: Server, port: int, member: str) -> None:
        """`server` is the daemon, on whose machine the trainer is."""
        self._server, self._member = replace(server, port=port), member
        self._number = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._line = self._context.socket(zmq.DEALER)
        self._handshakes = Handshakes(self._line, server)
        self._connect(self._line)
        self._is_over = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="beat", daemon=True)
        self.received_bytes = self.sent_bytes = 0

    def __enter__(self) -> Self:
        self._beating.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.tell(crew.Leave())
        self._is_over.set()
        self._beating.join()
        self._handshakes.close()
        self._context.destroy(linger=200)

    def tell(self, message: crew.Message) -> None:
        """Say what has no answer; it may be lost."""
        with suppress(zmq.Again):
            self._line.send(self._call(0, message), zmq.DONTWAIT)

    def ask(self, message: crew.Message) -> crew.Answer | None:
        """The answer; None when nothing comes. Raises Refused where our key is not let in."""
        return self.ask_all([message])[0]

    def ask_all(self, messages: Sequence[crew.Message]) -> list[crew.Answer | None]:
        """The answers, in order, to what is asked at once; None for those that did not come in time."""
        asked = {self._number + place: message for place, message in enumerate(messages, 1)}
        self._number += len(messages)
        found: dict[int, crew.Answer] = {}
        silent_at = time.monotonic() + SILENCE_S
        again_at = 0.0
        while len(found) < len(asked) and (now := time.monotonic()) < silent_at:
            if now >= again_at:
                self._send({number: message for number, message in asked.items() if number not in found})
                again_at = now + AGAIN_S
            ready = dict(self._poller.poll(max(1, int((min(silent_at, again_at) - now) * 1000))))
            if self._handshakes.monitor in ready and self._is_new():
                again_at = 0.0  # what was asked over the lost line gets no answer
            if self._line in ready:
                frame = self._line.recv()
                self.received_bytes += len(frame)
                reply = crew.decode_reply(frame)
                if reply.number in asked:
                    found[reply.number] = reply.message
                    silent_at = time.monotonic() + SILENCE_S
        return [found.get(number) for number in asked]

    # ---- inside

    def _connect(self, line: zmq.Socket[bytes]) -> None:
        self._server.arm(line)
        line.setsockopt(zmq.LINGER, 200)
        line.setsockopt(zmq.MAXMSGSIZE, crew.MOST_BYTES)
        line.setsockopt(zmq.RECONNECT_IVL, 100)
        line.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        line.connect(self._server.endpoint("ctl"))
        self._poller = zmq.Poller()
        self._poller.register(self._line, zmq.POLLIN)
        self._poller.register(self._handshakes.monitor, zmq.POLLIN)

    def _is_new(self) -> bool:
        """Whether the line was lost, and is back."""
        try:
            return self._handshakes.see(self._handshakes.monitor.recv_multipart())
        except NoDaemon:  # who hangs up again and again may be a trainer that is gone, or a line
            return False

    def _send(self, messages: dict[int, crew.Message]) -> None:
        for number, message in messages.items():
            frame = self._call(number, message)
            with suppress(zmq.Again):
                self._line.send(frame, zmq.DONTWAIT)
                self.sent_bytes += len(frame)

    def _call(self, number: int, message: crew.Message) -> bytes:
        return crew.encode(crew.Call(wire.PROTOCOL, number, self._member, message))

    def _beat(self) -> None:
        """Over a line of its own, since the other thread may be drawing."""
        beats = self._context.socket(zmq.DEALER)
        self._server.arm(beats)
        beats.setsockopt(zmq.LINGER, 0)
        beats.setsockopt(zmq.IMMEDIATE, 1)  # nothing is queued for a trainer that is not there
        beats.connect(self._server.endpoint("ctl"))
        while not self._is_over.wait(BEAT_S):
            with suppress(zmq.Again):
                beats.send(self._call(0, crew.Beat()), zmq.DONTWAIT)
        beats.close(linger=0)
