"""Events in: check, commit a batch in one transaction, acknowledge after the commit, ring the bell.

    consumes     frames of trainers: Hello, Batch, Beat, Passing
    produces     Ack (cumulative), Resend (a hole, or a commit that failed), Orders, SayHello, Reject
    commits      records in order, each once: what is already stored is passed over by (run, seq)
    waits for    nothing: when the store fails there is no Ack, and a Resend asks again later

All that is known of a trainer is what it said since this daemon began; an unknown one is asked to say hello.
Deliberately left out: what the events mean for the run (`daemon.supervisor`, which watches every commit).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import zmq

from daemon.budget import Budget
from daemon.feed import Feed
from daemon.log import say_bug
from ponder import wire
from ponder.errors import NotFound, StoreError
from ponder.events import Record, RunState, decode_record
from store.writer import Writer

FRAMES_AT_ONCE = 64
COMMIT_BYTES = 1 << 19
"""A transaction ends with the frame that passes this: 30 ms of work, so that a command never waits long."""
RETRY_S = 1.0


class Watcher(Protocol):
    """Who wants to know what came in; the supervisor."""

    def take_in(self, name: str) -> None:
        """Know a run that trains elsewhere, if this is one and it is new."""

    def refuse_trainer(self, run: str, attempt: int) -> str:
        """Why this attempt's events are not taken; empty when they are."""

    def foresee(self, run: str, records: Sequence[Record]) -> RunState | None:
        """The state that the run is in once these records are true; None when it stays as it is."""

    def saw(self, run: str, records: Sequence[Record], becomes: RunState | None) -> None:
        """New records were committed, and with all of them the state that was foreseen."""

    def heard(self, beat: wire.Beat) -> None:
        """A trainer lives."""

    def orders(self, run: str) -> list[wire.Order]:
        """What the run's trainer is still to be told."""


