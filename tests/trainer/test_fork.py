"""A fork goes on from its parent's checkpoint: to the bit where nothing is changed, with the change where something is.

Deliberately left out: who lays the checkpoint there (tests/daemon/test_forks.py).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
import torch

from ponder.errors import CheckpointError
from ponder.events import CheckpointSaved, CommandApplied, RunBroke, RunStarted, StepDone
from ponder.paths import checkpoint_name
from ponder.recipe import ForkPart, Recipe
from ponder.wire import KnobOrder
from tests.trainer.test_loop import NO_MODELS, go, of, ordering, tensors_of, what_was_learnt
from trainer.stages import run


def forked(recipe: Recipe, step: int) -> Recipe:
    return msgspec.structs.replace(recipe, fork=ForkPart("tiny-1", step))


def lay_out(parent: Path, step: int, folder: Path) -> Path:
    shutil.copytree(parent / checkpoint_name(step), folder / checkpoint_name(step))
    return folder


def test_a_fork_without_a_change_is_bit_identical_to_its_parent(recipe: Recipe, tmp_path: Path) -> None:
    parent = go(recipe, tmp_path / "parent")
    fork = go(forked(recipe, 2), lay_out(tmp_path / "parent", 2, tmp_path / "fork"))
    assert of(fork, RunStarted)[0].step == 2
    assert what_was_learnt(fork) == what_was_learnt(parent, after=2)
    whole, again = tensors_of(tmp_path / "parent", 4), tensors_of(tmp_path / "fork", 4)
    assert whole.keys() == again.keys() and all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_fork_begins_with_its_recipes_knobs_and_not_with_the_checkpoints(recipe: Recipe, tmp_path: Path) -> None:
    go(recipe, tmp_path / "parent")
    optim = msgspec.structs.replace(recipe.optim, lr=0.002)
    changed = msgspec.structs.replace(forked(recipe, 2), optim=optim)
    fork = go(changed, lay_out(tmp_path / "parent", 2, tmp_path / "fork"))
    live = go(recipe, tmp_path / "live", ordering({2: [KnobOrder("optim.lr", 0.002)]}))
    assert [event.step for event in of(live, CommandApplied)] == [2]
    assert what_was_learnt(fork) == what_was_learnt(live, after=2), "it acts as if it had been turned there"


def test_a_fork_that_is_resumed_keeps_what_was_turned_in_it(recipe: Recipe, tmp_path: Path) -> None:
    go(recipe, tmp_path / "parent")
    longer = msgspec.structs.replace(recipe, stage=msgspec.structs.replace(recipe.stage, steps=6))
    whole = go(
        forked(longer, 2),
        lay_out(tmp_path / "parent", 2, tmp_path / "fork"),
        ordering({3: [KnobOrder("optim.lr", 0.002)]}),
    )
    again = lay_out(tmp_path / "fork", 4, lay_out(tmp_path / "parent", 2, tmp_path / "again"))
    resumed = go(forked(longer, 2), again)
    assert of(resumed, StepDone)[0].step == 5
    assert what_was_learnt(resumed) == what_was_learnt(whole, after=4)


def test_a_fork_without_its_checkpoint_breaks_instead_of_beginning_anew(recipe: Recipe, tmp_path: Path) -> None:
    go(recipe, tmp_path / "parent")
    fork = lay_out(tmp_path / "parent", 2, tmp_path / "fork")
    lay_out(tmp_path / "parent", 4, fork)
    (fork / checkpoint_name(4) / "state.json").write_text("{}")
    for folder in (fork, tmp_path / "empty"):
        link = ordering({})
        with pytest.raises(CheckpointError, match="step 4, at which `tiny-1` was forked, is not whole"):
            go(
                forked(msgspec.structs.replace(recipe, stage=msgspec.structs.replace(recipe.stage, steps=6)), 4),
                folder,
                link,
            )
        assert isinstance(link.events[-1], RunBroke)


def test_a_checkpoint_that_nobody_was_told_of_is_told_by_the_attempt_that_goes_on_from_it(
    recipe: Recipe, tmp_path: Path
) -> None:
    saved = of(go(recipe, tmp_path / "parent"), CheckpointSaved)
    two = next(event for event in saved if event.step == 2)
    cases: list[tuple[set[int] | None, list[CheckpointSaved]]] = [({4}, [two]), ({2}, []), (None, [])]
    for told, expected in cases:
        again, link = lay_out(tmp_path / "parent", 2, tmp_path / f"again-{told}"), ordering({})
        run(recipe, again, link, models_folder=NO_MODELS, told=told)
        started = next(place for place, event in enumerate(link.events) if isinstance(event, RunStarted))
        assert [event for event in link.events[: started + 2] if isinstance(event, CheckpointSaved)] == expected
    fork, link = lay_out(tmp_path / "parent", 2, tmp_path / "fork"), ordering({})
    run(forked(recipe, 2), fork, link, models_folder=NO_MODELS, told=())
    assert 2 not in [event.step for event in of(link, CheckpointSaved)], "it is its parent's"
