"""What is worth calling a person for, and how they want to be called: `notify.toml` in the ponder home.

    on = ["done", "aha", "trouble"]
    bell = true                                       the console's terminal: a bell, and a notice (OSC 9)
    command = ["notify-send", "{title}", "{text}"]    started by the daemon, without a shell; also `{run}`, `{kind}`
    webhook = "https://example.org/hook"              JSON by POST: run, kind, step, title, text

Without the file the bell rings for all of them, and nothing else happens. Deliberately left out: who calls
(`daemon.herald`, the console), and texts of models: a notice holds numbers and names only.
"""

from __future__ import annotations

import tomllib
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from ponder.errors import UsageError


class News(StrEnum):
    """A kind of notice."""

    DONE = "done"
    """The run is over: finished, stopped or failed."""
    AHA = "aha"
    """For the first time in the run an answer turned back on itself and was right after."""
    TROUBLE = "trouble"
    """A rule of the watchdog fired, or the brake of a reward model is red."""


class Notice(msgspec.Struct, frozen=True):
    """One call."""

    run: str
    kind: News
    step: int
    text: str

    @property
    def title(self) -> str:
        """Who calls, and what for."""
        return f"ponder: {self.run}: {self.kind}"


class Wishes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a person wants to be called."""

    on: frozenset[News] = frozenset(News)
    bell: bool = True
    command: list[str] = []
    webhook: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError for what cannot work."""
        if self.webhook and urlsplit(self.webhook).scheme not in ("http", "https"):
            raise ValueError("`webhook` needs an address that begins with http:// or https://")


def read_wishes(path: Path) -> Wishes:
    """The wishes of a person; raises UsageError naming the file and what in it makes no sense."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Wishes)
    except FileNotFoundError:
        return Wishes()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        hint = f'a line reads `on = ["{News.DONE}", "{News.AHA}"]`'
        raise UsageError(f"`{path}` cannot be used: {error}", hint) from None
