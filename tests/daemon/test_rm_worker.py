"""The program that learns from rankings: what it makes a version of, and when it makes none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import torch

from daemon.rm_worker import Worker
from ponder import wire
from ponder.client import Client
from ponder.events import CommandApplied
from ponder.paths import Paths
from ponder.recipe import builtin_recipes
from trainer.live_reward import Label, make_basis
from trainer.reward_versions import read_card, version_path, write_basis

RUN = "taste-1"


class Daemon:
    """Answers a worker that asks how the knobs stand, and hears what it tells."""

    def __init__(self, **rlhf: float) -> None:
        self.values = {f"rlhf.{name}": value for name, value in rlhf.items()}
        self.told: list[wire.TellRewardModel] = []

    def ask(self, request: wire.Request, _: object) -> object:
        if isinstance(request, wire.GetKnobs):
            return SimpleNamespace(values=self.values)
        return wire.Rankings([], [])

    def command(self, request: wire.TellRewardModel) -> None:
        self.told.append(request)


def worker_of(folder: Path, daemon: Daemon) -> Worker:
    paths = Paths(folder, folder)
    paths.run(RUN).mkdir(parents=True)
    paths.run_recipe(RUN).write_text(builtin_recipes()["rlhf-synthetic"].read_text())
    worker = Worker(paths, RUN, cast(Client, daemon))
    generator = torch.Generator().manual_seed(1)
    basis = make_basis(torch.randn(64, 12, generator=generator), 4)
    worker.ranked.basis, worker.ranked.basis_sha256 = basis, write_basis(worker.ranked.folder, basis)
    return worker


def rank(worker: Worker, *numbers: int) -> None:
    """Somebody ranked so much more."""
    for number in numbers:
        seen = torch.randn(3, 4, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
        worker.ranked.labels[number] = Label(f"r{number}", f"p{number}", number, seen, [1, 2, 3], [False] * 3)
    worker._is_stale = True
    worker._catch_up()


def test_a_static_reward_model_learns_from_its_first_rankings_and_no_more(tmp_path: Path) -> None:
    daemon = Daemon(min_rankings=2, max_rankings=3)
    worker = worker_of(tmp_path, daemon)
    rank(worker, 1, 2)
    rank(worker, 3, 4)
    assert [told.labels for told in daemon.told] == [2, 3]
    rank(worker, 5)
    worker._see(CommandApplied("c", 9, "set", "rlhf.share_audit", 0.25, 0.5))
    assert len(daemon.told) == 2, "nothing of what it learns from has changed"
    worker.ranked.drop([2])
    rank(worker)
    assert [told.labels for told in daemon.told] == [2, 3, 3], "one was taken back, and the next takes its place"


def test_a_reward_model_that_may_learn_again_learns_from_all_that_was_said_since(tmp_path: Path) -> None:
    daemon = Daemon(min_rankings=2, max_rankings=2)
    worker = worker_of(tmp_path, daemon)
    rank(worker, 1, 2, 3, 4)
    daemon.values["rlhf.max_rankings"] = 0
    worker._see(CommandApplied("c", 9, "set", "rlhf.max_rankings", 2, 0))
    rank(worker, 5)
    assert [told.labels for told in daemon.told] == [2, 4, 5]
    assert read_card(version_path(worker.ranked.folder, 3)).labels == 5
