"""The trainer's side of the journey: its journal, and a relay that gives up nothing and floods nobody."""

from __future__ import annotations

import errno
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from daemon.journal_link import JournalLink, read_head, read_history
from daemon.relay import WINDOW_RECORDS, Relay
from ponder import wire
from ponder.events import (
    CheckpointSaved,
    CommandApplied,
    Finish,
    GroupScored,
    Preview,
    PreviewAnswer,
    Progress,
    Rollout,
    RunPaused,
    StepDone,
    TrainerEvent,
    decode_record,
)  # fmt: skip
from ponder.journal import JournalWriter, read_records
from tests.daemon.conftest import wait_for

RUN = "r"


def seqs(path: Path) -> list[int]:
    return [read_head(payload).seq for payload, _ in read_records(path)]


def order(command: str) -> wire.Order:
    return wire.Order(command, wire.SaveOrder())


def test_numbers_go_on_over_attempts_and_over_what_a_power_cut_took(tmp_path: Path) -> None:
    path = tmp_path / "journal.pj"
    for attempt, after_seq in ((1, 0), (2, 1), (3, 9)):
        link = JournalLink(path, attempt, after_seq=after_seq)
        link.emit(StepDone(attempt, attempt, {}))
        link.close()
    assert seqs(path) == [1, 2, 10]
    assert [decode_record(payload).attempt for payload, _ in read_records(path)] == [1, 2, 3]


def test_an_order_is_given_once_and_never_when_an_earlier_life_answered_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.pj"
    link = JournalLink(path, 1)
    link.emit(CommandApplied("done", 3, "set", "optim.lr", 0.1, 0.2))
    link.emit(CommandApplied("done", 3, "set", "optim.lr", 0.1, 0.2))
    link.close()
    link = JournalLink(path, 2)
    for _ in range(3):
        link.give([order("done"), order("new")])
    assert link.commands() == [order("new")]
    assert link.commands() == []
    assert [change.command for change in link.history.changes] == ["done"]
    link.close()


def test_waiting_for_orders_ends_with_the_first_one(tmp_path: Path) -> None:
    link = JournalLink(tmp_path / "journal.pj", 1)
    threading.Timer(0.05, link.give, [[order("a"), order("b")]]).start()
    assert link.commands(wait_s=10)[0] == order("a")
    assert link.commands(wait_s=0.01) in ([], [order("b")])
    link.close()


def test_a_run_that_was_held_is_held_again(tmp_path: Path) -> None:
    link = JournalLink(tmp_path / "journal.pj", 2, held_by="p")
    assert link.commands() == [wire.Order("p", wire.PauseOrder())]
    link.close()


def test_previews_are_dropped_oldest_first_and_never_wait(tmp_path: Path) -> None:
    link = JournalLink(tmp_path / "journal.pj", 1)
    for step in range(1000):
        link.preview(Preview(step, []))
    assert len(link.passing) == 64 and link.passing[-1] == Preview(999, [])
    link.close()


def test_the_trainer_waits_for_room_on_the_disk_and_loses_nothing(tmp_path: Path) -> None:
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    link = JournalLink(tmp_path / "journal.pj", 1)
    link.emit(StepDone(1, 1, {}))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    timer = threading.Timer(0.2, resource.setrlimit, (resource.RLIMIT_FSIZE, before))
    timer.start()
    try:
        link.emit(RunPaused(2))
        link.emit(GroupScored(2, 0, 1, "p", "q" * 200, "", []))
    finally:
        timer.join()
        signal.signal(signal.SIGXFSZ, handler)
        link.close()
    assert seqs(tmp_path / "journal.pj") == [1, 2, 3]
    assert link.phase == "load"


def test_a_step_never_waits_for_the_disk_and_is_there_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, asked_by = threading.Event(), list[str]()

    def sync(_: JournalWriter) -> None:
        asked_by.append(threading.current_thread().name)
        assert disk.wait(10)

    monkeypatch.setattr(JournalWriter, "sync", sync)
    link = JournalLink(tmp_path / "journal.pj", 1)
    started = time.monotonic()
    for step in range(1, 101):
        link.emit(StepDone(step, step, {}))
    assert time.monotonic() - started < 5 and len(seqs(tmp_path / "journal.pj")) == 100
    wait_for(lambda: asked_by or None, "the sync of the first step")
    disk.set()
    link.close()
    assert set(asked_by) == {"sync"} and len(asked_by) < 10


@pytest.mark.parametrize(
    "event", [CommandApplied("c", 1, "set", "optim.lr", 0.1, 0.2), CheckpointSaved(1, "step-1", 1, "0"), RunPaused(1)]
)
def test_what_a_run_goes_on_by_is_on_the_disk_when_emit_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: TrainerEvent
) -> None:
    synced = list[str]()
    monkeypatch.setattr(JournalWriter, "sync", lambda _: synced.append(threading.current_thread().name))
    link = JournalLink(tmp_path / "journal.pj", 1)
    link.emit(event)
    assert synced == [threading.current_thread().name]
    link.close()


