"""A pin is on disk beside its checkpoint: it needs no trainer, and outlives daemons and stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from ponder import wire
from ponder.checkpoints import is_pinned
from ponder.errors import NotFound, StoreError
from ponder.events import RunState
from ponder.paths import saved_steps
from tests.daemon.conftest import Home
from tests.daemon.test_rebuild import end_daemon, rebuild


def pinned(home: Home, run: str) -> list[int]:
    found = home.client.ask(wire.GetCheckpoints(run), wire.Checkpoints).checkpoints
    return [row.step for row in found if row.is_pinned]


def test_a_pin_outlives_the_trainer_the_daemon_and_the_store(served: Home) -> None:
    run = served.submit(steps=400, step_s=0.02)
    served.wait_step(run, 3)
    said = served.client.command(wire.PinCheckpoint(run, 2, by="ann"))
    status = served.client.wait_for_command(said.command, 5)
    assert (status.verb, status.new, status.state) == ("pin", 2, wire.CommandState.APPLIED)
    assert pinned(served, run) == [2]
    served.client.command(wire.StopRun(run))
    served.wait_state(run, RunState.STOPPED)
    served.kill_daemon()
    served.start()
    assert pinned(served, run) == [2]
    end_daemon(served)
    assert rebuild(served.paths).returncode == 0
    served.start()
    assert pinned(served, run) == [2]
    served.client.command(wire.UnpinCheckpoint(run, 2))
    assert pinned(served, run) == [] and not is_pinned(served.paths.checkpoints(run), 2)


def test_a_pin_may_be_asked_for_twice_and_of_what_is_there_only(served: Home) -> None:
    run = served.submit(steps=4)
    served.wait_state(run, RunState.FINISHED)
    assert served.client.command(wire.PinCheckpoint(run, 2)).message == ""
    assert served.client.command(wire.PinCheckpoint(run, 2)).message == "it was so before"
    assert served.client.command(wire.UnpinCheckpoint(run, 4)).message == "it was so before"
    with pytest.raises(NotFound, match="no checkpoint of step 3") as unknown:
        served.client.command(wire.PinCheckpoint(run, 3))
    assert "2, 4" in unknown.value.hint
    assert pinned(served, run) == [2]


def test_a_pin_that_cannot_be_written_is_an_error_and_no_command(served: Home) -> None:
    run = served.submit(steps=4)
    served.wait_state(run, RunState.FINISHED)
    Path(served.paths.checkpoints(run) / "pinned").write_text("in the way")
    before = len(served.events(run))
    with pytest.raises(StoreError, match="cannot be written"):
        served.client.command(wire.PinCheckpoint(run, 2))
    assert len(served.events(run)) == before


def test_a_list_of_checkpoints_says_which_are_on_disk_and_a_forks_holds_its_past(served: Home) -> None:
    parent = served.submit(steps=4)
    served.wait_state(parent, RunState.FINISHED)
    fork = served.client.command(wire.ForkRun(parent, 2, {"stage.steps": 6})).run
    served.wait_state(fork, RunState.FINISHED)
    root = served.paths.checkpoints(fork)
    assert saved_steps(root) == [6, 4, 2]
    (root / "step-000004").rmdir()
    rows = served.client.ask(wire.GetCheckpoints(fork), wire.Checkpoints).checkpoints
    assert [(row.step, row.is_on_disk) for row in rows] == [(6, True), (4, False)]
