"""Tells a run's curves to other programs, as `trackers.toml` says; started by the daemon beside the run's trainer.

    python -P -m daemon.tracking RUN

    TensorBoard     while the run learns; begun anew, it takes back what an earlier one told and tells all of it
    wandb           once the run is over, since its history cannot be taken back

It ends when the run is over. A daemon that is away is waited for. Deliberately left out: the writers
(`ponder.trackers`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from daemon.companion import take_worker_lock
from daemon.program import give_way, run_program
from ponder.client import Client
from ponder.paths import Paths, find_paths
from ponder.settings import read_settings
from ponder.tracker_file import read_tracker_file
from ponder.trackers import TensorBoard, Wandb, check_installed, track
from ponder.wire import GetRun, RunDetail

PATIENCE_S = 86_400.0


class Nobody:
    """A tracker that is told until the run is over, and keeps nothing."""

    def put(self, step: int, time_us: int | None, figures: Mapping[str, float]) -> None:
        pass

    def back_to(self, step: int) -> None:
        pass

    def close(self) -> None:
        pass


def act(paths: Paths, run: str) -> None:
    """See the module; UsageError where a program is wanted that is not installed."""
    if take_worker_lock(paths.trackers(run)) is None:
        return
    wanted = read_tracker_file(paths.tracker_file)
    if wanted.wandb:
        check_installed("wandb")
    with Client(paths) as client:
        board = open_board(Path(wanted.tensorboard).expanduser() / run) if wanted.tensorboard else Nobody()
        try:
            track(client, run, board, follow=True, patience_s=PATIENCE_S)
        finally:
            board.close()
        if wanted.wandb:
            recipe = client.ask(GetRun(run, only_ends=True), RunDetail).recipe
            tracker = Wandb(Path(wanted.wandb).expanduser(), run, read_settings(recipe))
            try:
                track(client, run, tracker, follow=False)
            finally:
                tracker.close()


def open_board(folder: Path) -> TensorBoard:
    """A board that shows nothing of what an earlier one told."""
    is_old = folder.exists()
    board = TensorBoard(folder)
    if is_old:
        board.back_to(-1)
    return board


if __name__ == "__main__":
    give_way()
    sys.exit(run_program(lambda: act(find_paths(), sys.argv[1])))
