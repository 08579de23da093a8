"""What the console remembers of a person from one session to the next: which curves, which filters.

One JSON file beside the store, `console.json`: a name, and what was kept under it. It is read as a stranger's would be:
whatever does not fit counts as nothing, and is written over by the next thing kept. A disk that takes nothing costs
only the memory. Deliberately left out: keys (`keys.toml`, which a person writes), and anything of a run.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar  # Any: a generic type as a value

import msgspec

T = TypeVar("T")

MAX_BYTES = 1 << 20
FILE_NAME = "console.json"
_TYPES: dict[type, Any] = {list: list[str], dict: dict[str, str]}


class Memory:
    """The file at `path`; without one, what is kept lasts as long as the console."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._kept = self._read()

    def recall(self, name: str, otherwise: T) -> T:
        """What was kept under a name, if it is of the kind of `otherwise`, which is given back else.

        Lists are of texts, dictionaries from texts to texts.
        """
        try:
            kept: T = msgspec.convert(self._kept[name], _TYPES.get(type(otherwise), type(otherwise)))
        except (KeyError, msgspec.ValidationError):
            return otherwise
        return kept

    def keep(self, name: str, value: object) -> None:
        """Remember it, on disk too. Another console's newer memories of other names stay."""
        plain = msgspec.to_builtins(value)
        if self._kept.get(name) == plain and name in self._kept:
            return
        self._kept = self._read() | {name: plain} if self._path else self._kept | {name: plain}
        self._write()

    def _read(self) -> dict[str, object]:
        if self._path is None:
            return {}
        try:
            with self._path.open("rb") as file:
                return msgspec.json.decode(file.read(MAX_BYTES), type=dict[str, object])
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}

    def _write(self) -> None:
        if self._path is None:
            return
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with suppress(OSError):
            try:
                with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                    file.write(msgspec.json.format(msgspec.json.encode(self._kept), indent=2) + b"\n")
                fresh.replace(self._path)
            finally:
                fresh.unlink(missing_ok=True)