def test_a_step_that_cannot_be_synced_is_told_and_nothing_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_: JournalWriter) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(JournalWriter, "sync", fail)
    link = JournalLink(tmp_path / "journal.pj", 1)
    link.emit(StepDone(1, 1, {}))
    wait_for(lambda: "could not be synced: Input/output error" in capfd.readouterr().err or None, "the complaint")
    link.emit(StepDone(2, 2, {}))
    link.close()
    assert seqs(tmp_path / "journal.pj") == [1, 2]


def test_an_index_finds_the_place_after_any_record(tmp_path: Path) -> None:
    path = tmp_path / "journal.pj"
    link = JournalLink(path, 1)
    for step in range(1, 301):
        link.emit(RunPaused(step))
    link.close()
    history = read_history(path)
    assert history.last_seq == 300
    for seq in (0, 1, 63, 64, 65, 200, 300):
        rest = [read_head(payload).seq for payload, _ in read_records(path, history.offset_before(seq))]
        assert [number for number in rest if number > seq] == list(range(seq + 1, 301))
        assert len(rest) <= 300 - seq + 64


@contextmanager
def relaying(
    tmp_path: Path, context: zmq.Context[zmq.Socket[bytes]]
) -> Iterator[tuple[JournalLink, zmq.Socket[bytes]]]:
    """A link with its relay, and the daemon's end of the line."""
    daemon = context.socket(zmq.ROUTER)
    daemon.setsockopt(zmq.LINGER, 0)
    endpoint = f"ipc://{tmp_path}/ingest"
    daemon.bind(endpoint)
    link = JournalLink(tmp_path / "journal.pj", 1)
    relay = Relay(link, endpoint, RUN, 1)
    relay.start()
    try:
        yield link, daemon
    finally:
        relay.close()
        link.close()
        daemon.close()


def receive(daemon: zmq.Socket[bytes], kind: type[wire.FromTrainer]) -> tuple[bytes, wire.FromTrainer]:
    """The next message of this kind; others are passed over."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if daemon.poll(100):
            identity, frame = daemon.recv_multipart()
            message = wire.decode_from_trainer(frame)
            if isinstance(message, kind):
                return identity, message
    raise AssertionError(f"no {kind.__name__} in 10 s")


def send(daemon: zmq.Socket[bytes], identity: bytes, message: wire.ToTrainer) -> None:
    daemon.send_multipart([identity, wire.encode(message)])


def numbers(batch: wire.FromTrainer) -> list[int]:
    assert isinstance(batch, wire.Batch)
    found = [read_head(record).seq for record in batch.records]
    assert found[0] == batch.first_seq
    return found


def test_a_relay_says_hello_and_sends_what_is_asked_for(tmp_path: Path) -> None:
    with zmq.Context() as context, relaying(tmp_path, context) as (link, daemon):
        for step in range(1, 11):
            link.emit(StepDone(step, step, {}))
        identity, hello = receive(daemon, wire.Hello)
        assert isinstance(hello, wire.Hello) and (hello.run, hello.protocol) == (RUN, wire.PROTOCOL)
        send(daemon, identity, wire.Resend(4))
        assert numbers(receive(daemon, wire.Batch)[1]) == [5, 6, 7, 8, 9, 10]
        send(daemon, identity, wire.Resend(7))
        assert numbers(receive(daemon, wire.Batch)[1]) == [8, 9, 10]
        link.emit(StepDone(11, 11, {}))
        assert numbers(receive(daemon, wire.Batch)[1]) == [11]
        link.preview(Progress(12, "sample", 0, 1))
        assert receive(daemon, wire.Passing)[1] == wire.Passing(RUN, Progress(12, "sample", 0, 1))
        _, beat = receive(daemon, wire.Beat)
        assert isinstance(beat, wire.Beat) and (beat.step, beat.phase) == (12, "sample")
        send(daemon, identity, wire.Orders([order("x")]))
        assert link.commands(wait_s=5) == [order("x")]
        send(daemon, identity, wire.SayHello())
        receive(daemon, wire.Hello)


def test_no_more_than_a_window_is_sent_before_it_is_acknowledged(tmp_path: Path) -> None:
    with zmq.Context() as context, relaying(tmp_path, context) as (link, daemon):
        for step in range(1, 1001):
            link.emit(GroupScored(step, 0, 0, "p", "q", "", [Rollout(0, "t", 1, Finish.END, 1.0)]))
        identity, _ = receive(daemon, wire.Hello)
        send(daemon, identity, wire.Resend(0))
        got = 0
        while got < WINDOW_RECORDS:
            got = numbers(receive(daemon, wire.Batch)[1])[-1]
        receive(daemon, wire.Beat)
        while daemon.poll(0):
            assert not isinstance(wire.decode_from_trainer(daemon.recv_multipart()[1]), wire.Batch)
        while got < 1000:
            send(daemon, identity, wire.Ack(got))
            got = numbers(receive(daemon, wire.Batch)[1])[-1]


def test_a_burst_is_carried_in_a_few_batches(tmp_path: Path) -> None:
    """Whenever the relay runs, the trainer may have to wait for the interpreter."""
    with zmq.Context() as context, relaying(tmp_path, context) as (link, daemon):
        identity, _ = receive(daemon, wire.Hello)
        send(daemon, identity, wire.Resend(0))
        link.emit(RunPaused(1))
        receive(daemon, wire.Batch)
        for step in range(2, 34):
            link.emit(GroupScored(step, 0, 0, "p", "q", "", []))
        batches, got = 0, 0
        while got < 33:
            got = numbers(receive(daemon, wire.Batch)[1])[-1]
            batches += 1
        assert batches <= 8  # one on an idle machine


def test_whatever_is_told_wakes_the_relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what is told while it lets more gather; without a beat nothing else would."""
    monkeypatch.setattr("daemon.relay.BEAT_S", 3600.0)
    monkeypatch.setattr("daemon.relay.SILENCE_S", 3600.0)
    with zmq.Context() as context, relaying(tmp_path, context) as (link, daemon):
        identity, _ = receive(daemon, wire.Hello)
        send(daemon, identity, wire.Resend(0))
        for step in range(1, 31):
            told: list[TrainerEvent] = [
                StepDone(step, step, {}),
                RunPaused(step),
                GroupScored(step, 0, 0, "p", "q", "", []),
            ]
            for event in told[: step % 3 + 1]:
                link.emit(event)
            got = 0
            while got < link.last_seq:
                got = numbers(receive(daemon, wire.Batch)[1])[-1]
            send(daemon, identity, wire.Ack(got))
        link.preview(Progress(31, "sample", 0, 1))
        receive(daemon, wire.Passing)


