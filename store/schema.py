"""Open the store: create it, bring an old one up to date, or say clearly why it cannot be used.

A store is refused when it is newer than this code, no SQLite file, somebody else's SQLite file, on a network file
system, or not writable. An older one is copied beside itself before it is migrated. One connection writes, and it
alone commits and checkpoints the write-ahead log; all others open `mode=ro`: with that rule the WAL-reset race of
SQLite 3.7.0 to 3.51.2 cannot happen. Deliberately left out: the tables (`store.migrations`), and keeping a second
daemon away, which is the daemon's lock.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from ponder.errors import StoreError
from store.cold import add_function
from store.migrations import MIGRATIONS
from store.tables import Database, Migrations

if TYPE_CHECKING:
    import sqlite3
else:
    try:
        from pysqlite3 import dbapi2 as sqlite3  # a newer SQLite than the system's, without the WAL-reset race
    except ImportError:
        import sqlite3

APPLICATION_ID = 0x506E6472
"""`Pndr`: what `file ponder.db` and we ourselves know a store by."""

BUSY_TIMEOUT_MS = 5000
WAL_LIMIT_BYTES = 64 << 20
FOLD_EVERY_PAGES = 4000
"""16 MB of the write-ahead log: a page that many transactions write is folded into the store once for all of them."""

NETWORK_FILE_SYSTEMS = (
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "beegfs", "glusterfs", "gpfs", "fuse.sshfs",
    "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.goofys", "fuse.glusterfs", "fuse.juicefs",
)  # fmt: skip
"""The write-ahead log needs shared memory, which these do not have between machines."""

REBUILD_HINT = "`ponder down`, then `ponder rebuild` makes it again from the runs' folders and keeps this one beside it"
MOVE_HINT = "set PONDER_HOME to a folder on a local disk that you may write to"


def sqlite_version() -> str:
    """The version of the SQLite library in use."""
    return str(sqlite3.sqlite_version)


def open_for_writing(path: Path, migrations: Migrations = MIGRATIONS) -> sqlite3.Connection:
    """The one writing connection, the store created or migrated; raises StoreError with what is wrong and a hint.

    The caller holds the daemon's lock: two processes must not migrate at once.
    """
    refuse_network_folder(path)
    with explained(path):
        is_new = _prepare_file(path)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            _set_up(connection, path, is_new)
            _migrate(connection, path, migrations)
            add_function(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def open_for_reading(path: Path, migrations: Migrations = MIGRATIONS) -> sqlite3.Connection:
    """A connection that cannot write, nor checkpoint; raises StoreError without a store that this code can read."""
    if not path.is_file():
        raise StoreError(f"there is no store at `{path}`", "`ponder up` creates it")
    with explained(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
            _refuse_stranger(connection, path)
            pending = _pending(connection, path, migrations)
            add_function(connection)
        except BaseException:
            connection.close()
            raise
    if pending:
        connection.close()
        raise StoreError(f"the store `{path}` is older than this ponder", "`ponder up` brings it up to date")
    return connection


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """What SQLite or the system says of the store at `path`, as a StoreError that a person can act on.

    A broken constraint or a wrong call is a bug of ours and goes on as it is.
    """
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except sqlite3.Error as error:
        raise _explain(error, path) from error
    except OSError as error:
        raise StoreError(f"the store `{path}` cannot be opened: {error.strerror or error}", MOVE_HINT) from error


def _explain(error: sqlite3.Error, path: Path) -> StoreError:
    name = getattr(error, "sqlite_errorname", None) or ""
    if name.startswith("SQLITE_FULL"):
        return StoreError(f"the disk is full: `{path}` cannot grow", "free some disk space", "disk_full")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreError(
            f"another program is writing to the store `{path}`", f"`fuser {path}` names it; close it", "locked"
        )
    if name.startswith("SQLITE_NOTADB"):
        return StoreError(f"`{path}` is not a SQLite file", REBUILD_HINT)
    if name.startswith("SQLITE_CORRUPT"):
        return StoreError(f"the store `{path}` is damaged", REBUILD_HINT)
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return StoreError(f"the store `{path}` cannot be written to", MOVE_HINT)
    if name.startswith("SQLITE_IOERR"):
        return StoreError(
            f"the store `{path}` cannot be read or written: disk I/O error", "look at `df -h` and `dmesg`"
        )
    return StoreError(f"the store `{path}` failed: {error}", "`ponder doctor` may know more")


def refuse_network_folder(path: Path, mounts: Sequence[tuple[str, str]] | None = None) -> None:
    """Raise StoreError when `path` lies on a network file system; `mounts` are (mount point, file system type)."""
    if mounts is None:
        mounts = [(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]
    folder = path.absolute().parent.resolve()
    holding = [(point, kind) for point, kind in mounts if folder.is_relative_to(point)]
    kind = max(holding, key=lambda mount: len(mount[0]), default=("", ""))[1]
    if kind in NETWORK_FILE_SYSTEMS:
        raise StoreError(
            f"the store `{path}` would lie on a network file system ({kind}), which can damage it", MOVE_HINT
        )


def _prepare_file(path: Path) -> bool:
    """Whether the store is new; its file exists afterwards, readable for its owner only."""
    if path.is_dir():
        raise StoreError(f"`{path}` is a folder, and the store belongs there", "move it away, or set PONDER_HOME")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except FileNotFoundError:
        raise StoreError(f"there is no folder `{path.parent}` for the store", f"run `mkdir -p {path.parent}`") from None
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise StoreError(f"`{path}` is not an ordinary file", "move it away, or set PONDER_HOME to another folder")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise StoreError(f"the folder `{path.parent}` cannot be written to", MOVE_HINT)  # the log lies beside the store
    return facts.st_size == 0


def _set_up(connection: sqlite3.Connection, path: Path, is_new: bool) -> None:
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    if is_new:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    else:
        _refuse_stranger(connection, path)
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreError(f"the file system of `{path}` cannot keep a write-ahead log", MOVE_HINT)
    connection.execute("PRAGMA synchronous = FULL")  # an acknowledgement lets the journal's copy be deleted
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {FOLD_EVERY_PAGES}")
    connection.execute("PRAGMA cache_size = -65536")


def _refuse_stranger(connection: sqlite3.Connection, path: Path) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id != APPLICATION_ID:
        raise StoreError(
            f"`{path}` is another program's SQLite file", "move it away, or set PONDER_HOME to another folder"
        )


def _pending(connection: sqlite3.Connection, path: Path, migrations: Migrations) -> list[str]:
    """The migrations that the store still needs, in order; raises StoreError when it has some that we do not know."""
    applied = [migration.name for migration in migrations.applied(Database(connection, execute_plugins=False))]
    empty = Database(memory=True, execute_plugins=False)
    known = [migration.name for migration in migrations.pending(empty)]
    empty.close()
    unknown = [name for name in applied if name not in known]
    if unknown:
        raise StoreError(
            f"the store `{path}` was written by a newer ponder (it has `{unknown[-1]}`)",
            "`pip install --upgrade ponder`, or set PONDER_HOME to another folder",
        )
    return [name for name in known if name not in applied]


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Migrations) -> None:
    pending = _pending(connection, path, migrations)
    db = Database(connection, execute_plugins=False)
    if pending and migrations.applied(db):
        _back_up(connection, path, pending[0])
    if pending:
        migrations.apply(db)


def _back_up(connection: sqlite3.Connection, path: Path, before: str) -> None:
    """Copy the store beside itself, whole and private, before it is changed; replaces an earlier try's copy."""
    backup = path.with_name(f"{path.name}.before-{before}")
    backup.unlink(missing_ok=True)
    os.close(os.open(backup, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))  # VACUUM INTO takes an empty file
    try:
        connection.execute("VACUUM INTO ?", [str(backup)])
    except BaseException:
        backup.unlink(missing_ok=True)
        raise
