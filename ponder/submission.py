"""A recipe as a daemon takes it: checked, complete, and new.

Deliberately left out: reading it with what a person overrides (`ponder.recipe`), and sending it.
"""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from ponder.preflight import check_recipe
from ponder.recipe import ForkPart, Recipe, dump_recipe
from ponder.wire import SubmitRun


def submission(recipe: Recipe, path: Path, *, models: Path, by: str) -> SubmitRun:
    """The request that queues the recipe of the file `path`; raises the PonderError that says what is wrong with it.

    `models` is the folder of models that were brought.
    """
    anew = recipe.with_stages(replace(part, fork=ForkPart()) for part in recipe.stages)
    return SubmitRun(dump_recipe(check_recipe(anew, path, models=models)), str(path), by)
