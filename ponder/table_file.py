"""A table as a file, written page by page: JSONL (also in gzip), CSV, Parquet.

    add(rows) ──► a page: lines, or a row group of a Parquet file        close ──► the file is in its place

The name's ending says which it is. Memory holds a page, whatever the table's length; the file is written beside its
place and moved there when it is whole. In CSV a cell that is a list or a table is JSON, and nothing at all is an empty
cell. Deliberately left out: what stands in a table (`ponder.commands.export`), and reading.
"""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any  # Any: pyarrow is optional and carries no types

import msgspec

from ponder.errors import PonderError, UsageError

ENDINGS = (".jsonl", ".jsonl.gz", ".csv", ".parquet")

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


def ending_of(path: Path) -> str:
    """Which kind of file it is, JSONL where the name has no ending; raises UsageError."""
    if not path.suffix:
        return ".jsonl"
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if path.name.lower().endswith(ending):
            return ending
    raise UsageError(f"`{path}` is of no kind that is known", f"it may end in {', '.join(ENDINGS)}")


@contextmanager
def table_file(path: Path, columns: Mapping[str, str]) -> Iterator[Add]:
    """Inside, pages of rows are taken; PonderError when that fails, and the file is as it was.

    `columns` are names with their kind, of `KINDS`.
    """
    writers = {".parquet": _parquet, ".csv": _csv, ".jsonl": _jsonl, ".jsonl.gz": _packed}
    write = writers[ending_of(path)]
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with write(beside, columns) as add:
            yield add
        beside.replace(path)
    except OSError as error:
        raise PonderError(f"`{path}` cannot be written: {error.strerror}", "choose another place with `-o`") from error
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def _jsonl(path: Path, columns: Mapping[str, str]) -> Iterator[Add]:  # noqa: ARG001  # a line names its own columns
    with path.open("wb") as file:
        yield lambda rows: file.writelines(msgspec.json.encode(row) + b"\n" for row in rows)


@contextmanager
def _packed(path: Path, columns: Mapping[str, str]) -> Iterator[Add]:  # noqa: ARG001  # the same
    with path.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as file:
        yield lambda rows: file.writelines(msgspec.json.encode(row) + b"\n" for row in rows)


@contextmanager
def _csv(path: Path, columns: Mapping[str, str]) -> Iterator[Add]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
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
    pyarrow, parquet = _pyarrow()
    schema = pyarrow.schema([(name, KINDS[kind](pyarrow)) for name, kind in columns.items()])

    def add(rows: Sequence[Cells]) -> None:
        if rows:
            writer.write_table(pyarrow.Table.from_pylist(list(_in_columns(rows, columns)), schema))

    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        yield add


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UsageError("Parquet needs pyarrow", 'pip install "ponder[data]"') from None
    return pyarrow, parquet
