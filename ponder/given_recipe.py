"""What a person gives for a recipe, read once: a name, a file, a pipe, or `-` for standard input.

Deliberately left out: which names there are (`ponder.recipe`), and what the text means.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from ponder.errors import NotFound, RecipeError
from ponder.recipe import find_recipe, read_recipe_text

STDIN = "-"
STDIN_NAME = Path("standard input")
"""How errors call it; what its recipe names counts from the folder in which the command stands."""


class Given(NamedTuple):
    """A recipe's file and its text."""

    path: Path
    text: str


def read_given(word: str) -> Given:
    """The recipe that `word` means, read once, for a pipe can be read no second time; raises NotFound, RecipeError."""
    if word == STDIN:
        try:
            return Given(STDIN_NAME, sys.stdin.buffer.read().decode())
        except UnicodeDecodeError as error:
            raise RecipeError(f"`{STDIN_NAME}` cannot be read: {error}", "it must be UTF-8 TOML") from None
    try:
        path = find_recipe(word)
    except NotFound:
        path = Path(word).expanduser()
        if path.is_dir():
            raise NotFound(f"`{word}` is a folder and no recipe", "name the TOML file in it") from None
        if not path.exists():
            raise
    return Given(path, read_recipe_text(path))
