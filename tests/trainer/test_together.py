"""A run that two processes make is the run that one makes: its answers, its weights, its orders, its checkpoints."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch

from ponder import metrics
from ponder.errors import RankLost
from ponder.events import CommandApplied, CommandRefused, GroupScored, RunEnded, StepDone, TrainerEvent
from ponder.knobs import KnobValue
from ponder.recipe import Recipe, dump_recipe, parse_recipe
from tests.trainer.conftest import RECIPE
from tests.trainer.test_loop import go, of, state_of, tensors_of
from trainer.checkpoint import load_checkpoint, load_newest
from trainer.hand_out import write_model
from trainer.link import ListLink

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 200.0
TOLERANCE = 1e-6
STEPS = 4

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def written(model: Path, folder: Path, name: str, **settings: str | int | float) -> Recipe:
    """The recipe that the processes of a scenario read; the one for a single process is the same."""
    text = f"{RECIPE.format(model=model)}[model.lora]\nrank = {settings.pop('model.lora.rank', 0)}\n"
    alone: dict[str, str | KnobValue] = {"evaluation.every_steps": 0, "optim.lr": 0.001, **settings}
    (folder / f"{name}.toml").write_text(dump_recipe(parse_recipe(text, name, {"compute.processes": 2, **alone})))
    return parse_recipe(text, name, alone)


def start(folder: Path, rank: int, names: list[str]) -> subprocess.Popen[str]:
    places = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.trainer.together", str(folder / "meeting"), str(folder), *names],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", **places},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(started: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """(exit code, stderr) of each, within the patience."""
    try:
        said = [process.communicate(timeout=PATIENCE_S)[1] for process in started]
        return [(process.returncode, err) for process, err in zip(started, said, strict=True)]
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.wait()


SAVED: dict[str, str | int | float] = {"saving.every_steps": 1, "saving.keep": 9}
SHARED: dict[str, str | int | float] = {"compute.strategy": "fsdp"}
COMPARED: dict[str, str | int | float] = {
    "policy.advantage_scale": "batch", "policy.minibatches": 2, "policy.updates_per_batch": 2, "kl.where": "reward",
    "kl.estimator": "k1",
}  # fmt: skip

ADAPTED: dict[str, str | int | float] = {
    **SAVED, "model.lora.rank": 3, "policy.updates_per_batch": 2, "kl.refresh_steps": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def two(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes have made all scenarios; the last has killed rank 1."""
    folder = tmp_path_factory.mktemp("together")
    written(tiny_folder, folder, "whole", **SAVED)
    written(tiny_folder, folder, "shared", **SAVED, **SHARED)
    written(tiny_folder, folder, "compared", **COMPARED)
    written(tiny_folder, folder, "compared-shared", **COMPARED, **SHARED)
    written(tiny_folder, folder, "adapted", **ADAPTED, **SHARED)
    written(tiny_folder, folder, "ordered")
    for name, more in (("grown", {}), ("grown-shared", SHARED)):
        go(written(tiny_folder, folder, name, **SAVED, **more), folder / name)
        for step in (3, 4):
            shutil.rmtree(folder / name / f"step-{step:06d}")
    written(tiny_folder, folder, "dies", **SAVED, **SHARED)
    names = ["whole", "shared", "compared", "compared-shared", "adapted", "ordered", "grown", "grown-shared", "dies"]
    (code, err), (other, _) = ended([start(folder, rank, names) for rank in range(2)])
    assert (folder / "grown-shared.events").exists(), err
    (folder / "ends.json").write_text(json.dumps([code, other, err]))
    return folder


def told(folder: Path, name: str) -> ListLink:
    link = ListLink()
    link.events = msgspec.msgpack.decode((folder / f"{name}.events").read_bytes(), type=list[TrainerEvent])
    return link


def learnt_of(step: StepDone) -> dict[str, float]:
    """Figures without the clock; padding is each rank's own."""
    apart = (*metrics.MACHINE, metrics.PAD_SHARE)
    return {name: value for name, value in step.metrics.items() if not name.startswith(apart)}


def assert_same_run(one: ListLink, other: ListLink, after: int = 0, rounding: float = 1e-5) -> None:
    """The same answers, rewards and figures, but for rounding."""
    groups, others = ([event for event in of(link, GroupScored) if event.step > after] for link in (one, other))
    for first, second in zip(groups, others, strict=True):
        assert [r.token_ids for r in first.rollouts] == [r.token_ids for r in second.rollouts]
        assert [r.reward for r in first.rollouts] == [r.reward for r in second.rollouts]
        assert [r.advantage for r in first.rollouts] == pytest.approx(
            [r.advantage for r in second.rollouts], abs=rounding
        )
    steps, again = ([event for event in of(link, StepDone) if event.step > after] for link in (one, other))
    for old, new in zip(steps, again, strict=True):
        assert learnt_of(old) == pytest.approx(learnt_of(new), rel=1e-3, abs=1e-4)


def assert_same_weights(one: Path, other: Path, step: int) -> None:
    first, second = (
        {name: weight for name, weight in tensors_of(root, step).items() if not name.startswith("optimizer ")}
        for root in (one, other)
    )
    assert first.keys() == second.keys()
    assert all(torch.allclose(weight, second[name], rtol=0, atol=1e-4) for name, weight in first.items())


