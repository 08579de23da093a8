"""What the daemon says to everyone: a bell when something durable happened, and passing events as they come.

The bell carries the newest event id and nothing else, so that one bell, whichever arrives, repairs all that were lost.
Deliberately left out: the events themselves, which followers pull (`ponder.client.follow`).
"""

from __future__ import annotations

import os

import zmq

from ponder import wire

BELL_GAP_S = 0.05
"""At most 20 bells a second, however much happens."""
QUIET_BELL_S = 1.0
"""A bell a second when nothing does: a client that hears none knows that the daemon is gone."""


class Feed:
    """The XPUB socket. A slow subscriber loses messages, and nobody waits for it."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
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
        self._socket.send_multipart([topic, wire.encode(body)], zmq.DONTWAIT)  # XPUB drops, it never blocks
