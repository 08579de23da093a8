"""A table as a file, written page by page: JSONL, JSON, CSV, Parquet.

    add(rows) ──► a page: lines, or a row group of a Parquet file        close ──► the file is in its place

Memory holds a page, whatever the table's length. In CSV a cell that is a list or a table is JSON, and nothing at all is
an empty cell. Deliberately left out: which kind a file is (`ponder.file_kind`), what stands in a table
(`ponder.commands.export`), and reading.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast  # Any: pyarrow is optional and carries no types

import msgspec

from ponder.file_kind import FileKind, Written, find_pyarrow, written_beside

Cells = Mapping[str, object] | msgspec.Struct
"""A row by its columns' names; JSONL leaves out what it does not name."""
Add = Callable[[Sequence[Cells]], None]

KINDS: dict[str, Callable[[Any], Any]] = {
    "text": lambda pyarrow: pyarrow.string(),
    "whole": lambda pyarrow: pyarrow.int64(),
    "number": lambda pyarrow: pyarrow.float64(),
    "truth": lambda pyarrow: pyarrow.bool_(),
    "claims": lambda pyarrow: pyarrow.list_(
        pyarrow.struct([("says", pyarrow.string()), ("start", pyarrow.int64()), ("end", pyarrow.int64())])
    ),
}
"""What a column may hold, and pyarrow's type for it."""
EMPTY: dict[str, object] = {"text": "", "claims": []}
"""What a row means that does not name its column; of other kinds it is not known."""


@contextmanager
def table_file(path: Path, columns: Mapping[str, str], written: Written) -> Iterator[Add]:
    """Inside, pages of rows are taken; PonderError when that fails, and the file is as it was.

    `columns` are names with their kind, of `KINDS`; `written` is what `kind_of` says of the file.
    """
    with written_beside(path) as beside:
        if written.kind is FileKind.PARQUET:
            with _parquet(beside, columns) as add:
                yield add
            return
        write = {FileKind.JSONL: _jsonl, FileKind.JSON: _json, FileKind.CSV: _csv}[written.kind]
        with _opened(beside, is_packed=written.is_packed) as file, write(file, columns) as add:
            yield add


@contextmanager
def _opened(path: Path, *, is_packed: bool) -> Iterator[BinaryIO]:
    with path.open("wb") as raw:
        if not is_packed:
            yield raw
            return
        with gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed:
            yield cast(BinaryIO, packed)


@contextmanager
def _jsonl(file: BinaryIO, columns: Mapping[str, str]) -> Iterator[Add]:  # noqa: ARG001  # a line names its own columns
    yield lambda rows: file.writelines(msgspec.json.encode(row) + b"\n" for row in rows)


@contextmanager
def _json(file: BinaryIO, columns: Mapping[str, str]) -> Iterator[Add]:  # noqa: ARG001  # a row names its own columns
    before = b"[\n"

    def add(rows: Sequence[Cells]) -> None:
        nonlocal before
        for row in rows:
            file.write(before + msgspec.json.encode(row))
            before = b",\n"

    yield add
    file.write(b"\n]\n" if before.startswith(b",") else b"[]\n")


@contextmanager
def _csv(file: BinaryIO, columns: Mapping[str, str]) -> Iterator[Add]:
    with io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
        writer = csv.DictWriter(text, list(columns))
        writer.writeheader()
        yield lambda rows: writer.writerows(
            {name: _cell(value) for name, value in row.items()} for row in _in_columns(rows, columns)
        )


def _in_columns(rows: Sequence[Cells], columns: Mapping[str, str]) -> Iterator[dict[str, object]]:
    for row in rows:
        cells: dict[str, object] = msgspec.to_builtins(row)
        yield {name: cells.get(name, EMPTY.get(kind)) for name, kind in columns.items()}


def _cell(value: object) -> object:
    return value if value is None or isinstance(value, str | int | float) else msgspec.json.encode(value).decode()


@contextmanager
def _parquet(path: Path, columns: Mapping[str, str]) -> Iterator[Add]:
    pyarrow, parquet = find_pyarrow()
    schema = pyarrow.schema([(name, KINDS[kind](pyarrow)) for name, kind in columns.items()])

    def add(rows: Sequence[Cells]) -> None:
        if rows:
            writer.write_table(pyarrow.Table.from_pylist(list(_in_columns(rows, columns)), schema))

    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        yield add
