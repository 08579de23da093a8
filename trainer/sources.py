"""What `stage:NAME` in a stage's recipe stands for: files and folders that an earlier stage of the run has left.

Deliberately left out: reading them (`trainer.stages`), and whether the stages fit together (`ponder.chain`).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ponder.errors import NotFound
from ponder.paths import checkpoint_name
from ponder.recipe import Recipe
from ponder.stage import StageKind, stage_in
from trainer.place import spans
from trainer.row_file import set_path


def resolved(recipe: Recipe, number: int, checkpoints: Path) -> Recipe:
    """The recipe of stage `number` (from 0) with files and folders in place of `stage:NAME`."""
    own = recipe.stages[number]
    model, data = own.model, own.stage.data
    if name := stage_in(model.path):
        model = msgspec.structs.replace(model, path=str(left_by(recipe, name, checkpoints)), gguf="")
    if name := stage_in(data.path):
        data = msgspec.structs.replace(data, path=str(set_path(checkpoints, name)))
    judge = own.reward_model
    if name := stage_in(judge.path):
        judge = msgspec.structs.replace(judge, path=str(left_by(recipe, name, checkpoints)))
    stage = msgspec.structs.replace(own.stage, data=data)
    return msgspec.structs.replace(own, model=model, stage=stage, reward_model=judge)


def resolved_of(recipe: Recipe, step: int, checkpoints: Path) -> Recipe:
    """As `Recipe.stage_of`, so resolved."""
    found = spans(recipe)
    return resolved(recipe, next(span.number for span in found if step <= span.last) - 1, checkpoints)


def left_by(recipe: Recipe, name: str, checkpoints: Path) -> Path:
    """The folder of the policy that a stage left, or handed on; of a reward model, where it made one."""
    place = next(place for place, part in enumerate(recipe.stages) if part.stage.title == name)
    return checkpoints / checkpoint_name(spans(recipe)[place].last)


def live_stage(recipe: Recipe, checkpoints: Path) -> Recipe:
    """The one stage in which people rank, resolved; NotFound where there is none."""
    for number, part in enumerate(recipe.stages):
        if part.stage.kind is StageKind.RL and part.rlhf.live:
            return resolved(recipe, number, checkpoints)
    raise NotFound(f"no reward model learns live in `{recipe.run.name}`", "`[rlhf] live = true` brings one")
