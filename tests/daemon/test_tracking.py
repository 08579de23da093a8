"""What `trackers.toml` names is told every run's curves while it learns, once each, whoever dies on the way."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from ponder import wire
from ponder.errors import UsageError
from ponder.events import RunState
from ponder.tracker_file import TrackerFile, read_tracker_file
from tests.boards import read_tensorboard
from tests.daemon.conftest import Home, wait_for

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorBoard's own


def programs(home: Home, run: str) -> list[psutil.Process]:
    daemon = psutil.Process(home.client.ask(wire.GetStatus(), wire.Status).pid)
    return [child for child in daemon.children() if words_of(child)[-2:] == ["daemon.tracking", run]]


def words_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.ZombieProcess, psutil.NoSuchProcess):
        return []


def curves(home: Home, run: str) -> dict[str, list[tuple[int, float]]]:
    found = home.client.ask(wire.GetMetrics(run), wire.Curves).curves
    return {name: points for name, points in found.items() if points}


def test_a_run_is_told_while_it_learns_and_whole_after_its_teller_and_its_trainer_were_killed(
    home: Home, tmp_path: Path
) -> None:
    read = read_tensorboard()
    home.paths.home.mkdir(mode=0o700, exist_ok=True)
    home.paths.tracker_file.write_text(f'tensorboard = "{tmp_path / "boards"}"\n')
    home.start()
    run = home.submit(steps=100_000, save_every=5, step_s=0.05)
    board = tmp_path / "boards" / run

    def shown() -> dict[str, list[tuple[int, float, float]]]:
        return read(board) if board.exists() else {}

    wait_for(lambda: shown().get("reward/mean"), "the first figures")
    assert home.row(run).state is RunState.RUNNING
    (teller,) = programs(home, run)
    teller.kill()
    wait_for(lambda: [one for one in programs(home, run) if one.pid != teller.pid] or None, "another teller")
    trainer = home.detail(run).attempts[-1].pid
    os.kill(trainer, signal.SIGKILL)
    wait_for(lambda: len(home.detail(run).attempts) == 2 or None, "the next attempt")
    home.wait_state(run, RunState.RUNNING)
    assert len(programs(home, run)) == 1, "the teller outlives a trainer"
    home.client.command(wire.StopRun(run, by="test"))
    home.wait_state(run, RunState.STOPPED)
    wait_for(lambda: not programs(home, run) or None, "the teller to end with the run")
    expected = curves(home, run)
    found = shown()
    assert set(found) == set(expected)
    for name, points in expected.items():
        assert [(step, round(value, 4)) for step, _, value in found[name]] == [
            (step, round(value, 4)) for step, value in points
        ]  # fmt: skip


def test_without_the_file_nobody_is_told(served: Home) -> None:
    run = served.submit(steps=3)
    served.wait_state(run, RunState.FINISHED)
    assert not served.paths.trackers(run).exists()


def test_a_file_that_makes_no_sense_is_said_once_and_the_run_goes_on(home: Home) -> None:
    home.paths.home.mkdir(mode=0o700, exist_ok=True)
    home.paths.tracker_file.write_text('tensorbord = "/x"\n')
    home.start()
    run = home.submit(steps=100_000, step_s=0.05)
    wait_for(lambda: "`daemon.tracking` gave up" in home.paths.daemon_log.read_text() or None, "the line in the log")
    home.client.command(wire.StopRun(run, by="test"))
    home.wait_state(run, RunState.STOPPED)
    assert home.paths.daemon_log.read_text().count("gave up") == 1
    with pytest.raises(UsageError, match="tensorbord"):
        read_tracker_file(home.paths.tracker_file)


@pytest.mark.parametrize("text", ['wandb = "boards"', "tensorboard = 3", "= 3", '[tensorboard]\nfolder = "/x"'])
def test_the_file_names_whole_folders_and_nothing_else(tmp_path: Path, text: str) -> None:
    file = tmp_path / "trackers.toml"
    assert read_tracker_file(file) == TrackerFile()
    file.write_text(text)
    with pytest.raises(UsageError, match="cannot be used"):
        read_tracker_file(file)
    file.write_text('wandb = "~/wandb"')
    assert read_tracker_file(file).wandb == "~/wandb"
