"""Whole lines of a file that grows, is cut, or is put in another's place.

    a line without its end     waits for it; at the last look it counts where it is whole JSON
    shorter, or another file   read from its beginning; where that is the old one, it is the same file once more

Deliberately left out: what the lines say (`ponder.rollout_files`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

READ_AT_ONCE = 1 << 20
LONGEST_LINE = 64 << 20


class Tail:
    """A file that is read along."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.line = 0
        """The number of the newest line, from 1."""
        self._offset = 0
        self.is_again = False
        """Whether the file was put in its own place once more: it began as it did before."""
        self._identity: tuple[int, int] | None = None
        self._first: bytes | None = None
        self._rest = b""

    def lines(self, *, is_last: bool = False) -> Iterator[tuple[int, bytes]]:
        """The lines that came since the last call, with their numbers; with `is_last` also one without its end.

        Raises OSError when the file is there and cannot be read.
        """
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            facts = os.fstat(file.fileno())
            if self._identity != (facts.st_dev, facts.st_ino) or facts.st_size < self._offset:
                self.line, self._offset, self._rest = 0, 0, b""
                self._identity = facts.st_dev, facts.st_ino
            file.seek(self._offset)
            while piece := file.read(READ_AT_ONCE):
                self._offset += len(piece)
                *whole, self._rest = (self._rest + piece).split(b"\n")
                yield from self._numbered(whole)
                if len(self._rest) > LONGEST_LINE:
                    yield from self._numbered([self._rest])
                    self._rest = b""
        if is_last and self._rest:
            rest, self._rest = self._rest, b""
            yield from self._numbered([rest])

    def _numbered(self, lines: list[bytes]) -> Iterator[tuple[int, bytes]]:
        for line in lines:
            self.line += 1
            if self.line == 1:
                self.is_again, self._first = line == self._first, line
            if line.strip():
                yield self.line, line
