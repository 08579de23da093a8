"""What keeps the store's file quick, in quiet moments: its write-ahead log folded, the index written without a wait.

Deliberately left out: when (`daemon.chores`), and old answers, which move (`store.cold`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from store.schema import BUSY_TIMEOUT_MS

if TYPE_CHECKING:
    from sqlite3 import Connection

READERS_WAIT_MS = 100
"""How long the cutting of a long log waits for those who read; our own answers take less."""


@contextmanager
def loosely_synced(connection: Connection) -> Iterator[None]:
    """Inside, a commit does not wait for the disk: for what is made again after a power cut."""
    connection.execute("PRAGMA synchronous = NORMAL")
    try:
        yield
    finally:
        connection.execute("PRAGMA synchronous = FULL")


def fold(connection: Connection, is_long: bool) -> None:
    """Fold the write-ahead log into the file, and cut it when it is long.

    SQLite starts the log anew by itself only when for a moment nobody reads, so that readers who take turns let it grow
    for ever. Here those that read now are waited for, a moment; one that does not end makes it do less.
    """
    if not is_long:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        return
    connection.execute(f"PRAGMA busy_timeout = {READERS_WAIT_MS}")
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")


def log_bytes(store: Path) -> int:
    """What the write-ahead log takes on disk."""
    try:
        return store.with_name(f"{store.name}-wal").stat().st_size
    except FileNotFoundError:
        return 0
