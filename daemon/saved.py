"""Which checkpoint of a run is meant, by which stage it was left, and what it weighs.

Deliberately left out: whether one can be forked from (`daemon.fork`), and loading it, which needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from daemon.watched import find_watched, refuse_elsewhere
from ponder.errors import NotFound
from ponder.paths import Paths, saved_steps
from ponder.recipe import Recipe, read_recipe

NOT_HERE = "no checkpoint of it lies here"
SHOWN = 4
"""So many steps are named where another was meant."""


def choose_step(run: str, steps: Sequence[int], wanted: int | None) -> int:
    """The checkpoint that is meant, the newest where none is named; NotFound says which there are."""
    if not steps:
        raise NotFound(f"`{run}` has no checkpoint yet", f"`ponder save {run}` writes one while it runs")
    if wanted is None:
        return steps[0]
    if wanted not in steps:
        nearest = sorted(sorted(steps, key=lambda step: abs(step - wanted))[:SHOWN])
        raise NotFound(
            f"`{run}` has no checkpoint of step {wanted}",
            f"the nearest that it has: {', '.join(map(str, nearest))}",
        )
    return wanted


def find_checkpoint(paths: Paths, run: str, step: int | None) -> tuple[int, Path | None]:
    """The step that is meant and its folder; step 0 without a checkpoint is the model that the run begins with.

    Raises NotFound, and Refused where the run trains elsewhere.
    """
    found = find_watched(paths, run)
    refuse_elsewhere(run, found.part if found else None, NOT_HERE)
    steps = saved_steps(paths.checkpoints(run))
    if step == 0 and 0 not in steps:
        return 0, None
    chosen = choose_step(run, steps, step)
    return chosen, paths.checkpoint(run, chosen)


def find_policy(paths: Paths, run: str, step: int | None) -> tuple[int, Path | None, Recipe]:
    """As `find_checkpoint`, and the recipe of the stage that left it; raises what reading the recipe does, too."""
    whole = read_recipe(paths.run_recipe(run))
    chosen, folder = find_checkpoint(paths, run, step)
    return chosen, folder, whole.stage_of(chosen) if chosen else whole


def size_bytes(folder: Path) -> int:
    """What a checkpoint's weights take on disk."""
    return sum(path.stat().st_size for path in folder.glob("*model.safetensors"))
