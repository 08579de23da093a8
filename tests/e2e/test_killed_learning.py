"""A trainer killed with SIGKILL in every phase, while knobs are turned, learns what it would have learnt anyway.

Real worker, real journal, real checkpoints, a small real model. PONDER_LEARNING_KILLS says how many kills in all,
PONDER_KILLS_SEED which; the default is for every day, 200 for a release. The whole run is a process of its own; a
mortal one is forked from a process that has imported torch and started no thread, so that a kill costs what is
computed and no import.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ponder.checkpoints import MANIFEST
from ponder.client import child_environment
from ponder.events import (
    CheckpointSaved,
    CommandApplied,
    Evaluated,
    GroupScored,
    Record,
    RunEnded,
    RunStarted,
    StepDone,
    decode_record,
)  # fmt: skip
from ponder.journal import read_records
from ponder.metrics import MACHINE
from ponder.paths import Paths
from ponder.recipe import dump_recipe, parse_recipe
from tests.e2e.mortal_trainer import PASSES, PLACES, Death, live
from tests.e2e.turned_trainer import TURNS
from tests.trainer.conftest import RECIPE, make_tiny_model
from trainer import builtin
from trainer.row_file import set_path

KILLS = int(os.environ.get("PONDER_LEARNING_KILLS", "20"))
SEED = int(os.environ.get("PONDER_KILLS_SEED", "1"))
PATIENCE_S = 120.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 10 * KILLS)]


@dataclass(frozen=True)
class Play:
    """A recipe, and its share of the kills."""

    recipe: str
    settings: Mapping[str, str]
    kills: int
    steps: int
    first: tuple[str, ...] = ()
    """Places that only this recipe has."""


EVERYTHING = Play(
    RECIPE,
    {
        "policy.preset": "ppo", "policy.updates_per_batch": "2", "policy.minibatches": "2", "critic.lr": "0.01",
        "kl.coef": "0.05", "kl.estimator": "k1", "kl.where": "reward", "kl.target": "0.5", "kl.horizon": "20",
        "kl.refresh_steps": "5", "stage.steps": "12", "saving.every_steps": "3", "saving.keep": "2",
        "evaluation.every_steps": "4", "sampling.prompts_per_step": "4", "sampling.max_new_tokens": "30",
    },
    kills=KILLS - 3 * KILLS // 10,
    steps=12,
)  # fmt: skip
"""All that a checkpoint must hold: a critic, a steered weight, a refreshed reference, parts drawn at random."""

RANKINGS = Play(
    RECIPE.replace('[stage]\nkind = "rl"\nsteps = 4\n', "")
    + """
[supervised]
batch_tokens = 300
[[stages]]
kind = "rank"
steps = 3
[[stages]]
kind = "reward_model"
steps = 4
[stages.data]
path = "stage:rank"
holdout = 0.3
[[stages]]
kind = "rl"
steps = 3
[stages.reward_model]
path = "stage:reward_model"
[stages.reward]
model = 1.0
""",
    {"saving.every_steps": "2", "sampling.prompts_per_step": "8", "sampling.max_new_tokens": "30"},
    kills=3 * KILLS // 10,
    steps=10,
    first=("wrote rankings", "learning from rankings", "measuring rankings"),
)
"""Answers ranked by a verifier, a reward model that learns from the rankings, and what learns from its score."""


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[Paths]:
    with tempfile.TemporaryDirectory(prefix="pndr-", dir="/tmp") as runtime:  # sockets need a short path
        own = Paths(tmp_path / "home", Path(runtime))
        make_tiny_model().save_pretrained(tmp_path / "model")
        builtin.countdown_tokenizer().save_pretrained(tmp_path / "model")
        yield own


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """For every child: two with two threads each crawl, and a thread does not survive a fork."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")


@pytest.mark.parametrize("play", [EVERYTHING, RANKINGS], ids=["everything", "rankings"])
def test_a_trainer_killed_in_any_phase_learns_the_same_to_the_bit(play: Play, paths: Paths) -> None:
    passes = run_whole(play, paths)
    deaths = left = list(choose_deaths(play, passes, random.Random(SEED)))
    runs: list[str] = []
    while left:
        before, run = len(left), f"killed-{len(runs) + 1}"
        left = run_mortal(play, paths, run, left)
        assert len(left) < before, "a run meets the first of its deaths, for it begins as the whole one did"
        assert_same(paths, "whole", run, play.steps)
        runs.append(run)
    resumed = [record for run in runs for record in records(paths, run) if is_resumed(record)]
    assert resumed
    print(f"seed {SEED}: {len(deaths)} deaths in {len(runs)} runs, {len(resumed)} attempts from a checkpoint")
    print(*sorted({death.place for death in deaths}), sep=", ")


def lay_out(play: Play, paths: Paths, run: str) -> None:
    recipe = parse_recipe(play.recipe.format(model=paths.home.parent / "model"), "tiny.toml", play.settings)
    paths.run(run).mkdir(parents=True)
    paths.run_recipe(run).write_text(dump_recipe(recipe))


