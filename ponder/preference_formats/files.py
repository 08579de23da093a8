"""Rows in files: JSONL, JSON, both also in gzip, and Parquet.

Whole files: they are written beside their place and moved there when they are written. A lone surrogate in a text that
is read is replaced and counted (one that is to be written was before, `ranked.mend`). Deliberately left out: hubs, and
CSV, which has no lists.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast  # Any: parsed JSON

from ponder.errors import PonderError, RecipeError, UsageError
from ponder.preference_formats.cells import Row
from ponder.preference_formats.ranked import SURROGATES, Notes
from ponder.row_text import replace_surrogates

ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")


def ending_of(path: Path) -> str:
    """Which kind of file it is; raises UsageError."""
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if path.name.lower().endswith(ending):
            return ending
    raise UsageError(f"`{path}` is of no kind that is known", f"it may end in {', '.join(ENDINGS)}")


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write them; PonderError when that fails, and the file is as it was."""
    ending = ending_of(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if ending == ".parquet":
            _write_parquet(beside, rows)
        else:
            text = _to_text(ending, rows).encode()
            beside.write_bytes(gzip.compress(text, mtime=0) if ending.endswith(".gz") else text)
        beside.replace(path)
    except OSError as error:
        raise PonderError(f"`{path}` cannot be written: {error.strerror}", "choose another place with `-o`") from error
    finally:
        beside.unlink(missing_ok=True)


def read_rows(path: Path, notes: Notes) -> list[tuple[Row, str]]:
    """(row, how errors call it) of every row; RecipeError when they cannot be read."""
    ending = ending_of(path)
    try:
        if ending == ".parquet":
            rows = list(_read_parquet(path))
        else:
            raw = path.read_bytes()
            text = (gzip.decompress(raw) if ending.endswith(".gz") else raw).decode("utf-8-sig")
            rows = list(_from_text(path, ending, text))
    except UnicodeDecodeError:
        raise RecipeError(f"`{path}` is no UTF-8", "save the file as UTF-8") from None
    except (OSError, EOFError) as error:
        raise RecipeError(f"`{path}` cannot be read: {error}", "check the file") from None
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


def _to_text(ending: str, rows: Sequence[Row]) -> str:
    if ending.startswith(".jsonl"):
        return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    return json.dumps(rows, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _from_text(path: Path, ending: str, text: str) -> Iterator[Any]:
    """A file in JSON is a list of rows; else each line is one. Only a line feed ends a line."""
    lines = [line for line in text.split("\n") if line.strip()] if ending.startswith(".jsonl") else [text]
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"`{path}`, row {number}: this is no JSON: {error}", "one JSON object a line") from None
        if ending.startswith(".jsonl"):
            yield row
        elif isinstance(row, list):
            yield from row
        else:
            raise RecipeError(f"`{path}` holds no list", "one list of objects, or name it .jsonl")


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UsageError("Parquet needs pyarrow", 'pip install "ponder[data]"') from None
    return pyarrow, parquet


def _write_parquet(path: Path, rows: Sequence[Row]) -> None:
    pyarrow, parquet = _pyarrow()
    try:
        parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    except pyarrow.ArrowException as error:
        said = " ".join(str(error).split())[:200]
        raise PonderError(f"Parquet cannot hold these rows: {said}", "write `.jsonl`") from error


def _read_parquet(path: Path) -> Iterator[Any]:
    pyarrow, parquet = _pyarrow()
    try:
        yield from parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise RecipeError(f"`{path}` cannot be read: {' '.join(str(error).split())[:200]}", "check the file") from None
