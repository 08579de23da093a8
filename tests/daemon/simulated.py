# ruff: noqa: ARG002  # what is simulated takes the arguments of what it stands for
"""A daemon, a trainer and the line between them on one thread, without a file, a socket, a process or a clock.

The real `Supervisor`, `Ingest`, `JournalLink`, `Relay` and `Boundary`; what they stand on is simulated: the store is a
few lists, the journal another, the line two queues that lose all they hold when an end dies, a process an object that
is asked to work. What happens next is drawn from a seed. Deliberately left out: SQLite, torn files and real deaths,
which the tests beside this one have.
"""

from __future__ import annotations

import contextlib
import random
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any  # Any: the simulated pieces stand where typed ones are asked for

import pytest
import zmq

from daemon import journal_link, relay, supervisor
from daemon.ingest import Ingest
from daemon.journal_link import JournalLink
from daemon.processes import Ended, Started
from daemon.relay import SILENCE_S, Relay
from daemon.supervisor import Supervisor
from ponder import wire
from ponder.errors import StoreError
from ponder.events import (
    CheckpointSaved,
    CommandApplied,
    CommandRefused,
    Record,
    RunEnded,
    RunStarted,
    RunState,
    StepDone,
    decode_record,
)  # fmt: skip
from ponder.knobs import Knobs
from ponder.paths import find_paths
from trainer.boundary import Boundary

RUN = "countdown-zero-1"
STEPS = 20
SAVED_EVERY = 3
LINE_FRAMES = 20
"""So many frames a line holds before it takes no more."""


class Store:
    """`store.writer` and `store.reader` for one run."""

    def __init__(self) -> None:
        self.state, self.reason = RunState.QUEUED, ""
        self.records: list[Record] = []
        self.attempts: dict[int, wire.AttemptRow] = {}
        self.commands: dict[str, wire.Order] = {}
        self.settled: dict[str, list[str]] = {}
        self.is_broken = False

    def _work(self) -> None:
        if self.is_broken:
            raise StoreError("the disk is full")

    def last_seq(self, run: str) -> int:
        self._work()
        return len(self.records)

    def head(self) -> int:
        self._work()
        return len(self.records)

    def commit_records(self, run: str, records: Sequence[Record], becomes: RunState | None = None) -> int:
        self._work()
        for record in records:
            if record.seq <= len(self.records):
                continue
            if record.seq != len(self.records) + 1:
                break
            self.records.append(record)
            if isinstance(record.event, CommandApplied | CommandRefused):
                self._settle(record.event.command, type(record.event).__name__)
        if becomes is not None and records and len(self.records) >= records[-1].seq:
            self.state, self.reason = becomes, ""
        return len(self.records)

    def _settle(self, command: str, how: str) -> None:
        if not self.settled[command]:  # a command that was settled before stays as it was
            self.settled[command].append(how)

    def set_state(self, run: str, state: RunState, reason: str = "") -> None:
        self._work()
        self.state, self.reason = state, reason

    def start_attempt(
        self, run: str, attempt: int, pid: int, pid_start: int, boot_id: str, is_reattached: bool = False
    ) -> None:
        self._work()
        self.attempts[attempt] = wire.AttemptRow(attempt, pid, 0, None, None, None, "")

    def end_attempt(self, run: str, attempt: int, exit_code: int | None, signal: int | None, cause: str) -> None:
        self._work()
        self.attempts[attempt] = wire.AttemptRow(attempt, 0, 0, 1, exit_code, signal, cause)

    def heard(self, run: str, step: int, phase: str, time_us: int) -> None:
        self._work()

    def accept(self, order: wire.Order) -> None:
        self._work()
        self.commands[order.command], self.settled[order.command] = order, []

    def pending_orders(self, run: str) -> list[wire.Order]:
        self._work()
        return [order for command, order in self.commands.items() if not self.settled[command]]

    def settle_command(self, command: str, step: int) -> bool:
        self._work()
        self._settle(command, "settled")
        return True

    def refuse_command(self, command: str, step: int, message: str, hint: str = "") -> bool:
        self._work()
        self._settle(command, "refused")
        return True

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        self._work()
        yield

    def open_attempt(self, run: str) -> tuple[int, int, int, str] | None:
        newest = max(self.attempts.values(), key=lambda row: row.attempt, default=None)
        is_open = newest is not None and newest.ended_us is None and newest.pid > 0
        return (newest.attempt, newest.pid, 1, "boot") if newest is not None and is_open else None

    def attempt_events(self, run: str, attempt: int) -> list[object]:
        return [record.event for record in self.records if record.attempt == attempt]

    def status_runs(self) -> list[wire.RunRow]:
        return [] if self.state.is_over else [self._row()]

    def run(self, name: str) -> Any:
        return SimpleNamespace(row=self._row(), attempts=list(self.attempts.values()), recipe="")

    def _row(self) -> wire.RunRow:
        return wire.RunRow(
            1, RUN, "", self.state, self.reason, "rl", 0, STEPS, len(self.attempts), 0, None, None, None, "", None, {},
            [],
        )  # fmt: skip


