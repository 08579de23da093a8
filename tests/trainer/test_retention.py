"""Which checkpoints stay: the newest, the best by what was measured, the pinned, also while others are deleted."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import msgspec
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ponder import metrics
from ponder.checkpoints import best_step, is_pinned, read_manifest, read_manifests, set_pin
from ponder.events import Evaluated, StepDone
from ponder.paths import checkpoint_name, saved_steps
from ponder.recipe import Recipe
from tests.trainer.test_loop import go, of
from trainer.checkpoint import load_checkpoint, save_checkpoint, tidy


class Nothing:
    """A model or a tokenizer without files."""

    def save_pretrained(self, folder: Path, state_dict: object = None) -> None:
        pass


def save(root: Path, step: int, *, stage: str = "rl", keep: int = 1, **scores: float) -> list[int]:
    """Write a checkpoint; the steps that are on disk then. Scores by their metric's name with `__` for the slash."""
    save_checkpoint(
        root, step, model=cast("PreTrainedModel", Nothing()), tokenizer=cast("PreTrainedTokenizerBase", Nothing()),
        tensors={"model": {"w": torch.ones(1)}}, state={"step": step}, keep=keep, stage=stage,
        scores={name.replace("__", "/"): score for name, score in scores.items()},
    )  # fmt: skip
    return saved_steps(root)


def test_the_best_by_the_held_out_evaluation_stays_beside_the_newest(tmp_path: Path) -> None:
    save(tmp_path, 1, eval__accuracy=0.2, reward__mean=0.9)
    save(tmp_path, 2, eval__accuracy=0.6, reward__mean=0.1)
    assert save(tmp_path, 3, reward__mean=0.95) == [3, 2], "a training reward beats no evaluation"
    assert save(tmp_path, 4, eval__accuracy=0.5) == [4, 2]
    assert save(tmp_path, 5, eval__accuracy=0.6) == [5], "of equals the newest"


def test_without_an_evaluation_the_training_reward_tells_the_best(tmp_path: Path) -> None:
    save(tmp_path, 1, reward__mean=0.4)
    save(tmp_path, 2, reward__mean=0.8)
    assert save(tmp_path, 3, reward__mean=0.7) == [3, 2]


def test_a_loss_is_the_better_the_smaller_it_is(tmp_path: Path) -> None:
    save(tmp_path, 1, eval__cross_entropy=1.0)
    assert save(tmp_path, 2, eval__cross_entropy=2.0) == [2, 1]


def test_figures_of_another_stage_are_not_compared(tmp_path: Path) -> None:
    save(tmp_path, 1, stage="sft", eval__accuracy=0.9)
    assert save(tmp_path, 2, stage="rl", eval__accuracy=0.1) == [2]


def test_checkpoints_of_before_there_were_scores_are_kept_by_number_alone(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, step, keep=9)
        path = tmp_path / checkpoint_name(step) / "manifest.json"
        facts = msgspec.json.decode(path.read_bytes())
        path.write_bytes(msgspec.json.encode({name: facts[name] for name in ("format", "step", "files")}))
    assert best_step(read_manifests(tmp_path)) is None
    assert load_checkpoint(tmp_path / checkpoint_name(1)).state == {"step": 1}
    assert save(tmp_path, 3, keep=2) == [3, 2]


def test_a_pinned_checkpoint_stays_until_it_is_unpinned(tmp_path: Path) -> None:
    save(tmp_path, 1)
    set_pin(tmp_path, 1, True)
    assert [save(tmp_path, step) for step in (2, 3)] == [[2, 1], [3, 1]]
    set_pin(tmp_path, 1, False)
    assert save(tmp_path, 4) == [4]


def test_one_that_is_pinned_while_it_is_being_deleted_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)

    def pinned_after_the_first_look(root: Path, step: int) -> bool:
        was_pinned = is_pinned(root, step)
        set_pin(root, step, True)
        return was_pinned

    monkeypatch.setattr("trainer.checkpoint.is_pinned", pinned_after_the_first_look)
    assert save(tmp_path, 2) == [2, 1]
    assert load_checkpoint(tmp_path / checkpoint_name(1)).state == {"step": 1}


def test_a_deletion_that_was_interrupted_is_ended_by_the_next_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / checkpoint_name(1)).rename(tmp_path / ".step-000001.gone")
    assert save(tmp_path, 2) == [2]
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint_name(2)]


def test_what_a_death_while_saving_left_lying_goes_when_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step, keep=9)
    set_pin(tmp_path, 1, True)
    with monkeypatch.context() as died:
        died.setattr("trainer.checkpoint._let_go", lambda *_: None)
        save(tmp_path, 4, keep=2)
    draft = tmp_path / ".step-000005.tmp"
    draft.mkdir()
    assert saved_steps(tmp_path) == [4, 3, 2, 1]
    tidy(tmp_path)
    assert saved_steps(tmp_path) == [4, 3, 1] and not draft.exists()


def test_a_checkpoint_that_says_not_how_many_are_to_stay_lets_none_go(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step, keep=9)
    path = tmp_path / checkpoint_name(3) / "manifest.json"
    path.write_bytes(msgspec.json.encode({**msgspec.json.decode(path.read_bytes()), "keep": 0}))
    tidy(tmp_path)
    assert saved_steps(tmp_path) == [3, 2, 1]


def test_a_run_keeps_its_best_and_a_resumed_one_remembers_what_it_is_worth(recipe: Recipe, tmp_path: Path) -> None:
    saving = msgspec.structs.replace(recipe.saving, every_steps=1, keep=1)
    evaluation = msgspec.structs.replace(recipe.evaluation, every_steps=2)
    asked = msgspec.structs.replace(recipe, saving=saving, evaluation=evaluation)
    link = go(asked, tmp_path)
    accuracy = {event.step: event.metrics[metrics.EVAL_ACCURACY] for event in of(link, Evaluated) if event.step}
    best = max(accuracy, key=lambda step: (accuracy[step], step))
    newest = recipe.stage.steps
    assert saved_steps(tmp_path) == sorted({newest, best}, reverse=True)
    reward = {event.step: event.metrics[metrics.REWARD_MEAN] for event in of(link, StepDone)}
    assert load_checkpoint(tmp_path / checkpoint_name(newest)).scores == {
        metrics.REWARD_MEAN: reward[newest], metrics.EVAL_ACCURACY: accuracy[newest],
    }  # fmt: skip
    assert read_manifest(tmp_path / checkpoint_name(newest)).stage == recipe.stage.title
