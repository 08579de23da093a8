"""A recipe as a daemon takes it: checked, complete, and new.

Deliberately left out: reading it with what a person overrides (`ponder.recipe`), and sending it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from ponder.preflight import check_recipe
from ponder.recipe import ForkPart, Recipe, dump_recipe
from ponder.wire import SubmitRun


def submission(recipe: Recipe, path: Path, *, models: Path | None, by: str) -> SubmitRun:
    """The request that queues the recipe of the file `path`; raises the PonderError that says what is wrong with it.

    `models` is the folder of models that were brought; None where that is another machine's.
    """
    anew = recipe.with_stages(replace(part, fork=ForkPart()) for part in recipe.stages)
    return SubmitRun(dump_recipe(check_recipe(anew, path, models=models)), str(path), by)


def own_files(request: SubmitRun) -> list[str]:
    """The files and folders of this machine that its recipe names, which another machine cannot see."""
    return [word for word in _words(tomllib.loads(request.recipe)) if word.startswith("/") and _is_here(word)]


def _is_here(word: str) -> bool:
    """A file, a folder, or a function in a file (`/here/task.py:make`)."""
    return Path(word).exists() or Path(word.rpartition(":")[0]).is_file()


def _words(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _words(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _words(inner)
