"""Length + CRC32 records in an append-only file: what happened, on disk before anybody hears of it.

    file    = b"PNDRJNL1" record*
    record  = length (uint32 LE) crc32 (uint32 LE, of the payload) payload

A record is whole or it is not there: a torn tail (the process died while writing) is cut when the file is next opened
for writing, and ends the reading for a reader. Deliberately left out: what the payload means (`ponder.events`), and
deletion of what the daemon has acknowledged.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from ponder.errors import StoreError

MAGIC = b"PNDRJNL1"
_HEAD = struct.Struct("<II")
MAX_RECORD_BYTES = 64 << 20
READ_AT_ONCE = 1 << 18
"""Each call of the system hands Python's interpreter to another thread, and has to get it back."""


def read_records(path: Path, offset: int = 0) -> Iterator[tuple[bytes, int]]:
    """Each whole record's payload with the offset after it; ends at the end or at a torn or corrupt record.

    `offset` is 0 or one that an earlier call gave. A missing file has no records. Raises StoreError when the file is
    no journal.
    """
    try:
        file = path.open("rb", READ_AT_ONCE)
    except FileNotFoundError:
        return
    with file:
        magic = file.read(len(MAGIC))
        if magic != MAGIC:
            if MAGIC.startswith(magic):
                return  # died while writing the first bytes
            raise StoreError(f"`{path}` is not a ponder journal", "move it away; the run's events are read from it")
        place = max(offset, len(MAGIC))
        file.seek(place)
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            length, crc = _HEAD.unpack(head)
            payload = file.read(length) if length <= MAX_RECORD_BYTES else b""
            if len(payload) != length or zlib.crc32(payload) != crc:
                return
            place += _HEAD.size + length
            yield payload, place


class JournalWriter:
    """Appends records; one writer at a time, which the attempt's lock guarantees."""

    def __init__(self, path: Path) -> None:
        """Open for appending, creating the file or cutting a torn tail."""
        end = max((offset for _, offset in read_records(path)), default=len(MAGIC))
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags, 0o600)
            if os.fstat(self._descriptor).st_size < len(MAGIC):
                os.truncate(self._descriptor, 0)
                _write_all(self._descriptor, MAGIC)
            os.truncate(self._descriptor, end)
            os.lseek(self._descriptor, end, os.SEEK_SET)
        except OSError as error:
            raise StoreError(
                f"the journal `{path}` cannot be written: {error.strerror}", "free some disk space"
            ) from error
        self.path = path

    def append(self, payload: bytes) -> None:
        """Write one record with one system call; on a full disk the file stays whole and StoreError is raised."""
        start = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        data = _HEAD.pack(len(payload), zlib.crc32(payload)) + payload
        try:
            _write_all(self._descriptor, data)
        except OSError as error:
            os.truncate(self._descriptor, start)
            os.lseek(self._descriptor, start, os.SEEK_SET)
            raise StoreError(
                f"the journal `{self.path}` cannot be written: {error.strerror}",
                "free some disk space, then `ponder resume`",
            ) from error

    def sync(self) -> None:
        """Return when everything appended is on the disk itself."""
        os.fdatasync(self._descriptor)

    @property
    def readable(self) -> Path:
        """Where this very file can be read, even when its name was deleted or now means another."""
        own = Path(f"/proc/self/fd/{self._descriptor}")
        return own if own.exists() else self.path

    @property
    def is_nameless(self) -> bool:
        """Whether the file was deleted, so that it ends with this writer."""
        return os.fstat(self._descriptor).st_nlink == 0

    def close(self) -> None:
        os.close(self._descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    """A disk that is nearly full takes a part, and says so only at the next write."""
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, data[written:])
