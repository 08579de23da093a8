"""A home of its own for every test, and the command run inside this process."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: parsed JSON output

import pytest

from ponder.cli import main
from ponder.events import RunState
from ponder.paths import Paths, find_paths
from tests.ponder.scripted_daemon import ScriptedDaemon, script


@dataclass
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Said]


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Paths]:
    """An empty home, not yet made, with a short way to its sockets."""
    with tempfile.TemporaryDirectory(prefix="pndr-", dir="/tmp") as runtime:
        monkeypatch.setenv("PONDER_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("PONDER_RUNTIME_DIR", runtime)
        monkeypatch.delenv("PONDER_TRACEBACK", raising=False)
        yield find_paths()


@pytest.fixture
def ponder(paths: Paths, capfd: pytest.CaptureFixture[str]) -> Command:  # noqa: ARG001  # the home must be set
    """Run `ponder words...` in this process."""

    def command(*words: str) -> Said:
        capfd.readouterr()
        code = main(list(words))
        out, err = capfd.readouterr()
        return Said(code, out, err)

    return command


@pytest.fixture
def serve(paths: Paths) -> Iterator[Callable[..., ScriptedDaemon]]:
    """Start a scripted daemon for this home; it ends with the test."""
    daemons: list[ScriptedDaemon] = []

    def start(state: RunState = RunState.RUNNING, reason: str = "") -> ScriptedDaemon:
        daemons.append(ScriptedDaemon(paths, script(state, reason)))
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.close()
