"""A disk that fills, a stranger's lock: nothing half written, readers go on, and it works again afterwards."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlite_utils import Database

from ponder.errors import StoreError
from store import schema
from store import writer as writer_module
from store.reader import Reader
from store.writer import Writer
from tests.store.contents import contents
from tests.store.records import recipe_text, run_records

RECORDS = run_records(30, 4, 8)
HALF = len(RECORDS) // 2


def half_filled(path: Path) -> tuple[Writer, str]:
    writer = Writer(path)
    run = writer.submit_run("submit", recipe_text(), "", "")
    writer.commit_records(run, RECORDS[:HALF])
    return writer, run


def test_a_full_store_keeps_what_it_has_and_goes_on_when_there_is_room(store_path: Path) -> None:
    writer, run = half_filled(store_path)
    reader = Reader(store_path)
    before = contents(store_path)
    pages = writer._connection.execute("PRAGMA page_count").fetchone()[0]
    writer._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreError, match="the disk is full") as caught:
        writer.commit_records(run, RECORDS[HALF:])
    assert caught.value.code == "disk_full"
    assert writer.health() == caught.value.message
    assert contents(store_path) == before
    assert writer.last_seq(run) == HALF
    assert reader.samples(run).total == len(before["rollouts"])
    writer._connection.execute("PRAGMA max_page_count = 1000000")
    assert writer.commit_records(run, RECORDS[HALF:]) == len(RECORDS)
    assert writer.health() == ""
    assert reader.run(run).row.step == 30
    reader.close()
    writer.close()


FULL_DISK = """
import resource, sys
from pathlib import Path
from ponder.errors import StoreError
from store.reader import Reader
from store.writer import Writer
from tests.store.records import recipe_text, run_records

records = run_records(30, 4, 8)
writer = Writer(Path(sys.argv[1]))
run = writer.submit_run("submit", recipe_text(), "", "")
reader = Reader(Path(sys.argv[1]))
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
refusals = 0
for limit in range(0, 3_000_000, 40_000):  # no file may grow past it: fails at another write every time
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    last = writer.last_seq(run)
    try:
        last = writer.commit_records(run, records[last:last + 12])
    except StoreError:
        refusals += 1
        assert writer.health()
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert writer.last_seq(run) == last, (limit, last)
    assert len([e for e in reader.events(0, run).events[2:]]) == last
assert refusals > 3, refusals
assert writer.commit_records(run, records) == len(records)
assert writer.health() == ""
assert reader.run(run).row.step == 30
assert reader._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
print("whole after", refusals)
"""


def test_writes_that_fail_anywhere_leave_whole_transactions_only(store_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(store_path)], capture_output=True, text=True, timeout=100, check=False
    )
    assert result.stderr == ""
    assert result.stdout.startswith("whole after")
    clean = store_path.with_name("clean.db")
    writer = Writer(clean)
    run = writer.submit_run("submit", recipe_text(), "", "")
    writer.commit_records(run, RECORDS)
    writer.close()
    told_by_clock = ("runs", "commands", "events")
    assert contents(store_path, told_by_clock) == contents(clean, told_by_clock)


def test_a_strangers_lock_is_an_error_with_a_code_and_passes(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_TIMEOUT_MS", 20)
    writer, run = half_filled(store_path)
    stranger = Database(store_path)
    stranger.conn.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="another program is writing") as caught:
        writer.commit_records(run, RECORDS[HALF:])
    assert caught.value.code == "locked"
    assert writer.last_seq(run) == HALF
    stranger.conn.rollback()
    stranger.close()
    assert writer.commit_records(run, RECORDS[HALF:]) == len(RECORDS)
    writer.close()


def test_a_mistake_inside_a_transaction_takes_all_of_it_back(writer: Writer, store_path: Path) -> None:
    run = writer.submit_run("submit", recipe_text(), "", "")
    before = contents(store_path)
    with pytest.raises(AttributeError):
        writer.commit_records(run, [*RECORDS[:5], None])  # type: ignore[list-item]  # a bug of ours, on purpose
    assert contents(store_path) == before
    assert writer.health() == ""
    assert writer.commit_records(run, RECORDS) == len(RECORDS)


def test_a_reader_cannot_write(writer: Writer, store_path: Path) -> None:
    assert writer.head() == 0
    reader = Reader(store_path)
    with pytest.raises(StoreError, match="cannot be written to"), reader._snapshot() as snapshot:
        snapshot.execute("DELETE FROM runs")
    reader.close()


def test_a_long_reader_neither_waits_nor_makes_wait(writer: Writer, store_path: Path) -> None:
    run = writer.submit_run("submit", recipe_text(), "", "")
    writer.commit_records(run, RECORDS[:HALF])
    slow, quick = Reader(store_path), Reader(store_path)
    with slow._snapshot() as snapshot:
        (before,) = snapshot.execute("SELECT count(*) FROM events").fetchone()
        writer.commit_records(run, RECORDS[HALF:])
        writer.tidy()
        assert snapshot.execute("SELECT count(*) FROM events").fetchone() == (before,)
        assert len(quick.events(0).events) == len(RECORDS) + 2
    assert slow.events(0) == quick.events(0)
    slow.close()
    quick.close()


def fill_log(writer: Writer, run: str) -> None:
    """Commit so much that SQLite would start its log anew, if nobody read."""
    for _ in range(4):
        last = writer.last_seq(run)
        writer.commit_records(run, [replace(record, seq=last + place) for place, record in enumerate(RECORDS, start=1)])


def test_a_long_log_is_cut_as_soon_as_those_who_read_now_have_ended(writer: Writer, store_path: Path) -> None:
    run = writer.submit_run("submit", recipe_text(), "", "")
    log, reader = store_path.with_name("ponder.db-wal"), Reader(store_path)
    with ExitStack() as reading:
        snapshot = reading.enter_context(reader._snapshot())
        assert snapshot.execute("SELECT count(*) FROM runs").fetchone() == (1,)
        fill_log(writer, run)
        length = log.stat().st_size
        writer.tidy(length + 1)
        assert log.stat().st_size == length
        ending = threading.Timer(0.02, reading.close)
        ending.start()
        writer.tidy(length - 1)
        ending.join()
    assert log.stat().st_size == 0
    assert reader.run(run).rollouts == 30 * 4 * 8
    reader.close()


def test_a_reader_without_an_end_is_told_and_waited_for_a_moment_only(
    writer: Writer, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "LONG_LOG_BYTES", 1 << 20)
    run = writer.submit_run("submit", recipe_text(), "", "")
    reader = Reader(store_path)
    with reader._snapshot() as snapshot:
        assert snapshot.execute("SELECT count(*) FROM runs").fetchone() == (1,)
        fill_log(writer, run)
        assert "reads the store without an end" in writer.health()
        began = time.monotonic()
        writer.tidy(1 << 16)
        assert time.monotonic() - began < 2
        writer.accept_command("pause", run, "pause")
    writer.tidy(1 << 16)
    assert writer.health() == ""
    assert store_path.with_name("ponder.db-wal").stat().st_size == 0
    reader.close()