class Line:
    """What lies between one connection's two ends."""

    def __init__(self, world: World, identity: bytes) -> None:
        self.world, self.identity = world, identity
        self.up: deque[bytes] = deque()
        self.down: deque[bytes] = deque()
        self.is_open = True

    def send(self, frame: bytes, flags: int = 0) -> None:
        """The trainer's end."""
        if not self.is_open or len(self.up) >= LINE_FRAMES:
            raise zmq.Again
        self.up.append(frame)

    def close(self, linger: int = 0) -> None:
        self.is_open = False
        self.up.clear()
        self.down.clear()

    def setsockopt(self, *_: int) -> None:
        pass

    def connect(self, _: str) -> None:
        self.is_open = self.world.is_serving


class Router:
    """The daemon's end of all lines, and its feed."""

    def __init__(self, world: World) -> None:
        self._world = world

    def recv_multipart(self, _: int) -> list[bytes]:
        waiting = [line for line in self._world.lines if line.is_open and line.up]
        if not waiting:
            raise zmq.Again
        line = self._world.generator.choice(waiting)
        return [line.identity, line.up.popleft()]

    def send_multipart(self, frames: list[bytes], _: int) -> None:
        line = next((line for line in self._world.lines if line.is_open and line.identity == frames[0]), None)
        if line is None or len(line.down) >= LINE_FRAMES:
            raise zmq.ZMQError
        line.down.append(frames[1])


class Journal:
    """Stands for the file, and for its writer and the thread that syncs it."""

    readable, is_nameless = Path(RUN), False

    def __init__(self, records: list[bytes]) -> None:
        self.records = records

    def append(self, payload: bytes) -> None:
        self.records.append(payload)

    def sync(self) -> None:
        pass

    soon = close = sync


class Trainer:
    """One attempt's process: the real link and relay, and learning that is a number."""

    def __init__(self, world: World, attempt: int, after_seq: int, held_by: str) -> None:
        self.world, self.attempt, self.is_alive = world, attempt, True
        self.link = JournalLink(Path(RUN), attempt, after_seq=after_seq, held_by=held_by)
        self.relay = Relay(self.link, "", RUN, attempt)
        self.line: Line = self.relay._connect(world)  # type: ignore[arg-type, assignment]  # it stands for a context
        self.saved = world.checkpoint
        self.step = self.saved or 0
        self.boundary = Boundary(self.link, Knobs(), steps=STEPS, replay=self.link.history.changes)
        self.has_begun = False

    def work(self) -> None:
        """The next thing that the loop would do."""
        if not self.has_begun:
            self.has_begun = True
            self.link.emit(RunStarted(self.step, STEPS, "rl", "m", 1, "cpu", 1, self.saved))
        elif self.boundary.wants_stop or (self.step >= STEPS and not self.boundary.is_held):
            if self.boundary.wants_stop:
                self._save()
            self.link.emit(RunEnded(self.step, "stopped" if self.boundary.wants_stop else "finished"))
            self.world.end(self, code=0)
            return
        elif not self.boundary.is_held:
            self.step += 1
            self.link.emit(StepDone(self.step, self.step, {"reward/mean": self.step / 10}))
            if self.step % SAVED_EVERY == 0:
                self._save()
        for order in self.link.commands():
            self.boundary._obey(order, self.step, self._save)

    def _save(self) -> None:
        self.world.checkpoint = self.step
        self.link.emit(CheckpointSaved(self.step, "step", 1, "0" * 64))

    def carry(self) -> None:
        """A turn of the relay's thread."""
        if self.world.now - self.relay._heard > SILENCE_S:
            self.line.close()
            self.line = self.relay._connect(self.world)  # type: ignore[arg-type, assignment]
        self.relay._carry(self.line)  # type: ignore[arg-type]

    def hear(self) -> None:
        if self.line.is_open and self.line.down:
            self.relay._take(self.line.down.popleft())


