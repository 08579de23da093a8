"""To which programs every run's curves are told unasked: `trackers.toml` in the ponder home, read when a run begins.

    tensorboard = "~/boards"    a folder for each run in this one, while the run learns
    wandb = "~/wandb"           an offline run for each in this one, once it is over

Without the file none is. Deliberately left out: the writers (`ponder.trackers`), and who starts them
(`daemon.companion`).
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from ponder.errors import UsageError


class TrackerFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file's keys."""

    tensorboard: str = ""
    wandb: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError for a folder that is another one to each program that reads this."""
        for folder in filter(None, (self.tensorboard, self.wandb)):
            if not Path(folder).expanduser().is_absolute():
                raise ValueError(f"`{folder}` is no whole path")


def read_tracker_file(path: Path) -> TrackerFile:
    """What the file says, or that no program is told; raises UsageError naming it and what in it makes no sense."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), TrackerFile)
    except FileNotFoundError:
        return TrackerFile()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"`{path}` cannot be used: {error}", 'a line reads `tensorboard = "~/boards"`') from None
