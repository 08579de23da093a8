"""A store is opened, brought up to date, or refused with a sentence that helps."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from sqlite_utils import Database, Migrations

from ponder.errors import StoreError
from store import migrations as released
from store.reader import Reader
from store.schema import (
    APPLICATION_ID,
    open_for_reading,
    open_for_writing,
    refuse_network_folder,
    sqlite_version,
)
from store.writer import Writer
from tests.store.records import fill_store

NOBODY = 65534
ROOT = Path(__file__).resolve().parent.parent.parent


def test_a_store_is_opened_without_numpy_which_can_be_imported_afterwards() -> None:
    code = (
        "import sys, store.schema; from pathlib import Path; store.schema.open_for_writing(Path(sys.argv[1])); "
        "assert not {'numpy', 'pandas'} & set(sys.modules); import numpy"
    )
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", code, f"{folder}/ponder.db"], cwd=ROOT, check=True)


def refusal(path: Path) -> StoreError:
    """How the writer refuses `path`."""
    with pytest.raises(StoreError) as caught:
        Writer(path)
    assert caught.value.exit_code == 7
    assert caught.value.hint
    assert str(path.parent) in caught.value.message
    return caught.value


def test_a_new_store_is_private_synced_and_known_by_its_application_id(tmp_path: Path) -> None:
    path = tmp_path / "ponder.db"
    connection = open_for_writing(path)
    facts = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "application_id")
    }
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    connection.close()
    assert facts == {
        "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000,
        "application_id": APPLICATION_ID,
    }  # fmt: skip
    assert modes == {"ponder.db": 0o600, "ponder.db-wal": 0o600, "ponder.db-shm": 0o600}


def test_the_newer_sqlite_is_used_where_it_is_installed() -> None:
    pysqlite3 = pytest.importorskip("pysqlite3")
    assert sqlite_version() == pysqlite3.sqlite_version


def test_every_table_is_strict(tmp_path: Path) -> None:
    connection = open_for_writing(tmp_path / "ponder.db")
    tables = connection.execute(
        "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'view')"
    ).fetchall()  # a full-text index and what lies under it cannot be
    views = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'view'")]
    connection.close()
    assert len(tables) > 15
    assert [
        name
        for name, strict in tables
        if not strict and name not in views and not name.startswith(("sqlite_", "_sqlite"))
    ] == []


def test_a_second_opening_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ponder.db"
    fill_store(path, runs=1, steps=2)
    before = path.read_bytes()
    open_for_writing(path).close()
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["ponder.db"]


def test_a_file_that_is_no_sqlite_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ponder.db"
    path.write_text("once upon a time " * 100)
    assert "not a SQLite file" in refusal(path).message
    assert path.read_text() == "once upon a time " * 100


def test_somebody_elses_sqlite_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ponder.db"
    other = Database(path)
    other.execute("CREATE TABLE recipes (cake TEXT)")
    other.close()
    before = path.read_bytes()
    assert "another program's" in refusal(path).message
    assert path.read_bytes() == before


def test_a_folder_at_the_stores_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ponder.db"
    path.mkdir()
    assert "is a folder" in refusal(path).message


def test_something_that_is_no_file_at_the_stores_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ponder.db"
    os.mkfifo(path)
    assert "not an ordinary file" in refusal(path).message


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert "there is no folder" in refusal(tmp_path / "nowhere" / "ponder.db").message


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ponder.db"
    fill_store(path, runs=1, steps=2)
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))
    assert "damaged" in refusal(path).message


@pytest.mark.parametrize("is_file_there", [False, True])
def test_a_folder_that_cannot_be_written_to_is_refused(is_file_there: bool) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to everybody else
        folder = Path(name)
        if is_file_there:
            open_for_writing(folder / "ponder.db").close()
            (folder / "ponder.db").chmod(0o644)
        folder.chmod(0o555)
        result = subprocess.run(
            [sys.executable, "-c", REFUSED_WITHOUT_RIGHTS, str(folder / "ponder.db")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        folder.chmod(0o755)
    assert result.stderr == ""
    assert "cannot be" in result.stdout
    assert "hint: set PONDER_HOME" in result.stdout


REFUSED_WITHOUT_RIGHTS = f"""
import os, sys
from pathlib import Path
from ponder.errors import StoreError
from store.writer import Writer
if os.getuid() == 0:
    os.setuid({NOBODY})  # root may write anywhere
try:
    Writer(Path(sys.argv[1]))
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_a_network_file_system_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "ponder.db"
    with pytest.raises(StoreError, match="network file system"):
        refuse_network_folder(path, [("/", "ext4"), (str(tmp_path), kind)])
    refuse_network_folder(path, [("/", kind), (str(tmp_path), "ext4")])
    refuse_network_folder(path, [("/", "overlay"), (f"{tmp_path}-elsewhere", kind)])


def test_a_store_of_a_newer_ponder_is_refused_by_writer_and_reader(tmp_path: Path) -> None:
    path = tmp_path / "ponder.db"
    newer = one_migration_more()
    open_for_writing(path, newer).close()
    before = path.read_bytes()
    assert "written by a newer ponder (it has `9999_moods`)" in refusal(path).message
    with pytest.raises(StoreError, match="newer ponder"):
        Reader(path)
    assert path.read_bytes() == before


def test_an_older_store_is_copied_and_then_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "ponder.db"
    fill_store(path, runs=1, steps=2)
    with pytest.raises(StoreError, match="older than this ponder"):
        open_for_reading(path, one_migration_more())
    connection = open_for_writing(path, one_migration_more())
    assert connection.execute("SELECT count(*), max(mood) FROM runs").fetchone() == (1, "curious")
    connection.close()
    copy = tmp_path / "ponder.db.before-9999_moods"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    reader = Reader(copy)
    assert reader.samples("").total == 64
    reader.close()


def test_a_migration_that_fails_leaves_the_old_store(tmp_path: Path) -> None:
    path = tmp_path / "ponder.db"
    fill_store(path, runs=1, steps=2)
    with pytest.raises(StoreError, match="no such table"):
        open_for_writing(path, one_migration_more(and_then="DROP TABLE nothing_of_that_name"))
    writer = Writer(path)
    assert writer.head() > 0
    writer.close()
    connection = open_for_writing(path, one_migration_more())
    assert connection.execute("SELECT max(mood) FROM runs").fetchone() == ("curious",)
    connection.close()


def test_there_is_nothing_to_read_before_there_is_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store") as caught:
        Reader(tmp_path / "ponder.db")
    assert "ponder up" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def one_migration_more(and_then: str = "SELECT 1") -> Migrations:
    """What a later ponder may bring: our migrations and one more."""
    later = Migrations("ponder")
    for migration in released.MIGRATIONS.pending(Database(memory=True, execute_plugins=False)):
        later(name=migration.name)(migration.fn)

    @later(name="9999_moods")
    def moods(db: Database) -> None:
        db.execute("ALTER TABLE runs ADD COLUMN mood TEXT NOT NULL DEFAULT 'curious'")
        db.execute(and_then)

    return later
