"""Knobs of the loss, the divergence and the critic act on a running run: from the next step on, and not before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ponder.events import CommandApplied, CommandRefused, StepDone
from ponder.knobs import KnobValue
from ponder.recipe import Recipe, parse_recipe
from ponder.wire import Action, KnobOrder
from tests.trainer.conftest import RECIPE
from tests.trainer.test_loop import go, of, ordering, tensors_of, what_was_learnt

CHANGES: list[tuple[str, KnobValue]] = [
    ("policy.ratio", "sequence"),
    ("policy.clip", "cispo"),
    ("policy.clip", "none"),
    ("policy.clip_low", 0.001),
    ("policy.clip_high", 0.001),
    ("policy.normaliser", "sequence"),
    ("policy.advantage", "batch"),
    ("policy.advantage_scale", "none"),
    ("policy.updates_per_batch", 1),
    ("policy.minibatches", 2),
    ("policy.entropy_bonus", 0.5),
    ("policy.mask_truncated", True),
    ("kl.coef", 0.5),
    ("kl.where", "loss"),
    ("kl.target", 0.0),
    ("kl.horizon", 3),
    ("kl.refresh_steps", 1),
    ("critic.lr", 0.5),
    ("critic.weight", 5.0),
    ("critic.clip", 0.001),
    ("critic.gamma", 0.5),
    ("critic.gae_lambda", 0.1),
    ("reward.overlong", 1.0),
]


@pytest.fixture(scope="module")
def ppo_recipe(tiny_folder: Path) -> Recipe:
    overrides = {
        "policy.preset": "ppo", "policy.updates_per_batch": "2", "kl.target": "0.5", "kl.horizon": "20",
        "kl.estimator": "k1", "kl.where": "reward", "critic.lr": "0.05", "optim.lr": "0.02", "stage.steps": "4",
        "evaluation.every_steps": "0", "evaluation.final_problems": "1", "saving.every_steps": "0",
    }  # fmt: skip
    text = RECIPE.format(model=tiny_folder).replace("max_new_tokens = 12", "max_new_tokens = 20")
    return parse_recipe(text, "tiny.toml", overrides)


@pytest.fixture(scope="module")
def untouched(ppo_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[object], dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("untouched")
    told = what_was_learnt(go(ppo_recipe, folder))
    return told, tensors_of(folder, 4)


@pytest.mark.parametrize(("name", "value"), CHANGES, ids=[f"{name}={value}" for name, value in CHANGES])
def test_a_knob_turned_while_the_run_goes_on_changes_what_is_learnt_from_the_next_step_on(
    ppo_recipe: Recipe,
    untouched: tuple[list[object], dict[str, Tensor]],
    tmp_path: Path,
    name: str,
    value: KnobValue,
) -> None:
    orders: dict[int, list[Action]] = {2: [KnobOrder(name, value)]}
    link = go(ppo_recipe, tmp_path, ordering(orders))
    assert [(event.name, event.step, event.new) for event in of(link, CommandApplied)] == [(name, 2, value)]
    before, weights = untouched
    told = [event for event in of(link, StepDone) if event.step <= 2]
    assert what_was_learnt(link)[: len(told) * 4] == before[: len(told) * 4]
    mine = tensors_of(tmp_path, 4)
    assert any(not torch.equal(mine[key], other) for key, other in weights.items() if key in mine)


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("policy.preset", "grpo", "recipe"),
        ("critic.model", "separate", "recipe"),
        ("policy.advantage_scale", "group", "batch"),
        ("kl.estimator", "k3", "k1"),
        ("sampling.max_rounds", 4, "drop_flat_groups"),
    ],
)
def test_a_knob_that_would_contradict_another_is_refused_while_running(
    ppo_recipe: Recipe, tmp_path: Path, name: str, value: KnobValue, hint: str
) -> None:
    link = go(ppo_recipe, tmp_path, ordering({1: [KnobOrder(name, value)]}))
    (refused,) = of(link, CommandRefused)
    assert hint in refused.hint
    assert not of(link, CommandApplied)
