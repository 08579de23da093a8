"""A real daemon in a home of its own, for benchmarks: started as a person's is, ended with all that it started.

Trainers outlive a daemon, so that each is killed by its own id when the benchmark ends or is cut short, by Ctrl-C or by
SIGTERM. Deliberately left out: what is asked of it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daemon.processes import is_attempt_alive, is_same_process, read_started
from ponder import wire
from ponder.client import Client, child_environment
from ponder.errors import NoDaemon
from ponder.paths import Paths

PATIENCE_S = 30.0


@contextmanager
def private_home(folder: Path | None = None) -> Iterator[Paths]:
    """A fresh home, inside `folder` where the disk matters, and short paths for its sockets."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as home,
        tempfile.TemporaryDirectory(prefix="pndr-", dir="/tmp") as runtime,
    ):
        yield Paths(Path(home), Path(runtime))


@contextmanager
def daemon(paths: Paths, worker: str = "daemon.worker") -> Iterator[Client]:
    """A daemon of this home whose trainers run the module `worker`; gives a client that it answers."""
    process = start(paths, worker)
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with Client(paths, timeout_s=PATIENCE_S) as client:
        try:
            wait_for_answer(client, process)
            yield client
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
            end_trainers(paths)
            signal.signal(signal.SIGTERM, before)


def end_trainers(paths: Paths) -> None:
    """Kill every trainer of this home that lives, and see it gone."""
    folders = [folder for folder in paths.runs.glob("*") if folder.is_dir()]
    for folder in folders:
        attempt = read_started(folder)
        if attempt is not None and is_same_process(attempt):
            os.kill(attempt.pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_S
    while any(is_attempt_alive(folder) for folder in folders) and time.monotonic() < deadline:
        time.sleep(0.02)


def start(paths: Paths, worker: str) -> subprocess.Popen[bytes]:
    """A daemon's process that does not answer yet."""
    code = f"import sys; from daemon.__main__ import main; sys.exit(main(worker={worker!r}))"
    with paths.daemon_log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", code], env=child_environment(paths), cwd="/", stdout=log, stderr=log
        )


def wait_for_answer(client: Client, process: subprocess.Popen[bytes]) -> None:
    """Return when the daemon answers; raises NoDaemon when it ends or takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            client.ask(wire.GetStatus(), wire.Status)
        except NoDaemon:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
