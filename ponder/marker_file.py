"""A list of markers in a TOML file, and the table of a recipe that names one: checked before a run begins.

Deliberately left out: what the words mean for a text (`trainer.markers`).
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ponder.errors import RecipeError
from ponder.events import MarkerKind

EXAMPLE = 'it needs `version = 1`, `language = "en"`, `[strong]` and `[weak]` with lists such as `doubt = ["wait"]`'

Words = list[Annotated[str, Meta(min_length=1, max_length=100)]]


class ReflectionPart(Struct, frozen=True, forbid_unknown_fields=True):
    """Which words may be a turn; the task's own where nothing is said."""

    markers: Annotated[str, Meta(description="A file with a list of your own (`trainer/markers.py` has the form)")] = ""
    languages: Annotated[
        list[Annotated[str, Meta(min_length=2, max_length=32)]],
        Meta(description="Of the lists that come with ponder only these, such as `en` and `zh`; none means all"),
    ] = []


class MarkerFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The file as it stands."""

    version: Annotated[int, Meta(ge=1)]
    language: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
    common: Words = []
    """Words by which a text is known to be in the language."""
    inside: bool = False
    """Whether its words are found inside others."""
    strong: dict[MarkerKind, Words] = {}
    weak: dict[MarkerKind, Words] = {}


def read_marker_file(path: Path) -> MarkerFile:
    """The list at `path`; RecipeError when it is none."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), MarkerFile)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise RecipeError(f"`{path}` is no list of markers: {error}", EXAMPLE) from None
