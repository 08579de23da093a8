"""Why a value does not fit its key of a recipe, in words that need no knowledge of types or of regular expressions.

Deliberately left out: which keys there are, and what is checked (`ponder.recipe`).
"""

from __future__ import annotations

import re
from typing import Annotated, get_args, get_origin, get_type_hints

from msgspec import Meta, Struct

from ponder.knobs import DECLARATIONS

GRAMMAR = re.compile(r"invalid enum value .*|expected `str` matching regex .*", re.DOTALL)
"""What msgspec says and a person cannot use; what the key takes says it."""


def why(reason: str, *, is_typed: bool = False) -> str:
    """The end of a sentence about a value, from what msgspec says of it; empty where the hint alone can say it.

    `is_typed` says that the value came as text from a command line, so that its being text is no news.

    >>> why("Expected `int` >= 1"), why("Invalid enum value 'rlx'")
    (': expected `int` >= 1', '')
    >>> why("Expected `int`, got `str`", is_typed=True)
    ': expected `int`'
    """
    said = reason[:1].lower() + reason[1:]
    if GRAMMAR.fullmatch(said):
        return ""
    return ": " + (said.removesuffix(", got `str`") if is_typed else said)


def takes(parts: type[Struct], lists: dict[str, type[Struct]], key: str) -> str:
    """What a key of a recipe takes, as a hint: a knob's bounds, else what the key's declaration says of it."""
    if key in DECLARATIONS:
        knob = DECLARATIONS[key]
        return f"it takes {knob.bounds}" + (f" ({knob.unit})" if knob.unit else "")
    part, _, name = re.sub(r"\[(\d+|\.\.\.)\]", "", key).partition(".")
    struct = lists.get(part) or get_type_hints(parts).get(part)
    if not (isinstance(struct, type) and issubclass(struct, Struct)):
        return ""
    said = _description(get_type_hints(struct, include_extras=True).get(name))
    return f"`{name}`: {said[:1].lower()}{said[1:]}" if said else ""


def _description(annotation: object) -> str:
    if get_origin(annotation) is not Annotated:
        return ""
    return next((meta.description or "" for meta in get_args(annotation)[1:] if isinstance(meta, Meta)), "")
