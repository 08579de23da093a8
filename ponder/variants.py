"""Variants of a recipe: the same run with a few keys set otherwise, to be laid beside it.

    [variants.no-clip]
    title = "No clip: the ratio may go as far as it likes"
    set = { "policy.clip" = "none" }          # keys as on a command line, `stages.NAME.optim.lr` too

`ponder run RECIPE --variant no-clip` takes one, `--variant all` the recipe itself and every one of them; a run of a
variant is called RECIPE-VARIANT. What a command line sets wins over what a variant sets. Deliberately left out: what a
key may hold, which `ponder.recipe` checks as it does every override.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any  # Any: parsed TOML is untyped until it has been checked

from msgspec import Struct

from ponder.errors import NotFound, RecipeError, UsageError
from ponder.knobs import KnobValue, nearest

VARIANTS = "variants"
ALL = "all"
NAME = r"[a-z0-9][a-z0-9-]{0,31}"
MOST_SEEDS = 100


class Variant(Struct, frozen=True):
    """What is set otherwise, and why."""

    title: str
    settings: dict[str, KnobValue]


def take_variants(tree: dict[str, Any], source: str) -> dict[str, Variant]:
    """The variants of a recipe's parsed TOML, by name, taken out of it; RecipeError names file and key."""
    tables = tree.pop(VARIANTS, {})
    if not isinstance(tables, dict):
        raise RecipeError(f"`{source}`: `{VARIANTS}` must be a table", "write `[variants.NAME]` for each")
    return {name: _read(name, table, source) for name, table in tables.items()}


def _read(name: str, table: object, source: str) -> Variant:
    place = f"`{source}`, variant `{name}`"
    if not re.fullmatch(NAME, name) or name == ALL:
        raise RecipeError(f"{place}: that is no name for a variant", "take lower-case letters, digits and `-`")
    if not isinstance(table, dict):
        raise RecipeError(f"{place} must be a table", f"write `[variants.{name}]` and its keys below")
    for key in table:
        if key not in ("title", "set"):
            raise RecipeError(f"{place}: there is no key `{key}`", "a variant has `title` and `set`")
    title, settings = table.get("title", ""), table.get("set")
    if not isinstance(title, str):
        raise RecipeError(f"{place}: `title` must be text", "one line for lists")
    if not isinstance(settings, dict) or not settings:
        raise RecipeError(f"{place} sets nothing", 'write `set = { "group.key" = value }`')
    for key, value in settings.items():
        if not isinstance(value, bool | int | float | str):
            raise RecipeError(
                f"{place}: `{key}` is no single value", 'write dotted keys in quotes, as in `set = { "kl.coef" = 0.0 }`'
            )
    return Variant(title, settings)


def find_variant(variants: Mapping[str, Variant], name: str, source: str) -> Variant:
    """The variant called so; NotFound names those that there are."""
    if name in variants:
        return variants[name]
    hint = nearest(name, list(variants)) or (
        f"its variants are {', '.join(f'`{known}`' for known in variants)}" if variants else "it has none"
    )
    raise NotFound(f"`{source}` has no variant `{name}`", hint)


def read_seeds(words: str) -> list[int]:
    """The seeds that `1-5` or `1,2,9` mean, in order, each once; raises UsageError.

    >>> read_seeds("1-3,9")
    [1, 2, 3, 9]
    """
    seeds: list[int] = []
    for word in words.split(","):
        first, dash, last = word.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(f"`--seeds {words}`: `{word}` is no seed", "write `1-5`, or `1,2,9`")
        span = range(int(first), int(last or first) + 1)
        if not span or len(span) > MOST_SEEDS:
            raise UsageError(f"`--seeds {words}`: `{word}` is no span of 1 to {MOST_SEEDS} seeds", "write `1-5`")
        seeds += [seed for seed in span if seed not in seeds]
    return seeds
