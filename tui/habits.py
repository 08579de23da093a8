"""What a person is used to, from the ponder home: their keys, how they are called, what the console remembers.

    keys.toml       their keys                       console.json    what was shown, and where they were
    notify.toml     how they want to be called       console.lock    held by the console that keeps its place
    clipboard.txt   what they copied last            rankings/       what they ranked and no daemon has yet

Deliberately left out: what is in the files (`tui.actions`, `ponder.news`, `tui.memory`, `tui.place`, `tui.clipboard`,
`tui.outbox`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ponder.news import Wishes, read_wishes
from ponder.paths import Paths
from tui.keys import Keys, read_keys
from tui.memory import FILE_NAME, Memory
from tui.outbox import Outbox, outbox_folder


@dataclass
class Habits:
    """See the module; without a home nothing outlasts the console."""

    keys: Keys = field(default_factory=Keys)
    wishes: Wishes = field(default_factory=Wishes)
    memory: Memory = field(default_factory=Memory)
    clipboard: Path | None = None
    lock: Path | None = None
    outbox: Outbox = field(default_factory=Outbox)
    server: str = ""
    """What they call the daemon that is asked, where it is on another machine."""


def read_habits(paths: Paths, server: str = "") -> Habits:
    """The habits of whose home this is; raises UsageError naming a file that makes no sense.

    `server` is the daemon on another machine that is asked, if one is.
    """
    home = paths.home
    return Habits(
        keys=read_keys(home / "keys.toml"),
        wishes=read_wishes(paths.wishes),
        memory=Memory(home / FILE_NAME),
        clipboard=home / "clipboard.txt",
        lock=home / "console.lock",
        outbox=Outbox(outbox_folder(home, server)),
        server=server,
    )
