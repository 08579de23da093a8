"""Rows in files, whole: JSONL, JSON, Parquet, and CSV where every cell is plain.

A lone surrogate in a text that is read is replaced and counted (one that is to be written was before, `ranked.mend`).
Deliberately left out: which kind a file is (`ponder.file_kind`), hubs, and reading CSV, which has no numbers.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast  # Any: parsed JSON

from ponder.errors import PonderError, RecipeError, UsageError
from ponder.file_kind import FileKind, find_pyarrow, kind_of, written_beside
from ponder.preference_formats.cells import Row
from ponder.preference_formats.ranked import SURROGATES, Notes
from ponder.row_text import replace_surrogates


def write_rows(path: Path, rows: Sequence[Row], named: str = "") -> None:
    """Write them, as the name's ending or `named` says; UsageError where such a file cannot hold them.

    PonderError when writing fails, and the file is as it was.
    """
    kind, is_packed = kind_of(path, named)
    with written_beside(path) as beside:
        if kind is FileKind.PARQUET:
            _write_parquet(beside, rows)
        else:
            text = _to_text(kind, rows).encode()
            beside.write_bytes(gzip.compress(text, mtime=0) if is_packed else text)


def read_rows(path: Path, notes: Notes) -> list[tuple[Row, str]]:
    """(row, how errors call it) of every row; RecipeError when they cannot be read."""
    kind, is_packed = kind_of(path, None)
    if kind is FileKind.CSV:
        raise UsageError(
            f"`{path}` is CSV, which has neither lists nor numbers", "rankings come in from JSONL, JSON or Parquet"
        )
    try:
        if kind is FileKind.PARQUET:
            rows = list(_read_parquet(path))
        else:
            raw = path.read_bytes()
            text = (gzip.decompress(raw) if is_packed else raw).decode("utf-8-sig")
            rows = list(_from_text(path, kind, text))
    except UnicodeDecodeError:
        raise RecipeError(f"`{path}` is no UTF-8", "save the file as UTF-8") from None
    except (OSError, EOFError) as error:
        said = getattr(error, "strerror", None) or error
        raise RecipeError(f"`{path}` cannot be read: {said}", "check the file") from None
    if not rows:
        raise RecipeError(f"`{path}` has no rows", "check the file")
    found = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise RecipeError(f"`{path}`, row {number}: this is no object", "a row names its columns")
        clean, count = replace_surrogates(row)
        notes.count(SURROGATES, count)
        found.append((cast(Row, clean), f"`{path}`, row {number}"))
    return found


def _to_text(kind: FileKind, rows: Sequence[Row]) -> str:
    if kind is FileKind.CSV:
        return _to_csv(rows)
    if kind is FileKind.JSONL:
        return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    return json.dumps(rows, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _to_csv(rows: Sequence[Row]) -> str:
    columns = dict.fromkeys(name for row in rows for name in row)
    nested = next((name for row in rows for name, cell in row.items() if isinstance(cell, list | dict)), "")
    if nested:
        raise UsageError(
            f"`{nested}` holds lists, which CSV does not have", "`--as trl-text` is flat, or write `.jsonl`"
        )
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _from_text(path: Path, kind: FileKind, text: str) -> Iterator[Any]:
    """A file in JSON is a list of rows; else each line is one. Only a line feed ends a line."""
    lines = [line for line in text.split("\n") if line.strip()] if kind is FileKind.JSONL else [text]
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"`{path}`, row {number}: this is no JSON: {error}", "one JSON object a line") from None
        if kind is FileKind.JSONL:
            yield row
        elif isinstance(row, list):
            yield from row
        else:
            raise RecipeError(f"`{path}` holds no list", "one list of objects, or name it .jsonl")


def _write_parquet(path: Path, rows: Sequence[Row]) -> None:
    pyarrow, parquet = find_pyarrow()
    try:
        parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    except pyarrow.ArrowException as error:
        said = " ".join(str(error).split())[:200]
        raise PonderError(f"Parquet cannot hold these rows: {said}", "write `.jsonl`") from error


def _read_parquet(path: Path) -> Iterator[Any]:
    pyarrow, parquet = find_pyarrow()
    try:
        yield from parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise RecipeError(f"`{path}` cannot be read: {' '.join(str(error).split())[:200]}", "check the file") from None