class Ingest:
    """The ROUTER socket of the trainers. Used from the daemon's one thread, like the writer."""

    def __init__(self, socket: zmq.Socket[bytes], writer: Writer, feed: Feed, budget: Budget | None = None) -> None:
        self._socket, self._writer, self._feed, self._budget = socket, writer, feed, budget or Budget()
        self.watcher: Watcher | None = None
        self._runs: dict[bytes, str] = {}
        """Which run's trainer is behind an identity; one identity a run, the newest."""
        self._last: dict[str, int] = {}
        """The newest committed seq of each run that was asked for."""
        self._retries: dict[str, float] = {}

    def take(self, now: float) -> None:
        """Take what waits in the socket, up to a bound, so that clients get their turn too."""
        batches: dict[bytes, list[wire.Batch]] = {}
        taken_bytes = 0
        for _ in range(FRAMES_AT_ONCE):
            if taken_bytes >= COMMIT_BYTES:
                break
            try:
                identity, *frames = self._socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                break
            if not self._budget.hears(identity, now):
                continue
            try:
                (frame,) = frames
                taken_bytes += len(frame)
                message = wire.decode_from_trainer(frame)
            except Exception:  # a border: rubbish of any kind is counted and forgotten
                self._budget.spend(identity, now)
                continue
            if isinstance(message, wire.Batch):
                batches.setdefault(identity, []).append(message)
            else:
                self._hear(identity, message)
        for identity, group in batches.items():
            self._commit_batches(identity, group, now)

    def retry_if_due(self, now: float) -> None:
        """Ask again for what could not be committed."""
        for run, due in list(self._retries.items()):
            if now >= due:
                del self._retries[run]
                self._resend(run)

    def send_orders(self, run: str, orders: list[wire.Order]) -> None:
        """Tell the run's trainer, if it is connected; it is repeated until it is answered."""
        identity = self._identity(run)
        if identity is not None and orders:
            self._send(identity, wire.Orders(orders))

    def commit(self, run: str, records: Sequence[Record]) -> int:
        """Commit records, show the new ones to the watcher, ring; the newest committed seq. May raise StoreError."""
        before = self.last_seq(run)
        new = [record for record in records if record.seq > before]
        if not new or self.watcher is None:
            return before
        becomes = self.watcher.foresee(run, new)
        last = self._writer.commit_records(run, new, becomes)
        self._last[run] = last
        committed = [record for record in new if record.seq <= last]
        self.watcher.saw(run, committed, becomes if len(committed) == len(new) else None)
        if committed:
            self._feed.note(self._writer.head())
        return last

    def last_seq(self, run: str) -> int:
        """The newest committed seq of a run."""
        if run not in self._last:
            self._last[run] = self._writer.last_seq(run)
        return self._last[run]

    # ---- inside

    def _hear(self, identity: bytes, message: wire.Hello | wire.Beat | wire.Passing) -> None:
        if isinstance(message, wire.Hello):
            self._greet(identity, message)
            return
        if self._runs.get(identity) != message.run:
            self._send(identity, wire.SayHello())
        elif isinstance(message, wire.Passing):
            self._feed.pass_on(wire.Live(message.run, message.event))
        else:
            if self.watcher is not None:
                self.watcher.heard(message)
            self._send(identity, wire.Ack(self.last_seq(message.run)))

    def _greet(self, identity: bytes, hello: wire.Hello) -> None:
        if hello.protocol != wire.PROTOCOL:
            self._send(identity, wire.Reject(f"this daemon speaks protocol {wire.PROTOCOL}, not {hello.protocol}"))
            return
        try:
            if self.watcher is not None:
                self.watcher.take_in(hello.run)
            last = self.last_seq(hello.run)
        except NotFound as error:
            self._send(identity, wire.Reject(error.message))
            return
        except StoreError:
            return  # it says hello again in a second
        refusal = self.watcher.refuse_trainer(hello.run, hello.attempt) if self.watcher else ""
        if refusal:
            self._send(identity, wire.Reject(refusal))
            return
        self._runs = {known: run for known, run in self._runs.items() if run != hello.run} | {identity: hello.run}
        self._send(identity, wire.Resend(last))
        if self.watcher is not None:
            self.send_orders(hello.run, self.watcher.orders(hello.run))

    def _commit_batches(self, identity: bytes, batches: list[wire.Batch], now: float) -> None:
        run = batches[0].run
        if self._runs.get(identity) != run or any(batch.run != run for batch in batches):
            self._send(identity, wire.SayHello())
            return
        if run in self._retries:
            return  # the store is resting; the Resend that follows asks for these again
        try:
            records = [decode_record(data) for batch in batches for data in batch.records]
            records.sort(key=lambda record: record.seq)  # after a Resend the old and the new may come mixed
        except Exception:  # a border: a newer trainer's event, or rubbish
            self._budget.spend(identity, now)
            self._send(identity, wire.Reject("a record cannot be read by this daemon"))
            return
        try:
            last = self.commit(run, records)
        except StoreError:
            self._retries[run] = now + RETRY_S
            return
        except Exception as error:  # a border: one run's record must not end the daemon for all runs
            say_bug(error)
            self._retries[run] = now + 10 * RETRY_S
            return
        if records and last < records[-1].seq:
            self._send(identity, wire.Resend(last))
        else:
            self._send(identity, wire.Ack(last))

    def _resend(self, run: str) -> None:
        identity = self._identity(run)
        if identity is not None:
            self._send(identity, wire.Resend(self.last_seq(run)))

    def _identity(self, run: str) -> bytes | None:
        return next((identity for identity, known in self._runs.items() if known == run), None)

    def _send(self, identity: bytes, message: wire.ToTrainer) -> None:
        try:
            self._socket.send_multipart([identity, wire.encode(message)], zmq.DONTWAIT)
        except zmq.ZMQError:
            self._runs.pop(identity, None)  # it is gone, or does not read: it will say hello
