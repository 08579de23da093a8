"""A loaded policy made ready to learn as its recipe says: adapter, arithmetic, memory, room for its answers.

What cannot be is refused here, before step 1. Deliberately left out: loading (`trainer.policy`).
"""

from __future__ import annotations

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from ponder.choices import Layout
from ponder.errors import RecipeError
from ponder.knobs import Knobs
from ponder.recipe import Recipe
from trainer.adapter import add_adapter, dropouts
from trainer.family import is_plain, norms_heads
from trainer.parallel import Ranks
from trainer.policy import Policy
from trainer.precision import pick_dtype
from trainer.shards import Shards
from trainer.trail import Trail


def equip(policy: Policy, recipe: Recipe) -> Policy:
    """The policy with the recipe's `[model.lora]` and `[compute]` applied; itself, changed.

    Raises NotFound when an adapter is wanted and `peft` is missing, RecipeError when the model cannot do what is asked.
    """
    policy.dtype = pick_dtype(recipe.compute.dtype, policy.device)
    if recipe.model.lora.rank:
        add_adapter(policy.model, recipe.model.lora, seed=recipe.run.seed)
        policy.waking += dropouts(policy.model)
    if recipe.compute.gradient_checkpointing:
        layers = [part for part in policy.model.modules() if isinstance(part, GradientCheckpointingLayer)]
        if not layers:
            raise RecipeError(
                f"`{recipe.model.path}` has no layers that could make their activations again",
                "leave `compute.gradient_checkpointing` out",
            )
        enable = getattr(policy.model, "activation_checkpointing_enable", None)
        if enable is not None:
            enable(activation_checkpointing_kwargs={"use_reentrant": False})
        else:  # its name before transformers 5.20
            policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        policy.waking += layers
    return policy


def share_out(policy: Policy, ranks: Ranks) -> None:
    """Leave this process a share of the weights; each layer is forwarded by itself then: its weights come and go."""
    policy.has_own_pass = False
    policy.shards = Shards(policy.model, ranks)


def make_trail(policy: Policy, recipe: Recipe) -> Trail | None:
    """Where sampling leaves its states for learning, if both are the policy's own pass, with nothing made again."""
    has_own_pass = policy.has_own_pass and policy.dtype is torch.float32 and is_plain(policy.model)
    if not has_own_pass or policy.waking or norms_heads(policy.model):
        return None
    return Trail(policy.model, recipe.compute.reuse_mb * 1_000_000)


def shortcomings(policy: Policy, knobs: Knobs) -> list[str]:
    """What will not be done as asked, in sentences: the run goes on without it."""
    asked = knobs.optim.layout
    if (asked is Layout.PACKED and not policy.can_pack) or (asked is Layout.SHARED and not policy.can_share):
        return [f"`optim.layout` is `{asked}`, but this model mixes the answers of a row: answers are padded"]
    return []


def check_room(policy: Policy, longest: int, max_new_tokens: int) -> None:
    """Raises RecipeError when a prompt of `longest` tokens and its answer would not fit the model's context."""
    context = policy.context_tokens
    if context is None or longest + max_new_tokens <= context:
        return
    if longest >= context:
        raise RecipeError(
            f"a prompt of {longest} tokens is longer than the model's context of {context}",
            "choose a shorter prompt or a model with a longer context",
        )
    raise RecipeError(
        f"a prompt of {longest} tokens and an answer of `sampling.max_new_tokens = {max_new_tokens}`"
        f" are longer than the model's context of {context}",
        f"set `sampling.max_new_tokens` to {context - longest} or less",
    )
