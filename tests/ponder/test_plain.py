"""What is said of a run that is followed without a console."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ponder.events import WAIT_FOR_DISK, Progress, RunState
from ponder.plain import Watched
from tests.ponder.scripted_daemon import run_row


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        (Progress(0, "load", 0, 140), "loading the model"),
        (Progress(40, "evaluate", 40, 140), "measuring on held-out problems"),
        (Progress(40, "evaluate", 64, 512), "measuring on held-out problems 64/512"),
        (Progress(40, "sample", 40, 140), "step 40/140"),
    ],
)
def test_a_phase_is_counted_only_where_it_counts_something_of_its_own(phase: Progress, words: str) -> None:
    watched = Watched("run", RunState.RUNNING, step=40, steps=140, phase=phase)
    assert watched.doing == words
    assert watched.shares == ((64, 512) if phase.total == 512 else (40, 140))


def test_a_trainer_that_waits_for_the_disk_is_said_to_and_what_helps() -> None:
    watched = Watched("run", RunState.RUNNING, step=7, steps=12)
    watched.look(replace(run_row(RunState.RUNNING), phase="learn"))
    assert watched.doing == "step 7/12"
    watched.look(replace(run_row(RunState.RUNNING), phase=WAIT_FOR_DISK))
    assert "disk is full" in watched.doing and "free some space" in watched.doing
