"""A disk that is full at the N-th write of the journal: the record waits, the file stays whole, nothing is lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from daemon import journal_link
from daemon.journal_link import JournalLink, read_head
from ponder import journal
from ponder.errors import StoreError
from ponder.events import StepDone
from ponder.journal import read_records

WRITES = 200


class FullAt:
    """The `os` of a journal whose write number `full_at`, and the one that is tried after it, stop half-way."""

    def __init__(self, full_at: int) -> None:
        self.full_at, self.writes, self.refusals = full_at, 0, 4

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def write(self, descriptor: int, data: bytes) -> int:
        self.writes += 1
        if self.writes < self.full_at or not self.refusals:
            return os.write(descriptor, data)
        self.refusals -= 1
        if self.refusals % 2:
            return os.write(descriptor, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_journal_goes_on_by_itself_whichever_write_finds_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_link, "ROOM_WAIT_S", 0.0)
    for full_at in range(2, WRITES + 1):
        path = tmp_path / f"{full_at}.pj"
        disk = FullAt(full_at)
        monkeypatch.setattr(journal, "os", disk)
        link = JournalLink(path, 1)
        for step in range(1, full_at + 3):
            link.emit(StepDone(step, step, {}))
        link.close()
        assert disk.refusals == 0
        seqs = [read_head(payload).seq for payload, _ in read_records(path)]
        assert seqs == list(range(1, full_at + 3))


def test_a_journal_that_finds_no_room_for_its_first_bytes_says_so_and_can_be_opened_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "os", FullAt(1))
    with pytest.raises(StoreError, match="cannot be written"):
        JournalLink(tmp_path / "j.pj", 1)
    monkeypatch.setattr(journal, "os", os)
    link = JournalLink(tmp_path / "j.pj", 1)
    link.emit(StepDone(1, 1, {}))
    link.close()
    assert len(list(read_records(tmp_path / "j.pj"))) == 1
