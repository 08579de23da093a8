"""Programs beside a run's trainer: started, looked after, and let go.

    a trainer of a run with `[rlhf] live = true` lives ──► one `daemon.rm_worker`, which ends with it
    a trainer lives, and `trackers.toml` names one     ──► one `daemon.tracking`, which ends when the run is over
    worker.lock    held by each, so that a new daemon finds the one of the old daemon and starts no second

One that dies is started again while the trainer lives. Their logs are `log.txt` beside their locks, in `reward_model/`
and `trackers/` of the run's folder. Deliberately left out: what they do.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from daemon.log import last_line, say
from ponder.client import child_environment
from ponder.errors import PonderError, UsageError
from ponder.paths import Paths, make_private_folder, open_private_file
from ponder.recipe import read_recipe
from ponder.stage import StageKind

LOCK, LOG = "worker.lock", "log.txt"
REST_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""The wait before each new start; the last for all later ones."""
HELD_REST_S = 2.0
"""How often the lock of another daemon's is looked at."""


def take_worker_lock(folder: Path) -> int | None:
    """The held lock's descriptor, or None where another process has it."""
    lock = open_private_file(make_private_folder(folder) / LOCK, os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def learns_live(recipe: Path) -> bool:
    """Whether people rank while this recipe's policy learns."""
    try:
        stages = read_recipe(recipe).stages
    except PonderError:  # the trainer says it
        return False
    return any(part.stage.kind is StageKind.RL and part.rlhf.live for part in stages)


def tracks(paths: Paths) -> bool:
    """Whether a person wants curves to be told to other programs; what is wrong with the file, they say in its log."""
    return paths.tracker_file.exists()


@dataclass
class Companion:
    """What the daemon knows of a program beside one run; not kept on disk."""

    run: str
    program: str
    folder: Path
    """Its lock and its log."""
    is_called_for: Callable[[], bool]
    """Asked once, when a trainer lives."""
    outlives: bool = False
    """Whether it ends by itself, after the trainer and with the run."""
    is_wanted: bool | None = None
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    due: float = 0.0

    def look_after(self, paths: Paths, now: float) -> None:
        """Called while a trainer of the run lives: start the program where it should run and does not."""
        if self.is_wanted is None:
            self.is_wanted = self.is_called_for()
        if not self.is_wanted or now < self.due:
            return
        if self.process is not None:
            code = self.process.poll()
            if code is None:
                return
            self.process = None
            if code == UsageError.exit_code or (self.outlives and not code):
                self.is_wanted = False  # it is done, or would say the same again
                if code:
                    say(f"{self.run}: `{self.program}` gave up: {last_line(self.folder / LOG)}")
                return
            self.due = now + REST_S[min(self.starts, len(REST_S)) - 1]
            say(f"{self.run}: `{self.program}` ended with {code}; started again")
            return
        lock = take_worker_lock(self.folder)
        if lock is None:  # an older daemon's, which outlived it
            self.due = now + HELD_REST_S
            return
        os.close(lock)
        self._start(paths)

    def _start(self, paths: Paths) -> None:
        self.starts += 1
        log = open_private_file(self.folder / LOG, os.O_WRONLY | os.O_APPEND)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", self.program, self.run],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**child_environment(paths), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        finally:
            os.close(log)

    def let_go(self) -> None:
        """The trainer is gone; what needs it ends, and whenever that is killed, nothing is lost."""
        if self.process is not None and not self.outlives:
            self.process.kill()
            self.process.wait()
            self.process = None
        self.due, self.starts = 0.0, 0


def companions_of(paths: Paths, run: str) -> list[Companion]:
    """All programs that a run may have beside it."""
    recipe, reward_model, trackers = paths.run_recipe(run), paths.reward_model(run), paths.trackers(run)
    return [
        Companion(run, "daemon.rm_worker", reward_model, lambda: learns_live(recipe)),
        Companion(run, "daemon.tracking", trackers, lambda: tracks(paths), outlives=True),
    ]
