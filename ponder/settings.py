"""A recipe's settings as one flat table, and in which of them it differs from the defaults or from other recipes.

    optim.lr  task.name  stage.steps            of a recipe of one stage
    sft: optim.lr   rl: optim.lr                of a recipe of several, by the stages' names

Deliberately left out: what a setting means (`ponder.knobs`, `ponder.recipe`), and what was turned since (the store).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any  # what a struct becomes when it is taken apart

import msgspec

from ponder.errors import RecipeError
from ponder.knobs import format_value
from ponder.recipe import ModelPart, Recipe, RunPart, TaskPart, parse_recipe
from ponder.stage import StageKind, StagePart

ABSENT = "-"
"""Stands for a setting that a recipe does not have."""
NAMELESS = ("run.name", "run.title", "run.minutes", "fork.run", "fork.step")
"""Settings that say what a run is called and where it is from, and not how it learns."""


def settings(recipe: Recipe) -> dict[str, str]:
    """Every setting as it is written."""
    stages = recipe.stages
    flat: dict[str, str] = {}
    for part in stages:
        tree: dict[str, Any] = msgspec.to_builtins(part)
        tree.pop("then")
        flat |= _flat("" if len(stages) == 1 else f"{part.stage.title}: ", tree)
    return flat


def _flat(prefix: str, tree: Mapping[str, Any]) -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(f"{prefix}{name}.", value)
        elif isinstance(value, bool | int | float | str):
            flat[prefix + name] = format_value(value)
        else:
            flat[prefix + name] = msgspec.json.encode(value).decode()
    return flat


def changed_settings(recipe: Recipe) -> list[tuple[str, str, str]]:
    """(setting, value, default) of all that is not as it is by default; what has no default always is."""
    usual = settings(
        Recipe(run=RunPart(""), model=ModelPart(""), task=TaskPart(""), stage=StagePart(StageKind.RL, 0)),
    )
    needed = ("model.path", "task.name", "stage.kind", "stage.steps")
    changed = []
    for name, value in settings(recipe).items():
        plain = name.rpartition(": ")[2]
        default = ABSENT if plain in needed else usual.get(plain, ABSENT)
        if value != default and plain not in NAMELESS:
            changed.append((name, value, default))
    return changed


def read_settings(recipe: str) -> dict[str, str]:
    """The settings in a stored recipe's text; empty where this version cannot read it."""
    try:
        return settings(parse_recipe(recipe, "the stored recipe"))
    except RecipeError:
        return {}


def differing(tables: Sequence[Mapping[str, str]]) -> list[tuple[str, list[str]]]:
    """(setting, its value in each) of all in which they differ.

    >>> differing([{"optim.lr": "0.1", "run.seed": "1"}, {"optim.lr": "0.2", "run.seed": "1", "kl.beta": "0"}])
    [('optim.lr', ['0.1', '0.2']), ('kl.beta', ['-', '0'])]
    """
    names = dict.fromkeys(name for table in tables for name in table)
    found = [(name, [table.get(name, ABSENT) for table in tables]) for name in names if name not in NAMELESS]
    return [(name, values) for name, values in found if len(set(values)) > 1]
