"""The program beside a live run's trainer that learns from rankings: started, looked after, and let go.

    a trainer of a run with `[rlhf] live = true` lives ──► one `daemon.rm_worker`, started again when it dies
    worker.lock    held by it, so that a new daemon finds the one of the old daemon and starts no second

It ends by itself when the trainer is gone. Its log is `reward_model/log.txt` in the run's folder. Deliberately left
out: what it does.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from daemon.log import say
from ponder.client import child_environment
from ponder.errors import PonderError
from ponder.paths import Paths, make_private_folder, open_private_file
from ponder.recipe import read_recipe
from ponder.stage import StageKind

PROGRAM = "daemon.rm_worker"
LOCK = "worker.lock"
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


@dataclass
class Companion:
    """What the daemon knows of the program beside one run; not kept on disk."""

    run: str
    program: str = PROGRAM
    is_wanted: bool | None = None
    """None until the recipe was looked at."""
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    due: float = 0.0

    def look_after(self, paths: Paths, now: float) -> None:
        """Called while a trainer of the run lives: start the program where it should run and does not."""
        if self.is_wanted is None:
            self.is_wanted = learns_live(paths.run_recipe(self.run))
        if not self.is_wanted or now < self.due:
            return
        if self.process is not None:
            code = self.process.poll()
            if code is None:
                return
            self.process = None
            self.due = now + REST_S[min(self.starts, len(REST_S)) - 1]
            say(f"{self.run}: what learns from its rankings ended with {code}; started again")
            return
        folder = paths.reward_model(self.run)
        lock = take_worker_lock(folder)
        if lock is None:  # an older daemon's, which outlived it
            self.due = now + HELD_REST_S
            return
        os.close(lock)
        self._start(paths, folder)

    def _start(self, paths: Paths, folder: Path) -> None:
        self.starts += 1
        log = open_private_file(folder / "log.txt", os.O_WRONLY | os.O_APPEND)
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
        """The trainer is gone, and nothing is learnt without it; whenever the program is killed, nothing is lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process, self.due, self.starts = None, 0.0, 0
