"""Reading asks, answered in threads of their own, so that a long search never holds up a command or an acknowledgement.

    server ── put ──► a queue ──► thread with its own read-only connection ──► inproc ──► server ──► client

The threads share nothing but the queue, and who is to hear the answers. An Ask that comes again, since its client heard
nothing yet, is no second question: its answer goes to where it was asked from last. Questions that are too many are not
kept; silence is what makes a client ask again. Deliberately left out: what the answers are (`daemon.desk`).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import zmq

from daemon.desk import Desk
from ponder import wire
from ponder.hidden import View

RESULTS = "inproc://answers"
MOST_WAITING = 256


class Questions:
    """A few threads; `open_desk` is called in each, for a connection belongs to its thread."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        open_desk: Callable[[], Desk],
        threads: int = 2,
    ) -> None:
        self._context, self._open_desk = context, open_desk
        self._waiting: queue.SimpleQueue[tuple[bytes, wire.Ask, View] | None] = queue.SimpleQueue()
        self._askers: dict[bytes, bytes] = {}
        """By an Ask's view and bytes, until it is answered: where it was asked from last."""
        self._lock = threading.Lock()
        self.results: zmq.Socket[bytes] = context.socket(zmq.PULL)
        self.results.bind(RESULTS)
        self._threads = [threading.Thread(target=self._work, name=f"reader-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def put(self, identity: bytes, ask: wire.Ask, view: View = View.RAW) -> None:
        """Have it answered as far as the `view` goes; the answer comes out of `results` as (identity, frame)."""
        asked = view.encode() + wire.encode(ask)
        with self._lock:
            is_known = asked in self._askers
            if not is_known and len(self._askers) >= MOST_WAITING:
                return
            self._askers[asked] = identity
        if not is_known:
            self._waiting.put((asked, ask, view))

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
                asked, ask, view = waiting
                answer = desk.answer(ask, view)
                with self._lock:
                    identity = self._askers.pop(asked)
                out.send_multipart([identity, answer])
        finally:
            out.close()
            desk.close()
