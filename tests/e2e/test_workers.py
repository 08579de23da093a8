"""Workers over the network, by the real command: a weak line, a worker's death and the trainer's own end nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from ponder import metrics, wire
from ponder.client import Client
from ponder.paths import Paths
from tests.daemon.conftest import free_port
from tests.e2e.conftest import Ponder, tiny, wait_for
from tests.peers.weak_line import WeakLine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

FAR_HOST = "127.0.0.2"
"""Where the daemon and the trainer serve; a worker knows a weak line at 127.0.0.1 only."""
PATIENCE_S = 150.0
MAX_LAG = 64
"""Steps of the tiny model are over long before its weights have come over a weak line."""


@dataclass
class Elsewhere:
    """Another machine, with a key, behind a weak line."""

    ponder: Ponder
    folder: Path
    port: int

    def worker(self, run: str, key: str = "box") -> subprocess.Popen[str]:
        environment = {
            **self.ponder.environment, "PONDER_HOME": str(self.folder / "home"),
            "PONDER_RUNTIME_DIR": str(self.folder / "run"),
        }  # fmt: skip
        words = ["--connect", f"tcp://127.0.0.1:{self.port}", "--key", str(self.folder / f"{key}.json")]
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "daemon.rollout_worker", run, "--json"],
            env={**environment, "PONDER_SERVER": words[1], "PONDER_KEY": words[3]},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.ponder.started.append(process)
        return process


@contextlib.contextmanager
def elsewhere(ponder: Ponder, folder: Path, ports: tuple[int, int], lines: ExitStack) -> Iterator[Elsewhere]:
    ponder.ok("key", "add", "box", "--role", "sample")
    ponder.ok("up", "--tcp", f"{FAR_HOST}:{ports[0]}")
    folder.mkdir(mode=0o700)
    shutil.copy(ponder.home / "keys" / "secrets" / "box.json", folder)
    with lines:
        yield Elsewhere(ponder, folder, ports[0])


class Curves:
    """What the run tells of its workers."""

    def __init__(self, ponder: Ponder, run: str) -> None:
        self._paths, self._run = Paths(ponder.home, ponder.runtime), run

    def newest(self, name: str, after: int = -1) -> tuple[int, float] | None:
        """The newest point of a curve behind a step."""
        with Client(self._paths) as client:
            points = client.ask(wire.GetMetrics(self._run, [name], after), wire.Curves).curves.get(name)
        return points[-1] if points else None

    def wait(self, name: str, after: int, least: float, most: float = 1e9) -> int:
        """The first step seen behind this one at which the curve is within the bounds."""

        def seen() -> int | None:
            point = self.newest(name, after)
            return point[0] if point is not None and least <= point[1] <= most else None

        return wait_for(seen, f"{name} within {least} and {most}", PATIENCE_S)


def test_a_weak_line_a_killed_worker_and_a_killed_trainer_end_nothing(ponder: Ponder, tmp_path: Path) -> None:
    port, crew_port = free_port(), free_port()
    lines = ExitStack()
    cut = [
        lines.enter_context(WeakLine(each, each, delay_s=0.003, cut_after=after, target_host=FAR_HOST))
        for each, after in ((port, None), (crew_port, (700_000, 2_000_000)))
    ]
    with elsewhere(ponder, tmp_path / "far", (port, crew_port), lines) as far:
        settings = {
            "stage.steps": 100_000, "saving.every_steps": 5, "evaluation.final_problems": 1, "workers.most": 2,
            "workers.max_lag": MAX_LAG, "workers.port": crew_port, "workers.patience_s": 20,
        }  # fmt: skip
        run = ponder.ok(*tiny(*(f"{name}={value}" for name, value in settings.items()))).json()["run"]
        curves = Curves(ponder, run)
        first = far.worker(run)
        step = curves.wait(metrics.WORKERS_SHARE, -1, 0.01)
        step = curves.wait(metrics.WORKERS_LAG_MAX, step, 0.0, MAX_LAG)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        step = curves.wait(metrics.WORKERS, step, 0.0, 0.0)
        second = far.worker(run)
        step = curves.wait(metrics.WORKERS_SHARE, step, 0.01)
        cut[1].drop()
        step = curves.wait(metrics.WORKERS_SHARE, step + 1, 0.01)
        os.kill(ponder.trainer_pid(run), signal.SIGKILL)
        wait_for(lambda: True if len(ponder.detail(run).attempts) == 2 else None, "another attempt")
        curves.wait(metrics.WORKERS_SHARE, step + 6, 0.01)
        ponder.ok("stop", run)
        out, err = second.communicate(timeout=PATIENCE_S)
        assert second.returncode == 0, err
        told = json.loads(out)
        assert told["state"] == "stopped" and told["answers"] > 0
        assert cut[1].cuts > 1
