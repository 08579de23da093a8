"""Which keys the tables of a recipe have; any other one is refused with the nearest.

Deliberately left out: what a key takes (`ponder.misfit`), and the tables themselves (`ponder.recipe`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_type_hints  # Any: what stands in a TOML file

from msgspec import Struct

from ponder import knobs
from ponder.errors import RecipeError


def known_keys(struct: Any) -> dict[str, Any]:
    """The keys of a table and what each is; of what is no table none. `then` stands in `[[stages]]`."""
    if not isinstance(struct, type) or not issubclass(struct, Struct):
        return {}
    return {name: kind for name, kind in get_type_hints(struct).items() if name != "then"}


def refuse_unknown_keys(
    tree: Mapping[str, Any], recipe: type[Struct], lists: Mapping[str, type[Struct]], source: str
) -> None:
    """RecipeError for the first table or key that there is not, with the nearest that there is."""
    parts = known_keys(recipe)
    for part_name, part in tree.items():
        if part_name not in parts:
            raise RecipeError(
                f"`{source}`: there is no table `[{part_name}]`"
                if isinstance(part, dict)
                else f"`{source}`: the key `{part_name}` stands in no table",
                knobs.nearest(part_name, list(parts)) or f"known tables: {', '.join(parts)}",
            )
        if part_name in lists:
            _refuse_in_list(part_name, part, lists[part_name], source)
            continue
        if not isinstance(part, dict):
            raise RecipeError(f"`{source}`: `{part_name}` must be a table", f"write `[{part_name}]` and its keys below")
        known = known_keys(parts[part_name])
        for key in part:
            if key not in known:
                raise RecipeError(
                    f"`{source}`: there is no key `{part_name}.{key}`",
                    knobs.nearest(key, list(known)) or f"known keys of [{part_name}]: {', '.join(known)}",
                )


def _refuse_in_list(part_name: str, part: object, struct: type[Struct], source: str) -> None:
    if not isinstance(part, list) or not all(isinstance(table, dict) for table in part):
        raise RecipeError(f"`{source}`: `{part_name}` must be a list of tables", f"write `[[{part_name}]]` for each")
    known = list(known_keys(struct))
    for place, table in enumerate(part, 1):
        for key in table:
            if key not in known:
                raise RecipeError(
                    f"`{source}`: there is no key `{key}` in `[[{part_name}]]` number {place}",
                    knobs.nearest(key, known) or f"known keys of [[{part_name}]]: {', '.join(known)}",
                )
