"""The thread of a trainer that carries its journal to the daemon, for as long as it takes.

    waits for     the daemon's frames, the trainer's nudge, the next second
    sends         Hello; Batches from the journal, at most a window unacknowledged; a Beat a second; Passing
    takes         Ack (the window moves), Resend (go back to there), Orders (to the trainer), SayHello, Reject
    woken by      a byte in a pipe, which the trainer writes once until it is read; then it lets more gather for a
                  moment, a longer one where nobody waits for what was told, since whenever it runs it takes the
                  interpreter from the trainer

A daemon that is away costs nothing: frames that cannot be sent are not kept, for the journal has them. A daemon that
was silent for three seconds gets a fresh socket and a Hello. Deliberately left out: what is journaled
(`daemon.journal_link`).
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress

import zmq

from daemon.journal_link import JournalLink, read_head
from daemon.log import say
from ponder import wire
from ponder.journal import read_records

WINDOW_RECORDS = 256
WINDOW_BYTES = 8 << 20
BATCH_RECORDS = 64
BATCH_BYTES = 1 << 18
"""Packing a batch holds the interpreter: this much takes about a tenth of a millisecond."""
GATHER_S = 0.01
PATIENT_S = 0.1
"""So long it lets events gather for which nobody waits: a screen shows a picture for as long."""
BEAT_S = 1.0
SILENCE_S = 3.0
STUCK_S = 10.0
"""A batch that is not acknowledged for so long, by a daemon that talks, was lost: start over with a Hello."""
REJECTED_WAIT_S = 10.0
NAMELESS_S = 30.0
"""So long a trainer whose folder was deleted waits at its end for a daemon that takes what it told."""


class Relay(threading.Thread):
    """Reads the journal and talks to `ingest`; all its sockets are its own."""

    def __init__(self, link: JournalLink, endpoint: str, run: str, attempt: int) -> None:
        super().__init__(name="relay", daemon=True)
        self._link, self._endpoint, self._run, self._attempt = link, endpoint, run, attempt
        self._nudge_out, self._nudge_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._is_nudged = self._is_urged = False
        self._is_over = False
        self._is_greeted = False
        self._offset = 0
        self._sent = self._acked = 0
        self._in_flight: list[tuple[int, int]] = []
        """(last seq, bytes) of each batch that is not acknowledged."""
        self._heard = self._hello_due = self._beat_due = self._moved = 0.0
        link.nudge = self.nudge

    @property
    def acked_seq(self) -> int:
        """The newest record that the daemon is known to hold; any thread."""
        return self._acked

    def nudge(self, is_urgent: bool) -> None:
        """Tell the thread that there is something to carry; any thread, returns at once."""
        if not self._is_nudged or (is_urgent and not self._is_urged):
            self._is_nudged, self._is_urged = True, self._is_urged or is_urgent
            os.write(self._nudge_in, b"!")

    def close(self, timeout_s: float = 2.0) -> None:
        """End the thread. What it has not carried stays in the journal, where the daemon finds it.

        A journal that was deleted is found by nobody: there it waits for the last acknowledgement.
        """
        deadline = time.monotonic() + NAMELESS_S
        while self._link.is_nameless and self._acked < self._link.last_seq and time.monotonic() < deadline:
            time.sleep(GATHER_S)
        self._is_over = True
        self.nudge(is_urgent=True)
        self.join(timeout_s)

    def run(self) -> None:
        context = zmq.Context()
        daemon = self._connect(context)
        try:
            while not self._is_over:
                if time.monotonic() - self._heard > SILENCE_S:
                    daemon.close(linger=0)
                    daemon = self._connect(context)
                self._carry(daemon)
                self._wait()
                with suppress(zmq.Again):
                    while True:
                        self._take(daemon.recv(zmq.DONTWAIT))
        finally:
            context.destroy(linger=200)

    def _connect(self, context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
        daemon = context.socket(zmq.DEALER)
        daemon.setsockopt(zmq.LINGER, 200)
        daemon.setsockopt(zmq.IMMEDIATE, 1)  # nothing is queued for a daemon that is not there
        daemon.setsockopt(zmq.RECONNECT_IVL, 100)
        daemon.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        daemon.connect(self._endpoint)
        self._poller = zmq.Poller()
        self._poller.register(daemon, zmq.POLLIN)
        self._poller.register(self._nudge_out, zmq.POLLIN)
        self._is_greeted = False
        self._heard = time.monotonic()
        return daemon

    def _wait(self) -> None:
        due = self._beat_due if self._is_greeted else min(self._beat_due, max(self._hello_due, time.monotonic() + 0.05))
        ready = dict(self._poller.poll(max(0, int((due - time.monotonic()) * 1000) + 1)))
        if self._nudge_out in ready:
            self._gather()

    def _gather(self) -> None:
        """Let more come before it is carried."""
        if self._is_urged:
            time.sleep(GATHER_S)
        else:  # an urgent nudge ends it, and so does the daemon
            self._empty_pipe()
            self._poller.poll(int(PATIENT_S * 1000))
        self._is_nudged = self._is_urged = False  # before reading: a nudge from now on writes a new byte
        self._empty_pipe()

    def _empty_pipe(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._nudge_out, 4096)

    # ---- out

    def _carry(self, daemon: zmq.Socket[bytes]) -> None:
        now = time.monotonic()
        if not self._in_flight:
            self._moved = now
        elif now - self._moved > STUCK_S:
            self._is_greeted, self._hello_due, self._moved = False, 0.0, now
        if not self._is_greeted:
            self._link.passing.clear()
            if now >= self._hello_due:
                hello = wire.Hello(wire.PROTOCOL, self._run, self._attempt, os.getpid(), self._link.last_seq)
                self._hello_due = now + (BEAT_S if self._send(daemon, hello) else 0.05)
        else:
            self._send_batches(daemon)
            while self._link.passing:
                if not self._send(daemon, wire.Passing(self._run, self._link.passing.popleft())):
                    break
        if now >= self._beat_due:
            self._beat_due = now + BEAT_S
            if self._is_greeted:
                link = self._link
                self._send(daemon, wire.Beat(self._run, self._attempt, link.step, link.phase, link.phase_since_us))

    def _send_batches(self, daemon: zmq.Socket[bytes]) -> None:
        while self._sent < self._link.last_seq and self._has_window():
            first, records, size, offset = 0, [], 0, self._offset
            for payload, offset in read_records(self._link.readable, self._offset):
                seq = read_head(payload).seq
                self._link.history.note(seq, offset)
                if seq > self._sent:
                    first = first or seq
                    records.append(payload)
                    size += len(payload)
                if len(records) >= BATCH_RECORDS or size >= BATCH_BYTES:
                    break
            if not records or not self._send(daemon, wire.Batch(self._run, first, records)):
                return
            self._offset = offset
            self._sent = seq
            self._in_flight.append((seq, size))

    def _has_window(self) -> bool:
        size = sum(size for _, size in self._in_flight)
        return self._sent - self._acked < WINDOW_RECORDS and size < WINDOW_BYTES

    def _send(self, daemon: zmq.Socket[bytes], message: wire.FromTrainer) -> bool:
        try:
            daemon.send(wire.encode(message), zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    # ---- in

    def _take(self, frame: bytes) -> None:
        try:
            message = wire.decode_to_trainer(frame)
        except Exception:  # a border: a newer daemon may say what this trainer does not know
            return
        self._heard = time.monotonic()
        match message:
            case wire.Ack(seq):
                self._acknowledge(seq)
            case wire.Resend(after_seq):
                self._is_greeted = True
                self._go_back(after_seq)
            case wire.Orders(orders):
                self._link.give(orders)
            case wire.SayHello():
                self._is_greeted = False
                self._hello_due = 0.0
            case wire.Reject(reason):
                self._is_greeted = False
                self._hello_due = time.monotonic() + REJECTED_WAIT_S
                self._heard = self._hello_due
                say(f"the daemon does not take this trainer's events: {reason}; they stay in the journal")

    def _acknowledge(self, seq: int) -> None:
        if seq > self._acked:
            self._moved = time.monotonic()
        self._acked = max(self._acked, min(seq, self._sent))
        self._in_flight = [batch for batch in self._in_flight if batch[0] > self._acked]

    def _go_back(self, after_seq: int) -> None:
        self._sent = self._acked = after_seq
        self._in_flight.clear()
        self._offset = self._link.history.offset_before(after_seq)
