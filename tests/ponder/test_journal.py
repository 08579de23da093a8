"""A journal is whole up to its last whole record, however its writer died."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ponder.errors import StoreError
from ponder.journal import MAGIC, JournalWriter, read_records

payloads = st.lists(st.binary(max_size=40), min_size=1, max_size=8)
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


def write(path: Path, records: list[bytes]) -> None:
    journal = JournalWriter(path)
    for record in records:
        journal.append(record)
    journal.close()


def read(path: Path) -> list[bytes]:
    return [payload for payload, _ in read_records(path)]


@given(payloads, payloads)
@in_one_folder
def test_what_was_written_is_read_back_also_over_several_lives(
    tmp_path: Path, first: list[bytes], second: list[bytes]
) -> None:
    path = tmp_path / "j"
    path.unlink(missing_ok=True)
    write(path, first)
    write(path, second)
    assert read(path) == first + second


@given(payloads, st.data())
@in_one_folder
def test_a_torn_tail_is_cut_and_what_came_before_stays(
    tmp_path: Path, records: list[bytes], data: st.DataObject
) -> None:
    path = tmp_path / "j"
    path.unlink(missing_ok=True)
    write(path, records)
    os.truncate(path, data.draw(st.integers(0, path.stat().st_size)))
    left = read(path)
    assert left == records[: len(left)]
    write(path, [b"after"])
    assert read(path) == [*left, b"after"]


@given(payloads, st.data())
@in_one_folder
def test_a_changed_byte_ends_the_reading_before_it(tmp_path: Path, records: list[bytes], data: st.DataObject) -> None:
    path = tmp_path / "j"
    path.unlink(missing_ok=True)
    write(path, records)
    whole = bytearray(path.read_bytes())
    place = data.draw(st.integers(len(MAGIC), len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(whole)
    left = read(path)
    assert left == records[: len(left)] and len(left) < len(records)


def test_reading_goes_on_from_an_offset(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, [b"a", b"b", b"c"])
    offsets = [offset for _, offset in read_records(path)]
    assert [payload for payload, _ in read_records(path, offsets[0])] == [b"b", b"c"]
    assert list(read_records(path, offsets[-1])) == []


def test_a_missing_journal_has_no_records_and_a_stranger_is_refused(tmp_path: Path) -> None:
    assert read(tmp_path / "nothing") == []
    stranger = tmp_path / "stranger"
    stranger.write_bytes(b"something else entirely")
    for use in (read, JournalWriter):
        with pytest.raises(StoreError, match="not a ponder journal"):
            use(stranger)
    assert stranger.read_bytes() == b"something else entirely"


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow beyond 1000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_the_journal_whole(tmp_path: Path, small_disk: None) -> None:  # noqa: ARG001
    path = tmp_path / "j"
    journal = JournalWriter(path)
    journal.append(b"x" * 700)
    with pytest.raises(StoreError, match="cannot be written"):
        journal.append(b"y" * 700)
    journal.append(b"z" * 100)
    journal.close()
    assert read(path) == [b"x" * 700, b"z" * 100]
