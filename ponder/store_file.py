"""What a person wants of the store: `store.toml` in the ponder home, read when the daemon begins.

    hot_gb = 32    beyond so many gigabytes the texts and tokens of old answers move into packed files; 0: never

Deliberately left out: moving them (`store.cold`).
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from ponder.errors import UsageError


class StoreFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file's keys."""

    hot_gb: Annotated[float, Meta(ge=0)] = 32.0

    @property
    def hot_bytes(self) -> int:
        return int(self.hot_gb * 1e9)


def read_store_file(path: Path) -> StoreFile:
    """What the file says, or what holds without one; raises UsageError naming it and what in it makes no sense."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), StoreFile)
    except FileNotFoundError:
        return StoreFile()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"`{path}` cannot be used: {error}", "its only line reads `hot_gb = 32`") from None
