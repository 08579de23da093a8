"""The set that a sampling stage writes: rows of JSON, of which a checkpoint remembers how many bytes are its own.

A set that is longer than its checkpoint says (the trainer died after writing) is cut there, and the steps are made
again. Deliberately left out: which answers become rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ponder.errors import StoreError
from ponder.knobs import Knobs
from ponder.paths import sets_beside
from trainer.answers import Answer


class Collector(Protocol):
    """What a sampling stage does with its answers."""

    @property
    def size_bytes(self) -> int:
        """What a checkpoint remembers: the set up to here belongs to it."""

    def check(self, knobs: Knobs) -> None:
        """RecipeError on knobs with which it cannot be filled."""

    def open_at(self, size_bytes: int) -> None:
        """Go on with the first so many bytes of the set; whatever stands behind them is cut off."""

    def take(self, answers: Sequence[Answer], step: int) -> dict[str, float]:
        """Add what belongs into the set, and see it on disk; the step's figures."""


def set_path(checkpoints: Path, name: str) -> Path:
    """Where the set of the stage `name` lies, beside the run's checkpoints."""
    return sets_beside(checkpoints) / f"{name}.jsonl"


class RowFile:
    """A file of rows, as it grows."""

    def __init__(self, path: Path) -> None:
        self.path, self.size_bytes = path, 0

    def open_at(self, size_bytes: int) -> list[dict[str, object]]:
        """The rows of its first so many bytes, which are all that is left."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.truncate(size_bytes)
            text = self.path.read_text(encoding="utf-8")
        except OSError as error:
            raise StoreError(f"the set `{self.path}` cannot be written: {error.strerror}") from error
        if len(text.encode()) < size_bytes:
            raise StoreError(f"the set `{self.path}` is shorter than its checkpoint says", "start the run anew")
        self.size_bytes = size_bytes
        return [json.loads(line) for line in text.split("\n") if line]

    def append(self, rows: Sequence[dict[str, object]]) -> None:
        """Write them and see them on disk."""
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        try:
            with self.path.open("ab") as file:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(
                f"the set `{self.path}` cannot be written: {error.strerror}", "free some space, or set PONDER_HOME"
            ) from error
        self.size_bytes += len(lines)
