"""`ponder` and its console as another machine runs them: a home of their own, and nothing in it.

Deliberately left out: how the daemon is reached (the tests over tcp and over ssh).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ponder.client import child_environment
from ponder.paths import Paths

PATIENCE_S = 60.0


class Far:
    """Another machine, with the options that name the daemon and what else stands in its environment."""

    def __init__(self, folder: Path, runtime: Path, options: list[str], environment: Mapping[str, str]) -> None:
        self.paths = Paths(folder / "elsewhere", runtime)
        self.options = options
        self.environment = {**child_environment(self.paths), **environment}

    def argv(self, *words: str) -> list[str]:
        return ["-P", "-m", "ponder.cli", *self.options, *words]

    def ponder(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a verb to its end."""
        return subprocess.run(
            [sys.executable, *self.argv(*words)],
            env=self.environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S,
        )  # fmt: skip

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Run a verb meanwhile; what it prints can be read."""
        command = [sys.executable, *self.argv(*words)]
        with subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()


def event_ids(process: subprocess.Popen[str]) -> Iterator[int]:
    """The ids of the events that `ponder follow --json` prints, as they come."""
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)["id"]


def write_ssh(folder: Path, script: str) -> Path:
    """A folder with a `ssh` that does this."""
    folder.mkdir()
    (folder / "ssh").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "ssh").chmod(0o755)
    return folder
