"""One stage of a recipe as a run of its own, beginning with what another run of the recipe left on disk.

    the policy    runs/RUN/checkpoints/step-N, N being the last step of the stage that left it
    the set       runs/RUN/sets/STAGE.jsonl

Asks nobody but the disk. Deliberately left out: the stages' order within one run (`trainer.stages`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from ponder import chain
from ponder.errors import NotFound
from ponder.knobs import nearest
from ponder.paths import Paths
from ponder.recipe import Recipe, read_recipe
from ponder.stage import stage_in


def stage_alone(recipe: Recipe, name: str, paths: Paths, run: str = "") -> Recipe:
    """The stage `name` alone; `run` has what it begins with, or else the newest run of this recipe that has it.

    Raises NotFound when there is no such stage, run, checkpoint or set.
    """
    stages = {part.stage.title: part for part in recipe.stages}
    if name not in stages:
        hint = nearest(name, list(stages)) or f"its stages are {', '.join(f'`{known}`' for known in stages)}"
        raise NotFound(f"the recipe `{recipe.run.name}` has no stage `{name}`", hint)
    part = stages[name]
    needs = [
        source for source in map(stage_in, (part.model.path, part.stage.data.path, part.reward_model.path)) if source
    ]
    if not needs:
        return part
    if run:
        if not paths.run_recipe(run).is_file():
            raise NotFound(f"there is no run `{run}`", "`ponder ls --all` lists them")
        return _begun_from(part, paths, run)
    for candidate in _runs_of(recipe, paths):
        try:
            return _begun_from(part, paths, candidate)
        except NotFound:
            continue
    raise NotFound(
        f"no run of `{recipe.run.name}` has what the stage `{name}` begins with (`stage:{needs[0]}`)",
        f"run the whole recipe first: `ponder run {recipe.run.name}`",
    )


def _runs_of(recipe: Recipe, paths: Paths) -> Iterator[str]:
    """The recipe's runs by name, newest first."""
    prefix = f"{recipe.run.name}-"
    numbers = [path.name.removeprefix(prefix) for path in paths.runs.glob(f"{prefix}*")]
    yield from (f"{prefix}{number}" for number in sorted((int(n) for n in numbers if n.isdigit()), reverse=True))


def _begun_from(part: Recipe, paths: Paths, run: str) -> Recipe:
    model, data = part.model, part.stage.data
    if source := stage_in(model.path):
        model = msgspec.structs.replace(model, path=str(_checkpoint(paths, run, source)), gguf="")
    if source := stage_in(data.path):
        path = paths.sets(run) / f"{source}.jsonl"
        data = msgspec.structs.replace(data, path=str(_there(path, run, source)))
    judge = part.reward_model
    if source := stage_in(judge.path):
        judge = msgspec.structs.replace(judge, path=str(_checkpoint(paths, run, source)))
    stage = msgspec.structs.replace(part.stage, data=data)
    return msgspec.structs.replace(part, model=model, stage=stage, reward_model=judge)


def _checkpoint(paths: Paths, run: str, stage: str) -> Path:
    ends = chain.last_steps(read_recipe(paths.run_recipe(run)).stages)
    if stage not in ends:
        raise NotFound(f"the run `{run}` has no stage `{stage}`", "name a run of the same recipe")
    return _there(paths.checkpoint(run, ends[stage]), run, stage)


def _there(path: Path, run: str, stage: str) -> Path:
    if not path.exists():
        raise NotFound(f"the run `{run}` has not ended its stage `{stage}`: there is no `{path}`")
    return path
