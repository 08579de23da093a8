"""Several processes under the real daemon: one run to who watches it, and none of them outlives the others."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import Any  # Any: parsed JSON output

import psutil
import pytest

from daemon.processes import meeting_prefix
from tests.e2e.conftest import Ponder, is_alive, tiny, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LONG = ("compute.processes=2", "stage.steps=400", "saving.every_steps=1")


def ranks(ponder: Ponder, run: str) -> dict[int, int]:
    """The pid of each rank of the newest attempt, once there are two."""

    def found() -> dict[int, int] | None:
        environments = {child.pid: child.environ() for child in psutil.Process(ponder.trainer_pid(run)).children()}
        by_rank = {int(own["RANK"]): pid for pid, own in environments.items() if "RANK" in own}
        return by_rank if len(by_rank) == 2 else None

    return wait_for(found, "two ranks")


def attempts(ponder: Ponder, run: str) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = ponder.ok("show", run, "--json").json()["attempts"]
    return told


def test_a_killed_rank_is_named_and_the_run_goes_on_from_its_checkpoint(ponder: Ponder) -> None:
    run = ponder.ok(*tiny(*LONG)).json()["run"]
    ponder.wait_until(run, lambda row: row["step"] >= 2, "two steps")
    own = ranks(ponder, run)
    os.kill(own[1], signal.SIGKILL)
    wait_for(lambda: True if len(ponder.detail(run).attempts) == 2 else None, "the next attempt")
    assert attempts(ponder, run)[0]["cause"] == "rank 1 of 2 was killed by signal 9 (SIGKILL)"
    assert not any(map(is_alive, own.values()))
    again = ponder.run_row(run)["step"]
    ponder.wait_until(run, lambda row: row["step"] > again, "a step of the next attempt")
    ponder.ok("stop", run)
    assert ponder.run_row(run)["state"] == "stopped"


def test_orders_stacks_and_death_reach_every_rank(ponder: Ponder) -> None:
    run = ponder.ok(*tiny(*LONG)).json()["run"]
    ponder.wait_until(run, lambda row: row["step"] >= 1, "a step")
    own = ranks(ponder, run)
    stack = ponder.ok("stack", run).out
    assert f"--- rank 0 (pid {own[0]}) ---" in stack and f"--- rank 1 (pid {own[1]}) ---" in stack
    assert "trainer/loop.py" in stack.partition("rank 1")[2]
    ponder.ok("pause", run)
    ponder.ok("set", "optim.lr=0.0007", "--run", run)
    refused = ponder("set", "sampling.prompts_per_step=1", "--run", run)
    assert "fewer than the 2 processes" in refused.err
    ponder.ok("resume", run)
    parent = ponder.trainer_pid(run)
    os.kill(parent, signal.SIGKILL)
    wait_for(lambda: None if any(map(is_alive, own.values())) else True, "the end of both ranks")
    left = f"{meeting_prefix(parent)}*"
    wait_for(lambda: None if any(Path(tempfile.gettempdir()).glob(left)) else True, "nothing left of their meeting")
    ponder("stop", run)