class Patient(Supervisor):
    """Writes no folder."""

    def _prepare_folder(self, run: object) -> Path:
        return Path(RUN)


class World:
    """Everything, and what can happen to it."""

    def __init__(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.generator = random.Random(seed)
        self.now = 100.0
        self.store = Store()
        self.journal: list[bytes] = []
        self.checkpoint: int | None = None
        self.lines: list[Line] = []
        self.trainers: list[Trainer] = []
        self.papers: Started | None = None
        self.ended: Ended | None = None
        self.commands = 0
        self.is_serving = False
        self._patch(monkeypatch)
        self.start_daemon()
        self.supervisor.add(RUN)

    def _patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        journal = Journal(self.journal)
        clock = SimpleNamespace(monotonic=lambda: self.now, time_ns=lambda: int(self.now * 1e9))
        system = SimpleNamespace(
            pipe2=lambda _: (0, 0), O_NONBLOCK=0, O_CLOEXEC=0, getpid=lambda: 1, write=lambda *_: 1, killpg=self._signal
        )
        for name, value in {
            "read_records": self._read,
            "JournalWriter": lambda _: journal,
            "Syncing": lambda _: journal,
        }.items():
            monkeypatch.setattr(journal_link, name, value)
        for name, other in {"read_records": self._read, "os": system, "time": clock}.items():
            monkeypatch.setattr(relay, name, other)
        for name, third in {
            "read_records": self._read, "os": system, "subprocess": SimpleNamespace(Popen=self._launch, DEVNULL=0),
            "is_attempt_alive": lambda _: self.living is not None, "read_started": lambda _: self.papers,
            "read_ended": lambda _, attempt: self.ended if self.ended and self.ended.attempt == attempt else None,
            "is_same_process": lambda papers: self.living is not None and self.living.attempt == papers.attempt,
            "boot_id": lambda: "boot", "last_line": lambda _: "", "child_environment": lambda _: {},
        }.items():  # fmt: skip
            monkeypatch.setattr(supervisor, name, third)

    def _read(self, _: Path, offset: int = 0) -> Iterator[tuple[bytes, int]]:
        """The journal; an offset is a number of records."""
        yield from ((payload, place) for place, payload in enumerate(self.journal[offset:], start=offset + 1))

    def socket(self, _: int) -> Line:
        """A new connection of the trainer's, for `Relay._connect`."""
        line = Line(self, f"line {len(self.lines)}".encode())
        self.lines.append(line)
        return line

    # ---- processes

    @property
    def living(self) -> Trainer | None:
        return next((trainer for trainer in self.trainers if trainer.is_alive), None)

    def _launch(self, command: list[str], **_: object) -> Any:
        assert self.living is None, "two trainers of one run"
        after_seq, held_by = command[-2:]
        attempt = int(command[-3])
        trainer = Trainer(self, attempt, int(after_seq), held_by)
        self.trainers.append(trainer)
        self.papers, self.ended = Started(attempt, attempt, 1, "boot", 1, 1), None
        return SimpleNamespace(poll=lambda: None if trainer.is_alive else 0)

    def _signal(self, pid: int, number: int) -> None:
        if self.living is not None and self.living.attempt == pid:
            self.end(self.living, signal=int(number))

    def end(
        self, trainer: Trainer, *, code: int | None = None, signal: int | None = None, is_told: bool = True
    ) -> None:
        """The process is gone; `is_told` where its shim could write down how."""
        trainer.is_alive = False
        trainer.line.close()
        if is_told:
            self.ended = Ended(trainer.attempt, trainer.attempt, code, signal, False, 1, 1)

    def start_daemon(self) -> None:
        """A daemon on the same store; whatever the last one had in its sockets is lost."""
        for line in self.lines:
            line.close()
        feed: Any = SimpleNamespace(note=lambda _: None, pass_on=lambda _: None)
        router: Any = Router(self)
        store: Any = self.store
        self.ingest = Ingest(router, store, feed)
        self.supervisor = Patient(find_paths(), store, store, self.ingest, backoff_s=(1.0, 2.0, 4.0))
        self.is_serving = True
        self.supervisor.recover()

    # ---- what can happen

    def happen(self) -> None:
        """One thing, drawn at random."""
        choice = self.generator.random()
        living = self.living
        if choice < 0.20 and living:
            living.work()
        elif choice < 0.40 and living:
            living.carry()
        elif choice < 0.60 and living:
            living.hear()
        elif choice < 0.78:
            self._turn()
        elif choice < 0.88:
            self.now += self.generator.choice((0.01, 0.1, 1.0, 4.0, 12.0))
        elif choice < 0.93:
            self.command(self.generator.choice(("set", "set", "pause", "resume", "save", "stop")))
        elif choice < 0.95:
            self.store.is_broken = not self.store.is_broken
        elif choice < 0.975 and living:
            self.end(living, signal=9, is_told=self.generator.random() < 0.7)
        elif choice < 0.99:
            self.kill_daemon()
        elif living:
            living.line.close()

    def kill_daemon(self) -> None:
        was_broken, self.store.is_broken = self.store.is_broken, False  # a daemon does not start on a broken store
        self.start_daemon()
        self.store.is_broken = was_broken

    def _turn(self) -> None:
        """A turn of the daemon's loop."""
        self.supervisor.tick(self.now)
        self.ingest.retry_if_due(self.now)
        self.ingest.take(self.now)

    def command(self, verb: str) -> None:
        """A person wants something of a run that is not over, and is told that it is accepted, or that it is not."""
        if RUN not in self.supervisor.runs:
            return
        self.commands += 1
        actions: dict[str, wire.Action] = {
            "set": wire.KnobOrder("optim.lr", self.commands * 1e-5), "pause": wire.PauseOrder(),
            "resume": wire.ResumeOrder(), "save": wire.SaveOrder(), "stop": wire.StopOrder(),
        }  # fmt: skip
        order = wire.Order(f"command {self.commands}", actions[verb])
        with contextlib.suppress(StoreError):
            self.store.accept(order)
            self.supervisor.give(RUN, order)

    def come_to_rest(self) -> None:
        """Nothing goes wrong any more: everybody does what they do until the run is over."""
        self.store.is_broken = False
        for turn in range(4000):
            if self.store.state.is_over:
                return
            if turn % 100 == 99 and self.store.state is RunState.PAUSED:
                self.command("resume")
            if self.living:
                self.living.work()
            for _ in range(4):
                if self.living:
                    self.living.carry()
                    self.living.hear()
                self._turn()
            self.now += 0.1
        raise AssertionError(f"the run stays {self.store.state} ({self.store.reason})")


def play(seed: int, events: int = 500) -> World:
    """A schedule of so many things, then rest; what must be true of it is asserted."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        world = World(seed, monkeypatch)
        for _ in range(events):
            world.happen()
        world.come_to_rest()
    check(world)
    return world


def check(world: World) -> None:
    """Nothing lost, nothing doubled, every command answered once, and a state that is true."""
    journaled = [decode_record(payload) for payload in world.journal]
    assert [record.seq for record in journaled] == list(range(1, len(journaled) + 1))
    assert world.store.records == journaled
    answers = [
        record.event.command for record in journaled
        if isinstance(record.event, CommandApplied | CommandRefused) and record.event.verb != "pause"
    ]  # fmt: skip  # a pause is told again by the trainer that is held under it after a death
    assert len(answers) == len(set(answers)), "a command was tried twice"
    unanswered = [command for command, how in world.store.settled.items() if len(how) != 1]
    assert not unanswered, unanswered
    last = journaled[-1].event if journaled else None
    if isinstance(last, RunEnded):
        wanted = RunState.FINISHED if last.outcome == "finished" else RunState.STOPPED
        assert world.store.state is wanted
    else:
        assert world.store.state in (RunState.FAILED, RunState.STOPPED)
    steps = [r.event.step for r in journaled if isinstance(r.event, StepDone)]
    assert set(steps) == set(range(1, max(steps, default=0) + 1)), "a step was left out"
    assert world.living is None


if __name__ == "__main__":
    for number in range(*(int(word) for word in sys.argv[1:])):
        play(number)
