"""Rollout workers, programs on other machines that draw answers for a run: whether a run takes them, and how old a
policy may be that they draw from.

Deliberately left out: what is said to them (`ponder.crew`), and drawing (`trainer.crew`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from ponder.choices import Engine
from ponder.errors import RecipeError

if TYPE_CHECKING:
    from ponder.recipe import Recipe

MOST_KEY = "workers.most"


class WorkersPart(Struct, frozen=True, forbid_unknown_fields=True):
    """Rollout workers: `ponder worker` on other machines draws answers for the run."""

    most: Annotated[
        int, Meta(ge=0, le=256, description="So many may join; 0 lets none in. More than 0 turns `[mismatch]` on")
    ] = 0
    max_lag: Annotated[
        int,
        Meta(
            ge=0, le=64, description="So many updates old may a policy be whose answers are learnt from; with 0 "
            "workers wait while the trainer learns"
        ),
    ] = 0  # fmt: skip
    port: Annotated[
        int, Meta(ge=0, le=65535, description="Where the trainer takes them, beside the daemon's own ports; 0: any")
    ] = 0
    patience_s: Annotated[
        float,
        Meta(
            ge=0.0, le=3600.0, description="The trainer, done with its own answers, waits so long for theirs before it "
            "draws them itself"
        ),
    ] = 10.0  # fmt: skip


def check_workers(recipe: Recipe) -> None:
    """RecipeError where workers are let in and the stage could not use them."""
    if not recipe.workers.most or not recipe.stage.kind.samples:
        return
    if recipe.sampling.engine is not Engine.LOCAL:
        raise RecipeError(
            f"`workers.most` is {recipe.workers.most}, and workers draw as `sampling.engine = local` does, not as "
            f"`{recipe.sampling.engine}`",
            "set `sampling.engine` to `local`, or `workers.most` to 0",
        )
    if recipe.compute.processes > 1:
        raise RecipeError(
            f"`workers.most` is {recipe.workers.most}, and `compute.processes` {recipe.compute.processes}: workers "
            "draw for one process only",
            "set `compute.processes` to 1, or `workers.most` to 0",
        )
    if recipe.model.lora.rank:
        raise RecipeError(
            "workers get all weights of a model, and an adapter's are none",
            "set `model.lora.rank` to 0, or `workers.most` to 0",
        )
