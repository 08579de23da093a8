"""A second copy of every ranking in its run's folder, from which a lost store gets them back.

    a ranking is committed ──► appended to runs/RUN/rankings.pj; what was missed is appended with the next one

The store alone says what is true, and the promise to an annotator is its commit; a book that cannot be written is a
line in the daemon's log. Each entry holds all that the ranking holds, texts included. Deliberately left out: making a
store anew (`daemon.rebuild`), and exchange with other programs (`ponder export rankings`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from msgspec import Struct

from daemon.log import say
from ponder.errors import StoreError
from ponder.journal import JournalWriter, read_records
from ponder.paths import Paths, make_private_folder
from ponder.wire import RankingRow
from store.reader import Reader

PAGE = 200


class Entry(Struct, frozen=True, omit_defaults=True):
    """A ranking that was kept, or taken back."""

    kept: RankingRow | None = None
    undone: str = ""
    """The ranking that was taken back."""
    undo: str = ""
    """The request that took it back."""
    at_us: int = 0
    by: str = ""


@dataclass
class Book:
    """One run's, open for writing."""

    writer: JournalWriter
    kept: set[str] = field(default_factory=set)
    undone: set[str] = field(default_factory=set)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def read_book(path: Path) -> Iterator[Entry]:
    """All whole entries, oldest first; one that cannot be read is passed over and said."""
    for payload, _ in read_records(path):
        try:
            yield _decoder.decode(payload)
        except msgspec.DecodeError as error:
            say(f"an entry of {path} cannot be read: {error}")


class LabelBook:
    """The books of all runs that were ranked since the daemon began. Used from the daemon's one thread."""

    def __init__(self, paths: Paths, reader: Reader) -> None:
        self._paths, self._reader = paths, reader
        self._books: dict[str, Book] = {}

    def catch_up(self, run: str) -> None:
        """Append what the store has and the run's book has not; a full disk is said, and made up for later."""
        try:
            book = self._books.get(run) or self._open(run)
            self._append(run, book)
        except (StoreError, OSError) as error:
            say(f"{run}: the second copy of its rankings was not written: {error}")

    def _open(self, run: str) -> Book:
        path = self._paths.rankings(run)
        make_private_folder(path.parent)
        book = Book(JournalWriter(path))
        for entry in read_book(path):
            _remember(book, entry)
        self._books[run] = book
        return book

    def _append(self, run: str, book: Book) -> None:
        names, undone = self._reader.ranking_names(run)
        missing = [number for number, ranking in names if ranking not in book.kept]
        after = missing[0] - 1 if missing else None
        while after is not None:
            rows = self._reader.rankings(run, after, PAGE, with_undone=True, with_scored=True).rows
            for row in rows:
                if row.ranking not in book.kept:
                    self._write(book, Entry(kept=row))
            after = rows[-1].id if len(rows) == PAGE else None
        for ranking, undo, at_us, by in undone:
            if ranking not in book.undone:
                self._write(book, Entry(undone=ranking, undo=undo, at_us=at_us, by=by))

    def _write(self, book: Book, entry: Entry) -> None:
        book.writer.append(_encoder.encode(entry))
        _remember(book, entry)


def _remember(book: Book, entry: Entry) -> None:
    if entry.kept is not None:
        book.kept.add(entry.kept.ranking)
    if entry.undone:
        book.undone.add(entry.undone)
