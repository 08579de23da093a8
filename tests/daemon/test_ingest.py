"""What comes in at once is bounded, whatever waits: one transaction, one turn, one meal of memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import zmq

from daemon.feed import Feed, Outlet
from daemon.ingest import COMMIT_BYTES, Ingest
from daemon.run import Run
from daemon.supervisor import Supervisor
from ponder import wire
from ponder.events import Finish, GroupScored, Record, Rollout, RunState, TrainerEvent, encode_record
from ponder.journal import JournalWriter
from ponder.paths import Paths
from store.reader import Reader
from store.writer import Writer
from tests.store.records import recipe_text, started

RUN = "countdown-zero-1"
RECORD_BYTES = 200_000
RECORDS = 40


class Counting(Ingest):
    """Remembers how large each transaction was."""

    def __init__(self, socket: zmq.Socket[bytes], writer: Writer, feed: Feed) -> None:
        super().__init__(socket, writer, feed)
        self.committed: list[int] = []

    def commit(self, run: str, records: Sequence[Record]) -> int:
        if records:
            self.committed.append(sum(len(encode_record(record)) for record in records))
        return super().commit(run, records)


@pytest.fixture
def lines(paths: Paths) -> Iterator[tuple[Counting, Supervisor, zmq.Socket[bytes]]]:
    """An ingest with its supervisor, in this process, and a trainer's end of the line."""
    paths.home.mkdir(mode=0o700)
    writer = Writer(paths.store)
    writer.submit_run("submit", recipe_text(), "", "")
    reader = Reader(paths.store)
    with zmq.Context() as context:
        router, feed, trainer = (context.socket(kind) for kind in (zmq.ROUTER, zmq.XPUB, zmq.DEALER))
        router.bind("inproc://ingest")
        feed.bind("inproc://feed")
        trainer.connect("inproc://ingest")
        ingest = Counting(router, writer, Feed(Outlet(lambda: feed)))
        supervisor = Supervisor(paths, writer, reader, ingest)
        supervisor.runs[RUN] = Run(1, RUN, RunState.RUNNING, attempt=1)
        yield ingest, supervisor, trainer
        for socket in (router, feed, trainer):
            socket.close(linger=0)
    reader.close()
    writer.close()


def big_records() -> list[bytes]:
    """A journal's records, each of RECORD_BYTES, together many transactions."""
    rollout = Rollout(0, "x" * RECORD_BYTES, 1, Finish.END, 0.0)
    events: list[TrainerEvent] = [started(0, RECORDS)]
    events += [GroupScored(step, 0, 0, "p", "problem", "", [rollout]) for step in range(1, RECORDS)]
    return [encode_record(Record(seq, seq, 1, event)) for seq, event in enumerate(events, start=1)]


def receive(trainer: zmq.Socket[bytes]) -> wire.ToTrainer:
    assert trainer.poll(10_000)
    return wire.decode_to_trainer(trainer.recv())


def test_a_turn_takes_a_bounded_meal_and_the_rest_waits(
    lines: tuple[Counting, Supervisor, zmq.Socket[bytes]],
) -> None:
    ingest, _, trainer = lines
    trainer.send(wire.encode(wire.Hello(wire.PROTOCOL, RUN, 1, 1, RECORDS)))
    ingest.take(0.0)
    assert receive(trainer) == wire.Resend(0)
    for seq, record in enumerate(big_records(), start=1):
        trainer.send(wire.encode(wire.Batch(RUN, seq, [record])))
    turns = 0
    while ingest.last_seq(RUN) < RECORDS:
        ingest.take(1.0)
        answer = receive(trainer)
        assert answer == wire.Ack(ingest.last_seq(RUN))
        turns += 1
    assert turns == len(ingest.committed) > 5
    assert max(ingest.committed) < COMMIT_BYTES + RECORD_BYTES + 1000


def test_a_dead_trainers_journal_is_read_in_bounded_meals(
    lines: tuple[Counting, Supervisor, zmq.Socket[bytes]], paths: Paths
) -> None:
    ingest, supervisor, _ = lines
    write_journal(paths.journal(RUN))
    run = supervisor.runs[RUN]
    turns = 1
    while not supervisor._drain(run):
        turns += 1
    assert ingest.last_seq(RUN) == RECORDS
    assert turns >= len(ingest.committed) > 5
    assert max(ingest.committed) < COMMIT_BYTES + RECORD_BYTES + 1000


def write_journal(path: Path) -> None:
    path.parent.mkdir(parents=True)
    journal = JournalWriter(path)
    for record in big_records():
        journal.append(record)
    journal.close()
