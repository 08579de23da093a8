"""A whole ponder of its own for a test: a temporary home, the real command, the real daemon, a real small model.

Everything started here is ended here: the daemon and the trainers by the pids that they told.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar  # Any: parsed JSON output

import msgspec
import pytest

from daemon.journal_link import JournalLink
from ponder import wire
from ponder.client import Client
from ponder.paths import Paths
from ponder.recipe import dump_recipe, parse_recipe
from tests.e2e.turned_trainer import train
from tests.trainer.conftest import RECIPE, make_tiny_model
from trainer import builtin

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_S = 90.0
T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)


@dataclass
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Ponder:
    """One ponder home and its commands."""

    home: Path
    runtime: Path
    extra: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ
        }
        return (
            kept
            | {
                "HOME": str(self.home.parent),
                "PONDER_HOME": str(self.home),
                "PONDER_RUNTIME_DIR": str(self.runtime),
                "LANG": "C.UTF-8",
                "OMP_NUM_THREADS": "1",
                "HF_HUB_OFFLINE": "1",
            }
            | self.extra
        )

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start `ponder words...` and return at once."""
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ponder.cli", *words],
            env=self.environment,
            cwd=self.home.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        self.started.append(process)
        return process

    def __call__(self, *words: str, timeout_s: float = PATIENCE_S) -> Ended:
        """Run `ponder words...` to its end."""
        process = self.start(*words)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"ponder {' '.join(words)} did not end:\n{out}\n{err}") from None
        return Ended(process.returncode, out, err)

    def ok(self, *words: str) -> Ended:
        """Run a command that must succeed."""
        ended = self(*words)
        assert ended.code == 0, f"ponder {' '.join(words)}: exit {ended.code}\n{ended.out}\n{ended.err}"
        return ended

    def run_row(self, run: str) -> dict[str, Any]:
        """The run as `ponder show --json` tells it."""
        row: dict[str, Any] = self.ok("show", run, "--json").json()["row"]
        return row

    def ask(self, request: wire.Request, reply_type: type[R]) -> R:
        """What the daemon says, asked from this process: a command that is asked again and again is mostly imports."""
        with Client(Paths(self.home, self.runtime)) as client:
            return client.ask(request, reply_type)

    def detail(self, run: str) -> wire.RunDetail:
        """What `ponder show` shows of the run."""
        return self.ask(wire.GetRun(run), wire.RunDetail)

    def trainer_pid(self, run: str) -> int:
        """The pid of the run's newest attempt, once it has one that lives."""

        def living() -> int | None:
            alive = [attempt.pid for attempt in self.detail(run).attempts if attempt.ended_us is None]
            return alive[-1] if alive else None

        return wait_for(living, "a living trainer")

    def daemon_pid(self) -> int:
        return int(self.ok("status", "--json").json()["pid"])

    def wait_until(self, run: str, holds: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The run's row once `holds` is true of it."""
        return wait_for(lambda: row if holds(row := msgspec.to_builtins(self.detail(run).row)) else None, what)

    def events(self, run: str) -> list[dict[str, Any]]:
        """All durable events of a run that is over."""
        return [json.loads(line) for line in self.ok("follow", run, "--after", "0", "--json").out.splitlines()]


def wait_for(ask: Callable[[], T | None], what: str, patience_s: float = PATIENCE_S) -> T:
    """The first answer that is not None; fails with `what` after the deadline."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if (answer := ask()) is not None:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"waited {patience_s:.0f} s in vain for {what}")


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def opened(folder: Path) -> Iterator[Ponder]:
    """A ponder in a folder, without a daemon yet; whatever it starts is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="pndr-", dir="/tmp") as runtime:  # sockets need a short path
        own = Ponder(folder / "home", Path(runtime))
        yield own
        for process in own.started:
            if process.poll() is None:
                process.kill()
                process.communicate()
        own("down", "--stop-runs", timeout_s=60)
        for record in own.home.glob("runs/*/attempt.json"):
            pid = json.loads(record.read_text()).get("pid")
            if pid and is_alive(pid):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def ponder(tmp_path: Path) -> Iterator[Ponder]:
    """A ponder of the test's own."""
    with opened(tmp_path) as own:
        yield own


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ponder]:
    """The module's ponder, for tests that leave neither a run going nor a daemon dead."""
    with opened(tmp_path_factory.mktemp("shared")) as own:
        yield own


RUN = "tiny-1"
"""The run of `trained`."""


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one run that was trained for four steps; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("trained")
    make_tiny_model().save_pretrained(folder / "model")
    builtin.countdown_tokenizer().save_pretrained(folder / "model")
    own = Paths(folder, folder)
    recipe = parse_recipe(RECIPE.format(model=folder / "model"), "tiny.toml")
    own.run(RUN).mkdir(parents=True)
    own.run_recipe(RUN).write_text(dump_recipe(recipe))
    link = JournalLink(own.journal(RUN), 1)
    train(recipe, link, own)
    link.close()
    return own.home


@pytest.fixture(scope="module")
def paths(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paths]:
    """A home of the module's own with the run of `trained`."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(trained, home, dirs_exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pndr-", dir="/tmp") as runtime:
        yield Paths(home, Path(runtime))


@pytest.fixture
def at_home(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that are called in this process find that home, and compute on one core."""
    monkeypatch.setenv("PONDER_HOME", str(paths.home))
    monkeypatch.setenv("PONDER_RUNTIME_DIR", str(paths.runtime))
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")


TINY = (
    "stage.steps=12",
    "sampling.prompts_per_step=4",
    "sampling.group_size=4",
    "sampling.max_new_tokens=24",
    "evaluation.final_problems=8",
    "evaluation.problems=8",
    "evaluation.every_steps=0",
    "saving.every_steps=4",
)


def tiny(*more: str) -> list[str]:
    """The words of `ponder run` for a run of seconds: the real recipe with small numbers."""
    words = ["run", "countdown-zero", "--json"]
    for setting in (*TINY, *more):
        words += ["--set", setting]
    return words
