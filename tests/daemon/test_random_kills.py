"""Daemon, trainer and shim killed at random moments while somebody follows: the lasting promise, in small.

PONDER_KILLS says how many kills, PONDER_KILLS_SEED which; the default is for every day, 10,000 for a release.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from daemon.processes import is_same_process, read_started
from ponder import wire
from ponder.client import Client
from ponder.errors import NoDaemon
from ponder.events import RunState, StoredEvent
from tests.daemon.conftest import Home
from tests.daemon.test_deaths import assert_store_is_the_journal

KILLS = int(os.environ.get("PONDER_KILLS", "25"))
SEED = int(os.environ.get("PONDER_KILLS_SEED", "1"))


@pytest.mark.slow
@pytest.mark.timeout(60 + 5 * KILLS)
def test_nothing_is_lost_and_nothing_doubled_whoever_is_killed(home: Home) -> None:
    generator = random.Random(SEED)
    home.start()
    run = home.submit(steps=1_000_000, step_s=0.005, save_every=1)
    followed: list[StoredEvent] = []
    is_over = threading.Event()

    def follow() -> None:
        with Client(home.paths) as client:
            followed.extend(client.follow(run, 0, stop=is_over.is_set, patience_s=60))

    follower = threading.Thread(target=follow)
    follower.start()
    try:
        for _ in range(KILLS):
            time.sleep(generator.uniform(0.0, 0.6))  # no condition is waited for: any moment will do
            kill_somebody(home, run, generator.choice(("daemon", "trainer", "trainer", "shim")))
            resume_if_failed(home, run)
        home.client.command(wire.StopRun(run))
        row = home.wait_state(run, RunState.STOPPED)
        assert row.attempt > 1
        assert_store_is_the_journal(home, run)
    finally:
        is_over.set()
        follower.join()
    stored = home.events(run)
    assert followed == stored[: len(followed)] and len(followed) > 100


def kill_somebody(home: Home, run: str, who: str) -> None:
    papers = read_started(home.paths.run(run))
    if who == "daemon":
        home.kill_daemon()
        home.start()
    elif papers is not None and is_same_process(papers):
        if who == "trainer":
            os.kill(papers.pid, signal.SIGKILL)
        elif parent_pid(papers.pid) == papers.shim_pid:  # it was not killed before
            os.kill(papers.shim_pid, signal.SIGKILL)


def parent_pid(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def resume_if_failed(home: Home, run: str) -> None:
    """Killed four times before its first step, a run is given up; a person would resume it."""
    try:
        if home.row(run).state is RunState.FAILED:
            home.client.command(wire.ResumeRun(run))
    except NoDaemon:
        home.start()