def run_whole(play: Play, paths: Paths) -> dict[str, int]:
    """The run that nobody kills; how often it passed each place."""
    lay_out(play, paths, "whole")
    with paths.run_log("whole").open("wb") as log:
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "tests.e2e.mortal_trainer", "whole", "1", "0"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=child_environment(paths),
            timeout=PATIENCE_S,
        )  # fmt: skip
    assert ended.returncode == 0, paths.run_log("whole").read_text()
    passes: dict[str, int] = json.loads((paths.run("whole") / PASSES).read_text())
    return passes


def choose_deaths(play: Play, passes: Mapping[str, int], generator: random.Random) -> Iterator[Death]:
    """Every place of the recipe in turn, always in another order, in the first third of its passes."""
    places = [place for place in PLACES if passes.get(place)]
    assert set(play.first) <= set(places)
    for round_ in count():
        if round_ * len(places) >= play.kills:
            return
        generator.shuffle(places)
        if round_ == 0:
            places.sort(key=lambda place: place not in play.first)
        for place in places[: play.kills - round_ * len(places)]:
            yield Death(place, generator.randint(1, 1 + passes[place] // 3))


def run_mortal(play: Play, paths: Paths, run: str, deaths: list[Death]) -> list[Death]:
    """A run from its start to its end, killed on the way; the deaths that did not come before it was over."""
    lay_out(play, paths, run)
    fork_server = multiprocessing.get_context("forkserver")
    fork_server.set_forkserver_preload(["pytest", "tests.e2e.mortal_trainer"])
    for attempt in count(1):
        death = deaths[attempt - 1] if attempt <= len(deaths) else None
        trainer = fork_server.Process(target=live, args=(paths, run, attempt, death))
        trainer.start()
        trainer.join(PATIENCE_S)
        code = trainer.exitcode
        trainer.kill()
        if code == 0:
            return deaths[attempt - 1 :]
        assert death and code == -signal.SIGKILL, paths.run_log(run).read_text()
    raise AssertionError("not reached")


def records(paths: Paths, run: str) -> list[Record]:
    return [decode_record(payload) for payload, _ in read_records(paths.journal(run))]


def is_resumed(record: Record) -> bool:
    return isinstance(record.event, RunStarted) and record.event.resumed_from is not None


def told(paths: Paths, run: str) -> dict[tuple[object, ...], list[object]]:
    """What was told under each name, as often as it was; without the clock."""
    found: dict[tuple[object, ...], list[object]] = {}
    for record in records(paths, run):
        match record.event:
            case GroupScored() as event:
                found.setdefault(("group", event.step, event.group), []).append(event)
            case Evaluated() as event:
                found.setdefault(("evaluation", event.step), []).append(event)
            case StepDone() as event:
                figures = {n: v for n, v in event.metrics.items() if not n.startswith(MACHINE)}
                found.setdefault(("step", event.step), []).append((event.policy_version, figures))
            case CommandApplied() as event:
                found.setdefault(("turn", event.command), []).append(event)
            case CheckpointSaved() as event:
                found.setdefault(("checkpoint", event.step), []).append(event)
            case RunEnded() as event:
                found.setdefault(("end",), []).append(event)
    return found


def assert_same(paths: Paths, whole: str, killed: str, steps: int) -> None:
    """Each thing that the killed run told it told as the whole one did, each turn once; and they left the same."""
    expected, found = told(paths, whole), told(paths, killed)
    assert found.keys() == expected.keys()
    for name, once in expected.items():
        assert found[name] == once * len(found[name]), name
    assert [name for name in found if name[0] == "turn"] == [("turn", f"turn-{step}") for step in TURNS if step < steps]
    assert all(len(found[name]) == 1 for name in found if name[0] == "turn")
    assert_checkpoints_are_the_same(paths.checkpoints(whole), paths.checkpoints(killed), steps)
    sets = [set_path(paths.checkpoints(run), "rank") for run in (whole, killed)]
    assert sets[0].exists() == sets[1].exists()
    assert not sets[0].exists() or sets[0].read_bytes() == sets[1].read_bytes()


def assert_checkpoints_are_the_same(whole: Path, killed: Path, steps: int) -> None:
    """The same ones, and in each weights, moments, critic, reference, and everything in state.json."""
    folders = sorted(path.name for path in whole.iterdir())
    assert sorted(path.name for path in killed.iterdir()) == folders
    assert folders[-1] == f"step-{steps:06d}"
    for folder in folders:
        for file in sorted((whole / folder).iterdir(), key=lambda file: file.name == MANIFEST):
            other = killed / folder / file.name
            if file.suffix == ".safetensors":
                mine, theirs = load_file(file), load_file(other)
                assert mine.keys() == theirs.keys()
                assert all(torch.equal(mine[key], theirs[key]) for key in mine), file
            else:
                assert file.read_bytes() == other.read_bytes(), file
