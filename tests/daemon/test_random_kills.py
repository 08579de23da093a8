"""Daemon, trainer, shim and follower killed at random moments: the lasting promise, in small.

PONDER_KILLS says how many kills, PONDER_KILLS_SEED which; the default is for every day, 10,000 for a release. Every
`KILLS_A_RUN` kills another run begins, so that neither a journal nor a comparison grows with the number of kills.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from daemon.processes import is_same_process, read_started
from ponder import wire
from ponder.client import _starting_lock, child_environment
from ponder.errors import NoDaemon, RunFailed
from ponder.events import RunState, StoredEvent
from tests.daemon.conftest import Home, wait_for
from tests.daemon.test_deaths import assert_store_is_the_journal

KILLS = int(os.environ.get("PONDER_KILLS", "100"))
SEED = int(os.environ.get("PONDER_KILLS_SEED", "1"))
KILLS_A_RUN = 50
WHO = ("daemon", "trainer", "trainer", "shim", "follower")


@dataclass
class Follower:
    """`ponder follow RUN --json` into a file; begun again, it goes on after the last whole line that it finds there."""

    home: Home
    run: str
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        whole, _, torn = self.log.read_bytes().rpartition(b"\n") if self.log.exists() else (b"", b"", b"")
        with self.log.open("ab") as log:
            log.truncate(log.tell() - len(torn))
            last = msgspec.json.decode(whole.rpartition(b"\n")[2], type=StoredEvent).id if whole else 0
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ponder.cli", "follow", self.run, "--json", "--after", str(last)],
                stdin=subprocess.DEVNULL, stdout=log, cwd="/", env=child_environment(self.home.paths),
            )  # fmt: skip

    def kill(self) -> bool:
        """Whether it was alive."""
        assert self.process is not None
        self.process.kill()
        return self.process.wait() == -signal.SIGKILL

    def ends(self) -> bool | None:
        """True when it ended with its run; begun again where no daemon answered, or the run had been given up."""
        assert self.process is not None
        if (code := self.process.poll()) is not None and code != 0:
            assert code in (NoDaemon.exit_code, RunFailed.exit_code)
            self.start()
        return True if code == 0 else None

    def events(self) -> list[StoredEvent]:
        return [msgspec.json.decode(line, type=StoredEvent) for line in self.log.read_bytes().splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(60 + 5 * KILLS)
def test_nothing_is_lost_and_nothing_doubled_whoever_is_killed(home: Home, tmp_path: Path) -> None:
    generator, met = random.Random(SEED), Counter[str]()
    home.start()
    with _starting_lock(home.paths) as take:
        assert take()  # only we start daemons: a follower that finds none waits for ours
        for first in range(0, KILLS, KILLS_A_RUN):
            log = tmp_path / f"followed-{first}.jsonl"
            met += kill_around_a_run(home, generator, min(KILLS_A_RUN, KILLS - first), log)
    assert all(met[who] for who in WHO)
    print(f"seed {SEED}: {KILLS} kills, which met alive {dict(met)}; {met.total()} in all")


def kill_around_a_run(home: Home, generator: random.Random, kills: int, log: Path) -> Counter[str]:
    """One run from its submission to its stop; who was met alive. Log, store and journal agree in the end."""
    run = home.submit(steps=1_000_000, step_s=0.005, save_every=1)
    follower, met = Follower(home, run, log), Counter[str]()
    follower.start()
    try:
        for _ in range(kills):
            time.sleep(generator.uniform(0.0, 0.5))  # no condition is waited for: any moment will do
            who = generator.choice(WHO)
            met[who] += kill(home, follower, who)
            resume_if_failed(home, run)
        wait_for_a_step(home, run)
        home.client.command(wire.StopRun(run))
        assert home.wait_state(run, RunState.STOPPED).attempt > 1
        wait_for(follower.ends, "the follower's end")
    finally:
        follower.kill()
    assert_store_is_the_journal(home, run)
    stored = home.events(run)
    assert follower.events() == stored and len(stored) > kills
    shutil.rmtree(home.paths.checkpoints(run))  # one a step: thousands of folders
    return met


def kill(home: Home, follower: Follower, who: str) -> bool:
    """Kill it, if it lives; daemon and follower are begun again at once."""
    papers = read_started(home.paths.run(follower.run))
    if who == "daemon":
        home.kill_daemon()
        home.start()
    elif who == "follower":
        was_alive = follower.kill()
        follower.start()
        return was_alive
    elif papers is None or not is_same_process(papers):
        return False
    elif who == "trainer":
        os.kill(papers.pid, signal.SIGKILL)
    elif parent_pid(papers.pid) != papers.shim_pid:
        return False  # it was killed before
    else:
        os.kill(papers.shim_pid, signal.SIGKILL)
    return True


def parent_pid(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def resume_if_failed(home: Home, run: str) -> None:
    """Killed four times before its first step, a run is given up; a person would resume it."""
    if home.row(run).state is RunState.FAILED:
        home.client.command(wire.ResumeRun(run))


def wait_for_a_step(home: Home, run: str) -> None:
    """Return when the run goes on, whoever was killed."""
    before = home.row(run).step

    def goes_on() -> bool | None:
        resume_if_failed(home, run)
        return home.row(run).step > before or None

    wait_for(goes_on, f"a step of {run} after {before}")
