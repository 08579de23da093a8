"""Where a recipe runs: `[compute]`, and what several processes can learn together.

Deliberately left out: whether the machine has the devices, which the trainer tells before step 1 (`trainer.joining`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from ponder.choices import AdvantageEstimator, Engine
from ponder.errors import RecipeError
from ponder.knobs import Knobs
from ponder.stage import StageKind

if TYPE_CHECKING:
    from ponder.recipe import Recipe


class Strategy(StrEnum):
    """What each of several processes holds of the policy."""

    DDP = "ddp"
    """All of it: weights, gradients, moments."""
    FSDP = "fsdp"
    """A share of the weights, gradients and moments; all weights only while it samples."""


class ComputePart(Struct, frozen=True, forbid_unknown_fields=True):
    """Where it runs."""

    device: Annotated[
        str, Meta(pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="`auto`, `cpu`, `cuda` or `cuda:N`")
    ] = "auto"
    dtype: Annotated[
        str,
        Meta(
            pattern="^(auto|float32|bfloat16)$",
            description="What the model computes in: `float32`, `bfloat16`, or `auto`: bfloat16 on a GPU",
        ),
    ] = "auto"
    gradient_checkpointing: Annotated[
        bool, Meta(description="Make activations again in the backward pass: less memory, about a third more time")
    ] = False
    threads: Annotated[
        int, Meta(ge=0, le=1024, description="CPU threads for each process of the trainer; 0 lets it choose")
    ] = 1
    processes: Annotated[
        int, Meta(ge=1, le=1024, description="So many processes learn one policy, on a GPU each where there are any")
    ] = 1
    strategy: Annotated[
        Strategy, Meta(description="Of several processes each holds all of the policy, `ddp`, or a share, `fsdp`")
    ] = Strategy.DDP
    reuse_mb: Annotated[
        int,
        Meta(ge=0, le=10**6, description="Up to so much of what sampling computed is kept for learning, on a CPU"),
    ] = 1000


def check_processes(stages: Sequence[Recipe], source: str) -> None:
    """RecipeError where several processes are asked for and one of the stages knows one only."""
    first = stages[0].compute
    for stage in stages:
        count = stage.compute.processes
        if (count, stage.compute.strategy) != (first.processes, first.strategy):
            raise RecipeError(
                f"`{source}`: the stages ask for different `compute.processes` or `compute.strategy`",
                "all stages of a run learn in the same processes: write them in the `[compute]` of the recipe",
            )
        if count > 1 and (why := _knows_one(stage)):
            raise RecipeError(f"`{source}`: `compute.processes` is {count}, and {why}", "set `compute.processes` to 1")


def _knows_one(stage: Recipe) -> str:
    """Why the stage can be learnt by one process only; empty where several can."""
    if stage.stage.kind is not StageKind.RL:
        return f"a stage of the kind `{stage.stage.kind}` knows one process only"
    if stage.rlhf.live:
        return "with `rlhf.live` one process learns only"
    if stage.reward_model.path:
        return "`reward_model.path` is scored by one process only"
    if stage.sampling.engine is not Engine.LOCAL:
        return f"`sampling.engine = {stage.sampling.engine}` samples for one process only"
    if ":" in stage.compute.device:
        return f"`compute.device` names the one GPU `{stage.compute.device}`"
    return critic_alone(stage.knobs)


def critic_alone(knobs: Knobs) -> str:
    """Why these knobs need one process; empty where they do not."""
    if knobs.policy.advantage is AdvantageEstimator.GAE:
        return "`policy.advantage = gae` has a critic, which one process learns only"
    return ""
