"""The model that a stage's policy begins as, for whoever reads answers with it beside the trainer.

It reads rows as the trainer does: device, arithmetic and layout are those of the recipe. Deliberately left out: the
reference, which is the trainer's own (`trainer.reference`).
"""

from __future__ import annotations

from pathlib import Path

import torch

from ponder.recipe import Recipe
from ponder.rlhf import Deep
from trainer.deep_reward import DeepReward, load_deep
from trainer.learn import forward_of
from trainer.live_judge import LoadDeep
from trainer.policy import Policy, load_policy
from trainer.precision import pick_dtype


def load_start(recipe: Recipe, *, device: str, models_folder: Path) -> Policy:
    """Frozen, without the adapter that the policy may learn; no random number is lost."""
    with torch.random.fork_rng(devices=[]):
        policy = load_policy(recipe.model, device=device, models_folder=models_folder, seed=recipe.run.seed)
    policy.dtype = pick_dtype(recipe.compute.dtype, policy.device)
    policy.forward = forward_of(recipe.knobs)
    policy.model.requires_grad_(requires_grad=False)
    return policy


def deep_loader(recipe: Recipe, models_folder: Path) -> LoadDeep | None:
    """How a trainer of this stage has its deep reward models; None where heads alone learn."""
    if recipe.rlhf.deep is Deep.OFF:
        return None

    def load(folder: Path, number: int, sha256: str) -> DeepReward:
        policy = load_start(recipe, device=recipe.compute.device, models_folder=models_folder)
        return load_deep(policy, folder, number, sha256, recipe.run.seed)

    return load
