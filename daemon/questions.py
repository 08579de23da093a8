"""Reading asks, answered in threads of their own, so that a long search never holds up a command or an acknowledgement.

    server ── put ──► a queue ──► thread with its own read-only connection ──► inproc ──► server ──► client

The threads share nothing but the queue. Deliberately left out: what the answers are (`daemon.desk`).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import zmq

from daemon.desk import Desk
from ponder import wire

RESULTS = "inproc://answers"


class Questions:
    """A few threads; `open_desk` is called in each, for a connection belongs to its thread."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        open_desk: Callable[[], Desk],
        threads: int = 2,
    ) -> None:
        self._context, self._open_desk = context, open_desk
        self._waiting: queue.SimpleQueue[tuple[bytes, wire.Ask] | None] = queue.SimpleQueue()
        self.results: zmq.Socket[bytes] = context.socket(zmq.PULL)
        self.results.bind(RESULTS)
        self._threads = [threading.Thread(target=self._work, name=f"reader-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def put(self, identity: bytes, ask: wire.Ask) -> None:
        """Have it answered; the answer comes out of `results` as (identity, frame)."""
        self._waiting.put((identity, ask))

    def close(self) -> None:
        """End the threads; what still waits is not answered."""
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join(5.0)
        self.results.close(linger=0)

    def _work(self) -> None:
        desk = self._open_desk()
        out: zmq.Socket[bytes] = self._context.socket(zmq.PUSH)
        out.setsockopt(zmq.LINGER, 0)
        out.connect(RESULTS)
        try:
            while (waiting := self._waiting.get()) is not None:
                identity, ask = waiting
                out.send_multipart([identity, desk.answer(ask)])
        finally:
            out.close()
            desk.close()