@pytest.mark.parametrize("state", ["dead", "stopped"])
def test_a_trainers_memory_does_not_grow_while_nobody_takes_its_events(tmp_path: Path, state: str) -> None:
    texts = [Rollout(index, "x" * 8192, 1, Finish.END, 1.0) for index in range(8)]
    with zmq.Context() as context, relaying(tmp_path, context) as (link, daemon):
        if state == "stopped":  # it has said how far it is, and takes no more
            identity, _ = receive(daemon, wire.Hello)
            send(daemon, identity, wire.Resend(0))
        else:
            daemon.close()
        for number in range(1, 101):
            link.emit(GroupScored(1, number, 0, "p", "q", "", texts))
        before = resident_bytes()
        for number in range(101, 2001):
            link.emit(GroupScored(1, number, 0, "p", "q", "", texts))
            link.preview(Preview(1, [PreviewAnswer(0, 0, 0, "y" * 8192)]))
        grown = resident_bytes() - before
        assert (tmp_path / "journal.pj").stat().st_size > 120 << 20
        assert grown < 48 << 20, f"{grown >> 20} MiB"


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_a_trainer_without_a_daemon_only_journals_and_finds_the_daemon_when_it_comes(tmp_path: Path) -> None:
    link = JournalLink(tmp_path / "journal.pj", 1)
    relay = Relay(link, f"ipc://{tmp_path}/ingest", RUN, 1)
    relay.start()
    started = time.monotonic()
    for step in range(1, 201):
        link.emit(RunPaused(step))
        link.preview(Preview(step, []))
    assert time.monotonic() - started < 5
    with zmq.Context() as context, context.socket(zmq.ROUTER) as daemon:
        daemon.setsockopt(zmq.LINGER, 0)
        daemon.bind(f"ipc://{tmp_path}/ingest")
        identity, hello = receive(daemon, wire.Hello)
        assert isinstance(hello, wire.Hello) and hello.last_seq == 200
        send(daemon, identity, wire.Resend(190))
        assert numbers(receive(daemon, wire.Batch)[1]) == list(range(191, 201))
        relay.close()
        link.close()
    wait_for(lambda: None if relay.is_alive() else True, "the relay's end")


@pytest.mark.parametrize("rubbish", [b"", b"\xc1", b"\x81\xa4type\xa3new"])
def test_a_relay_passes_over_what_it_does_not_understand(tmp_path: Path, rubbish: bytes) -> None:
    with zmq.Context() as context, relaying(tmp_path, context) as (link, daemon):
        identity, _ = receive(daemon, wire.Hello)
        daemon.send_multipart([identity, rubbish])
        send(daemon, identity, wire.Resend(0))
        link.emit(RunPaused(1))
        assert numbers(receive(daemon, wire.Batch)[1]) == [1]