@pytest.mark.parametrize("name, settings", [("whole", SAVED), ("shared", SAVED), ("adapted", ADAPTED)])
def test_two_processes_make_the_run_of_one(
    two: Path, tiny_folder: Path, tmp_path: Path, name: str, settings: dict[str, str | int | float]
) -> None:
    """With shares also a new reference, an adapter, and several updates of a batch."""
    alone = go(written(tiny_folder, tmp_path, name, **settings), tmp_path / "alone")
    assert_same_run(alone, told(two, name))
    assert_same_weights(tmp_path / "alone", two / name, 1)
    assert_same_weights(tmp_path / "alone", two / name, STEPS)
    first, second = state_of(tmp_path / "alone", STEPS), state_of(two / name, STEPS)
    for key in ("sampler_rng", "torch_rng", "cursor"):
        assert first[key] == second[key]


@pytest.mark.parametrize("name, rounding", [("compared", 1e-5), ("compared-shared", 1e-4)])
def test_what_is_compared_with_the_batch_is_compared_with_that_of_both(
    two: Path, tiny_folder: Path, tmp_path: Path, name: str, rounding: float
) -> None:
    """Deviation of the batch, penalties in the reward, minibatches that mix the answers of both.

    A charge is a small difference over a small deviation, and one process has a pass of its own.
    """
    recipe = written(tiny_folder, tmp_path, name, **COMPARED)
    assert_same_run(go(recipe, tmp_path / "alone"), told(two, name), rounding=rounding)


@pytest.mark.parametrize("name, settings", [("whole", SAVED), ("shared", SAVED), ("adapted", ADAPTED)])
def test_one_process_goes_on_where_two_have_stopped(
    two: Path, tiny_folder: Path, tmp_path: Path, name: str, settings: dict[str, str | int | float]
) -> None:
    recipe = written(tiny_folder, tmp_path, name, **settings)
    for step in (1, 2):
        shutil.copytree(two / name / f"step-{step:06d}", tmp_path / "own" / f"step-{step:06d}")
    again = go(recipe, tmp_path / "own")
    assert [event.step for event in of(again, StepDone)] == [3, 4]
    assert_same_run(told(two, name), again, after=2)


@pytest.mark.parametrize("name", ["grown", "grown-shared"])
def test_two_processes_go_on_where_one_has_stopped(two: Path, name: str) -> None:
    again = told(two, name)
    assert [event.step for event in of(again, StepDone)] == [3, 4]
    assert_same_run(told(two, "whole"), again, after=2)


def test_every_order_reaches_both_processes_at_the_same_step(two: Path) -> None:
    first, second = (json.loads((two / f"ordered-{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert [(step, lr) for step, lr, *_ in first] == [(0, 0.001), (1, 0.002), (2, 0.002), (3, 0.002)]
    assert first[-1][3] and not any(stops for _, _, _, stops, _ in first[:-1])
    link = told(two, "ordered")
    applied = [(event.step, event.verb) for event in of(link, CommandApplied)]
    assert applied == [(1, "set"), (1, "quarantine"), (2, "pause"), (2, "save"), (2, "resume"), (3, "stop")]
    (refused,) = of(link, CommandRefused)
    assert "2 processes" in refused.message
    assert of(link, RunEnded)[0].outcome == "stopped"


def test_a_process_that_loses_another_says_so_and_ends(two: Path) -> None:
    code, other, err = json.loads((two / "ends.json").read_text())
    assert (code, other) == (1, -9)
    assert RankLost.__name__ in err and "another process of this run is gone" in err


def test_a_death_while_shares_are_written_leaves_the_checkpoint_before(
    two: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """Rank 1 found no room for the first, and was killed when its share of the second was on the disk."""
    assert "the disk is full: the moments of step 1 wait for room" in json.loads((two / "ends.json").read_text())[2]
    shutil.copytree(two / "dies", tmp_path / "dies")
    assert [path.name for path in sorted((tmp_path / "dies").iterdir())] == [".step-000002.moments.tmp", "step-000001"]
    again = go(written(tiny_folder, tmp_path, "dies", **SAVED), tmp_path / "dies")
    assert [event.step for event in of(again, StepDone)] == [2, 3, 4]
    assert_same_run(told(two, "shared"), again, after=1)
    assert [path.name for path in sorted((tmp_path / "dies").iterdir())] == [
        f"step-{n:06d}" for n in range(1, STEPS + 1)
    ]


def test_shares_are_files_of_a_checkpoint_and_what_is_changed_in_one_is_found(two: Path, tmp_path: Path) -> None:
    newest = two / "shared" / f"step-{STEPS:06d}"
    parts = sorted(path.name for path in (newest / "moments").iterdir())
    assert parts == [f"shard-0000{rank}-model-00001-of-00001.safetensors" for rank in (1, 2)]
    assert load_checkpoint(newest).shares == newest / "moments"
    handed_out = [path.name for path in write_model(newest, tmp_path / "out", "float32", models_folder=tmp_path)]
    assert "model.safetensors" in handed_out and not {"moments", "optimizer.safetensors"} & set(handed_out)
    shutil.copytree(two / "shared", tmp_path / "shared")
    part = tmp_path / "shared" / newest.name / "moments" / parts[1]
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    restored, complaints = load_newest(tmp_path / "shared")
    assert restored is not None and restored.step == STEPS - 1
    assert len(complaints) == 1 and "moments" in complaints[0]
