"""A trainer killed with SIGKILL at random moments, while knobs are turned, learns what it would have learnt anyway.

Real worker, real journal, real checkpoints, a small real model. PONDER_LEARNING_KILLS says how many kills,
PONDER_KILLS_SEED which moments.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ponder.checkpoints import MANIFEST
from ponder.client import child_environment
from ponder.events import (
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
from tests.e2e.conftest import wait_for
from tests.e2e.turned_trainer import TURNS
from tests.trainer.conftest import RECIPE, make_tiny_model
from trainer import builtin

KILLS = int(os.environ.get("PONDER_LEARNING_KILLS", "3"))
SEED = int(os.environ.get("PONDER_KILLS_SEED", "1"))
STEPS = 12

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 60 * KILLS)]

SETTINGS = {
    "policy.preset": "ppo", "policy.updates_per_batch": "2", "policy.minibatches": "2", "critic.lr": "0.01",
    "kl.coef": "0.05", "kl.estimator": "k1", "kl.where": "reward", "kl.target": "0.5", "kl.horizon": "20",
    "kl.refresh_steps": "5", "stage.steps": str(STEPS), "saving.every_steps": "3", "saving.keep": "10",
    "evaluation.every_steps": "4", "sampling.prompts_per_step": "4", "sampling.max_new_tokens": "30",
}  # fmt: skip
"""All that a checkpoint must hold: a critic, a steered weight, a refreshed reference, parts drawn at random."""


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[Paths]:
    with tempfile.TemporaryDirectory(prefix="pndr-", dir="/tmp") as runtime:  # sockets need a short path
        own = Paths(tmp_path / "home", Path(runtime))
        model = tmp_path / "model"
        make_tiny_model().save_pretrained(model)
        builtin.countdown_tokenizer().save_pretrained(model)
        recipe = dump_recipe(parse_recipe(RECIPE.format(model=model), "tiny.toml", SETTINGS))
        for run in ("whole", "killed"):
            own.run(run).mkdir(parents=True)
            own.run_recipe(run).write_text(recipe)
        yield own


def start(paths: Paths, run: str, attempt: int) -> subprocess.Popen[bytes]:
    log = paths.run_log(run).open("ab")
    with log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.e2e.turned_trainer", run, str(attempt), "0"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=child_environment(paths),
        )  # fmt: skip


def records(paths: Paths, run: str) -> list[Record]:
    if not paths.journal(run).exists():
        return []
    return [decode_record(payload) for payload, _ in read_records(paths.journal(run))]


def wait_for_start(paths: Paths, run: str, attempt: int) -> None:
    """Return when the attempt has loaded everything and begins."""

    def has_begun() -> bool | None:
        told = records(paths, run)
        return any(isinstance(r.event, RunStarted) and r.attempt == attempt for r in told) or None

    wait_for(has_begun, f"the start of attempt {attempt}")


def run_to_its_end(paths: Paths, run: str, moments: list[float]) -> int:
    """Run it, killed after each of so many seconds from an attempt's start; how many kills met it alive."""
    killed = 0
    for attempt in range(1, len(moments) + 2):
        process = start(paths, run, attempt)
        try:
            if killed < len(moments):
                wait_for_start(paths, run, attempt)
                time.sleep(moments[killed])  # no condition is waited for: any moment will do
            else:
                process.wait(240)
        finally:
            was_alive = process.poll() is None
            process.kill()
            process.wait()
        killed += was_alive
        if not was_alive:
            assert process.returncode == 0, paths.run_log(run).read_text()
            break
    return killed


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
            case RunEnded() as event:
                found.setdefault(("end",), []).append(event)
    return found


def test_a_trainer_killed_at_random_moments_learns_the_same_to_the_bit(paths: Paths) -> None:
    run_to_its_end(paths, "whole", [])
    began, *_, ended = records(paths, "whole")
    second_s = (ended.time_us - began.time_us) / 1e6 / (KILLS + 1)
    generator = random.Random(SEED)
    moments = [generator.uniform(0, 1.5 * second_s) for _ in range(KILLS)]
    killed = run_to_its_end(paths, "killed", moments)
    assert killed > 0

    expected, found = told(paths, "whole"), told(paths, "killed")
    assert found.keys() == expected.keys()
    for name, once in expected.items():
        assert found[name] == once * len(found[name]), name
    assert [name for name in found if name[0] == "turn"] == [("turn", f"turn-{step}") for step in TURNS]
    assert all(len(found["turn", f"turn-{step}"]) == 1 for step in TURNS)
    assert_checkpoints_are_the_same(paths.checkpoints("whole"), paths.checkpoints("killed"))


def assert_checkpoints_are_the_same(whole: Path, killed: Path) -> None:
    """Weights, moments, critic, reference, and everything in state.json."""
    folders = sorted(path.name for path in whole.iterdir())
    assert folders == sorted(path.name for path in killed.iterdir())
    assert folders[-1] == f"step-{STEPS:06d}"
    for file in sorted((whole / folders[-1]).iterdir(), key=lambda file: file.name == MANIFEST):
        other = killed / folders[-1] / file.name
        if file.suffix == ".safetensors":
            mine, theirs = load_file(file), load_file(other)
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(mine[key], theirs[key]) for key in mine), file.name
        else:
            assert file.read_bytes() == other.read_bytes(), file.name
