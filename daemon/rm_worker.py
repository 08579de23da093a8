"""The program that learns from people's rankings while a run goes on: an ordinary client with torch.

    python -P -m daemon.rm_worker RUN

    RankingKept, RankingUndone ──► GetRankings ──► labels, the first `rlhf.max_rankings` of them
                               ──► fit from nothing ──► version-N ──► TellRewardModel
    StepDone                   ──► the basis, once there are enough answers
    `rlhf.deep`                ──► a deep reward model learns in a thread (`trainer.deep_school`) ──► the next version

The message only says that there is something new: what is learnt comes from all rankings that stand. It lives while a
trainer of its run lives (`attempt.lock`), one a run (`worker.lock`), with low priority and one thread, or a second one
for the deep reward model; whenever it is killed, the next one begins from what is on disk. A daemon that is away is
waited for. Deliberately left out: who starts it (`daemon.companion`), and the fit (`trainer.live_reward`).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from daemon.companion import take_worker_lock
from daemon.log import say
from daemon.processes import is_attempt_alive
from daemon.program import give_way
from daemon.promises import Promises
from daemon.worker import set_threads
from ponder import wire
from ponder.brake import TEMPERATURE
from ponder.client import Client
from ponder.errors import NoDaemon, NotFound, PonderError, StoreError
from ponder.events import CommandApplied, RankingKept, RankingUndone, StepDone
from ponder.paths import Paths, find_paths
from ponder.recipe import read_recipe
from ponder.rlhf import HEADS_OPEN, Rlhf, rlhf_of

if TYPE_CHECKING:
    from trainer.live_reward import Label
    from trainer.ranked import Ranked

BY = "reward model"
PAGE = 500
REST_S = 1.0
FITTED_BY = ("rlhf.min_rankings", "rlhf.max_rankings", "rlhf.gate", "rlhf.half_life")
"""The knobs that make another version of the same rankings."""


class Worker:
    """Learns from one run's rankings until its trainer is gone."""

    def __init__(self, paths: Paths, run: str, client: Client) -> None:
        from trainer.deep_school import open_school, read_imported
        from trainer.ranked import Ranked
        from trainer.reward_versions import newest_version, read_card, version_path
        from trainer.sources import live_stage
        from trainer.start_model import load_start

        self._paths, self._run, self._client = paths, run, client
        self.ranked: Ranked = Ranked(paths.features(run), paths.reward_model(run))
        self.version = newest_version(self.ranked.folder)
        self._promises = Promises()
        self._last_id = 0
        self._step = 0
        recipe = live_stage(read_recipe(paths.run_recipe(run)), paths.checkpoints(run))
        load = partial(load_start, recipe, device="cpu", models_folder=paths.models)
        self.ranked.read = read_imported(load, recipe)
        self.school = open_school(recipe, self.ranked.folder, load)
        newest = version_path(self.ranked.folder, self.version)
        card = read_card(newest) if newest.is_file() else None
        self._was_open = card is not None and card.is_open
        """Whether the heads' gate was."""
        if card and self.school:
            try:
                self.school.resume(card)
            except StoreError as error:
                say(f"{run}: the deep reward model is learnt anew: {error.message}")
            self._was_open = bool(card.figures.get(HEADS_OPEN, card.is_open))
        self._is_stale = True
        """Something was ranked or taken back that no version knows of."""
        self._learnt: list[str] = []
        """The rankings of the newest version that was made here."""

    def live(self) -> None:
        """Follow the run until its trainer is gone."""
        while not self._is_over():
            try:
                head = self._client.ask(wire.GetStatus(), wire.Status).head
                self._step = self._client.ask(wire.GetRun(self._run), wire.RunDetail).row.step
                self._catch_up()
                for stored in self._client.follow(self._run, head, stop=self._is_called):
                    self._see(stored.event)
            except NoDaemon:
                time.sleep(REST_S)

    def _is_over(self) -> bool:
        return not is_attempt_alive(self._paths.run(self._run))

    def _is_called(self) -> bool:
        """Whether there is something to do that no event tells of."""
        return self._is_over() or (self.school is not None and self.school.is_done)

    def _see(self, event: object) -> None:
        match event:
            case StepDone(step=step):
                self._step = step
                if self.ranked.basis is None:
                    self._catch_up()
            case RankingKept() | RankingUndone():
                self._catch_up()
            case CommandApplied(verb="set", name=name) if name in FITTED_BY:
                self._is_stale, self._learnt = bool(self.version), []
                self._catch_up()
            case _:
                pass

    def _catch_up(self) -> None:
        """Know every ranking that stands; where that changed anything, make a version of it and tell."""
        knobs = rlhf_of(self._client.ask(wire.GetKnobs(self._run), wire.KnobTable).values)
        self._read()
        if not self.ranked.find_basis(knobs.dimensions):
            return
        is_taught = self.school is not None and self.school.look()
        self._is_stale = self._is_stale or is_taught
        if self._is_stale and (self.ranked.labels or self.version):
            labels = self.ranked.first(knobs.max_rankings)
            names = [label.ranking for label in labels]
            if not knobs.max_rankings or names != self._learnt or is_taught:
                self._make_version(labels, knobs)
            self._is_stale, self._learnt = False, names
        if self.school:
            self.school.begin(knobs, self._step)

    def _read(self) -> None:
        while True:
            page = self._client.ask(wire.GetRankings(self._run, self._last_id, PAGE), wire.Rankings)
            before = len(self.ranked.labels) + len(self.ranked.waiting)
            self.ranked.add(page.rows)
            self._promises.add(page.rows)
            if self.school:
                self.school.add(page.rows)
                self._is_stale = self.school.drop(page.undone) or self._is_stale
            has_new = len(self.ranked.labels) + len(self.ranked.waiting) > before
            self._is_stale = self.ranked.drop(page.undone) or has_new or self._is_stale
            if not page.rows:
                return
            self._last_id = page.rows[-1].id

    def _make_version(self, labels: Sequence[Label], knobs: Rlhf) -> None:
        from trainer.live_reward import fit
        from trainer.reward_versions import write_version

        if self.ranked.basis is None:
            raise AssertionError("found before")
        began_s = time.perf_counter()
        fitted = fit(labels, self.ranked.basis, knobs, self._step, was_open=self._was_open)
        was_open = fitted.is_open
        if self.school:
            fitted = self.school.weigh(fitted, self.ranked.labels, knobs)
        fitted.figures["lost"] = float(len(self.ranked.lost))
        fitted.figures[TEMPERATURE] = self._promises.temperature
        fitted.figures["seconds"] = time.perf_counter() - began_s
        self.version += 1
        sha256 = write_version(self.ranked.folder, self.version, fitted, self._step, self.ranked.basis_sha256)
        told = wire.TellRewardModel(
            self._run, self.version, sha256, fitted.labels, fitted.is_open, dict(fitted.figures), by=BY
        )
        self._client.command(told)
        self._was_open = was_open


def main(arguments: list[str]) -> int:
    """Be the program."""
    (run,) = arguments
    os.umask(0o077)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    paths = find_paths()
    lock = take_worker_lock(paths.reward_model(run))
    if lock is None:
        say(f"{run}: another one learns from its rankings")
        return 0
    give_way()
    set_threads(1)
    import torch

    torch.set_num_threads(1)
    try:
        with Client(paths) as client:
            Worker(paths, run, client).live()
    except NotFound as error:
        say(f"{run}: {error.message}")
    except PonderError as error:
        say(f"{run}: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
