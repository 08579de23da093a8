"""Who sits here. Deliberately left out: who may do what, which is the daemon's to know."""

from __future__ import annotations

import getpass

from ponder.errors import UsageError

MOST_NAME = 64
"""Characters of a name under which somebody ranks or labels."""


def user_name() -> str:
    """Who sits here, as the machine calls them; empty where it does not."""
    try:
        return getpass.getuser()[:MOST_NAME]
    except (OSError, KeyError, ImportError):
        return ""


def check_name(text: str) -> None:
    """UsageError when nobody can be called so.

    >>> check_name("ada")
    """
    if not (0 < len(text) <= MOST_NAME and text.isprintable()):
        raise UsageError("`--as` is no name", f"a name has up to {MOST_NAME} characters, for example `--as ada`")
