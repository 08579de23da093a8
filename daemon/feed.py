"""What the daemon says to everyone: a bell when something durable happened, and passing events as they come.

The bell carries the newest event id and nothing else, so that one bell, whichever arrives, repairs all that were lost.
Deliberately left out: the events themselves, which followers pull (`ponder.client.follow`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import zmq

from ponder import wire

BELL_GAP_S = 0.05
"""At most 20 bells a second, however much happens."""
QUIET_BELL_S = 1.0
"""A bell a second when nothing does: a client that hears none knows that the daemon is gone."""
MOST_TOPIC_BYTES = 1 << 16
"""ZeroMQ keeps every topic that anybody subscribed to, at 80 bytes for each of these."""
FRAMES_AT_ONCE = 256
UNLINK_S = 1.0
SUBSCRIBE, UNSUBSCRIBE = 1, 0


class Outlet:
    """One XPUB socket, and how much of its memory its subscribers take.

    `hears_all` says of the message of a subscriber whether it may hear texts; its socket is XPUB_MANUAL.
    """

    def __init__(
        self, open_socket: Callable[[], zmq.Socket[bytes]], file: Path | None = None,
        hears_all: Callable[[zmq.Frame], bool] | None = None,
    ) -> None:  # fmt: skip
        self._open_socket, self._file, self._hears_all = open_socket, file, hears_all
        self._topic_bytes = 0
        self.socket = open_socket()

    def send(self, frames: list[bytes]) -> None:
        """XPUB drops for a subscriber that does not read; it never blocks."""
        self.socket.send_multipart(frames, zmq.DONTWAIT)

    def take(self) -> bool:
        """Take what subscribers say; whether together they have asked for more topics than are kept.

        A new subscriber gets the next bell, at the latest in a second.
        """
        for _ in range(FRAMES_AT_ONCE):
            try:
                message, *_ = self.socket.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                break
            frame = message.bytes
            if frame[:1] == bytes([SUBSCRIBE]):
                self._topic_bytes += len(frame)
            elif frame[:1] == bytes([UNSUBSCRIBE]):
                self._topic_bytes -= len(frame)
            if self._hears_all is not None:
                self._obey(frame, hears_all=self._hears_all(message))
        return self._topic_bytes > MOST_TOPIC_BYTES

    def _obey(self, frame: bytes, *, hears_all: bool) -> None:
        """On a socket that leaves it to us, give this subscriber what it may hear: the bell at least."""
        verbs = {SUBSCRIBE: zmq.SUBSCRIBE, UNSUBSCRIBE: zmq.UNSUBSCRIBE}
        topic = frame[1:]
        if not hears_all and wire.BELL_TOPIC.startswith(topic):
            topic = wire.BELL_TOPIC  # all that it asked for and may have
        if frame[:1] and frame[0] in verbs and (hears_all or topic.startswith(wire.BELL_TOPIC)):
            self.socket.setsockopt(verbs[frame[0]], topic)

    def renew(self) -> None:
        """Hang up on every subscriber; those who mean it connect again by themselves and say what they want."""
        self.close()
        deadline = time.monotonic() + UNLINK_S
        while self._file is not None and self._file.exists() and time.monotonic() < deadline:
            time.sleep(0.001)  # libzmq unlinks in a thread of its own, and would take the new one's file
        self._topic_bytes = 0
        self.socket = self._open_socket()

    def close(self) -> None:
        self.socket.close(linger=0)


class Feed:
    """Speaks through every outlet. A slow subscriber loses messages, and nobody waits for it."""

    def __init__(self, *outlets: Outlet) -> None:
        self.outlets = list(outlets)
        self._head = 0
        self._is_news = False
        self._rung = float("-inf")

    def note(self, head: int) -> None:
        """Something durable happened, up to this event id; the next bell tells."""
        self._head = max(self._head, head)
        self._is_news = True

    def ring_if_due(self, now: float) -> float:
        """Ring when there is something to tell and the last bell is long enough ago; returns when to call again."""
        due = self._rung + (BELL_GAP_S if self._is_news else QUIET_BELL_S)
        if now < due:
            return due
        self._rung, self._is_news = now, False
        self._send(wire.BELL_TOPIC, wire.Bell(self._head, os.getpid()))
        return now + QUIET_BELL_S

    def pass_on(self, live: wire.Live) -> None:
        """Publish a passing event to whoever listens now."""
        self._send(wire.LIVE_TOPIC + live.run.encode(), live)

    def _send(self, topic: bytes, body: wire.Bell | wire.Live) -> None:
        frames = [topic, wire.encode(body)]
        for outlet in self.outlets:
            outlet.send(frames)
