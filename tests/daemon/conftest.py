"""A ponder home of its own for each test, and a real daemon on it whose trainers are fake and quick.

Whatever is started is ended by the pid that it told: daemons here, trainers by their papers.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from daemon.processes import is_same_process, read_started
from ponder import wire
from ponder.client import Client, child_environment
from ponder.errors import NoDaemon
from ponder.events import RunState, StoredEvent
from ponder.keys import KeyRing, Role
from ponder.paths import Paths

PATIENCE_S = 20.0
T = TypeVar("T")


def wait_for(ask: Callable[[], T | None], what: str, patience_s: float = PATIENCE_S) -> T:
    """The first answer that is not None; fails with `what` after the deadline."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if (answer := ask()) is not None:
            return answer
        time.sleep(0.01)
    raise AssertionError(f"waited {patience_s:.0f} s in vain for {what}")


class Home:
    """One ponder home: its daemons come and go."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.client = Client(paths)
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self, module: str = "tests.peers.fake_daemon") -> subprocess.Popen[bytes]:
        """Start a daemon and return when it answers."""
        process = self.spawn(module)
        wait_for(lambda: self._answers(process), "the daemon's first answer")
        return process

    def spawn(self, module: str = "tests.peers.fake_daemon") -> subprocess.Popen[bytes]:
        """Start a daemon and return at once."""
        self.paths.home.mkdir(mode=0o700, exist_ok=True)
        with self.paths.daemon_log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", module],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=child_environment(self.paths),
                start_new_session=True,
            )
        self._daemons.append(process)
        return process

    def _answers(self, process: subprocess.Popen[bytes]) -> bool | None:
        assert process.poll() is None, self.paths.daemon_log.read_text()
        try:
            return self.client.ask(wire.GetStatus(), wire.Status).pid == process.pid or None
        except NoDaemon:
            return None

    def kill_daemon(self) -> None:
        """SIGKILL: no last words."""
        self._daemons[-1].kill()
        self._daemons[-1].wait()

    def submit(self, name: str = "fake", *, steps: int = 5, save_every: int = 2, **options: float) -> str:
        """Put a run of the fake trainer into the queue; returns its name."""
        return self.client.command(wire.SubmitRun(recipe_text(name, steps, save_every, **options), by="test")).run

    def row(self, run: str) -> wire.RunRow:
        return self.detail(run).row

    def detail(self, run: str) -> wire.RunDetail:
        return self.client.ask(wire.GetRun(run), wire.RunDetail)

    def wait_state(self, run: str, *states: RunState) -> wire.RunRow:
        """The run's row once it is in one of these states."""

        def row() -> wire.RunRow | None:
            return found if (found := self.row(run)).state in states else None

        return wait_for(row, f"{run} to be {' or '.join(states)}")

    def wait_step(self, run: str, step: int) -> wire.RunRow:
        """The run's row once it has done so many steps."""
        return wait_for(lambda: found if (found := self.row(run)).step >= step else None, f"step {step} of {run}")

    def events(self, run: str) -> list[StoredEvent]:
        """All durable events of a run so far."""
        found: list[StoredEvent] = []
        while page := self.client.ask(wire.GetEvents(after=found[-1].id if found else 0, run=run), wire.Events).events:
            found += page
        return found

    def trainer_pid(self, run: str) -> int:
        """The pid of the run's living trainer."""

        def living() -> int | None:
            papers = read_started(self.paths.run(run))
            return papers.pid if papers is not None and is_same_process(papers) else None

        return wait_for(living, f"a living trainer of {run}")

    def end(self) -> None:
        """End every daemon and every trainer that was started here."""
        for process in self._daemons:
            if process.poll() is None:
                process.terminate()
        for process in self._daemons:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for folder in self.paths.runs.glob("*"):
            papers = read_started(folder)
            if papers is not None and is_same_process(papers):
                os.kill(papers.pid, signal.SIGKILL)
            if papers is not None:
                wait_for(lambda shim=(papers.shim_pid, folder): is_gone(*shim), "a shim's end")  # type: ignore[misc]
        self.client.close()


def is_gone(shim_pid: int, folder: Path) -> bool | None:
    """Whether this folder's shim has ended; after many thousand processes its number may be another's."""
    try:
        return os.fsencode(folder) not in Path(f"/proc/{shim_pid}/cmdline").read_bytes() or None
    except OSError:
        return True


def recipe_text(name: str = "fake", steps: int = 5, save_every: int = 2, **options: float) -> str:
    """A recipe for the fake trainer."""
    said = "\n".join(f"{key} = {value}" for key, value in options.items())
    return f"""
[run]
name = "{name}"
[model]
path = "builtin:none"
[task]
name = "fake"
[task.options]
{said}
[stage]
kind = "rl"
steps = {steps}
[saving]
every_steps = {save_every}
"""


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[Paths]:
    """A home in a folder of its own, with sockets in a short one."""
    with tempfile.TemporaryDirectory(prefix="pndr-", dir="/tmp") as runtime:
        yield Paths(tmp_path / "home", Path(runtime))


@pytest.fixture
def home(paths: Paths) -> Iterator[Home]:
    """A home without a daemon yet."""
    own = Home(paths)
    yield own
    own.end()


@pytest.fixture
def served(home: Home) -> Home:
    """A home with a daemon that answers."""
    home.start()
    return home


def free_port() -> int:
    """A port that is free, and the one after it."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


class Network:
    """A daemon that serves the network, with a key of each role."""

    def __init__(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home, self._monkeypatch = home, monkeypatch
        self.keys = KeyRing(home.paths.keys)
        self.port = free_port()
        home.paths.home.mkdir(mode=0o700)
        for role in Role:
            self.keys.add(role, role)
        self.keys.listen(f"127.0.0.1:{self.port}")

    def status(self) -> wire.Status:
        return self.home.client.ask(wire.GetStatus(), wire.Status)

    def wait_served(self) -> None:
        wait_for(lambda: self.status().tcp or None, "the network to be served")

    def enter(self, name: str, timeout_s: float = 5.0) -> Client:
        """A client that holds this key."""
        self.arrive(self.keys.secret_file(name))
        client = Client(self.home.paths, timeout_s)
        self._monkeypatch.delenv("PONDER_SERVER")
        return client

    def arrive(self, key: Path) -> None:
        """Make this process a visitor with this key file."""
        self._monkeypatch.setenv("PONDER_SERVER", f"tcp://127.0.0.1:{self.port}")
        self._monkeypatch.setenv("PONDER_KEY", str(key))


@pytest.fixture
def network(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    opened = Network(home, monkeypatch)
    home.start()
    opened.wait_served()
    yield opened
    monkeypatch.undo()
