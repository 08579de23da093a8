"""Rows of a data set, wherever they come from: JSONL, JSON, CSV, Parquet, a saved or hub data set, a Python function.

Every error names the file and the row, counted from 1 without a CSV's header. Deliberately left out: what the columns
mean (`trainer.tasks.dataset`), and sets that do not fit into memory.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from ponder.errors import RecipeError
from ponder.preference_formats.cells import Row
from ponder.row_text import refuse_bad_text
from trainer.rewards.worker import explain, load_function

PATH_KEY = "task.options.path"
SAVED = ("dataset_info.json", "dataset_dict.json", "state.json")
"""One of these lies in a folder that `datasets` has saved."""


def read_rows(path: str, *, split: str = "train", config: str = "", limit: int = 0, key: str = PATH_KEY) -> list[Row]:
    """All rows, or the first `limit`; RecipeError when they cannot be read, whose hint names the recipe's `key`."""
    try:
        rows = list(itertools.islice(_rows(path, split, config), limit or None))
        if not rows:
            raise RecipeError(f"`{path}` has no rows", f"check `{PATH_KEY}`")
    except RecipeError as error:
        error.hint = error.hint.replace(PATH_KEY, key)
        raise
    return rows


def _rows(path: str, split: str, config: str) -> Iterator[Row]:
    file = Path(path).expanduser()
    if ".py:" in path:
        return _from_function(path)
    if file.is_dir():
        return _from_hub(path, split, config, is_local=True)
    kind = file.suffix.lower()
    if kind in (".jsonl", ".ndjson", ".json", ".csv", ".parquet"):
        if not file.is_file():
            raise RecipeError(f"there is no file `{path}`", f"check `{PATH_KEY}`")
        readers = {".csv": _from_csv, ".json": _from_json, ".parquet": _from_parquet}
        return readers.get(kind, _from_jsonl)(file)
    if path.count("/") <= 1 and not path.startswith((".", "~", "/")):
        return _from_hub(path, split, config, is_local=False)
    raise RecipeError(f"there is no data at `{path}`", "it may be .jsonl, .json, .csv, .parquet, a folder or a hub id")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise RecipeError(f"`{file}`, line {line}: this is no UTF-8", "save the file as UTF-8") from None
    except OSError as error:
        raise RecipeError(f"`{file}` cannot be read: {error.strerror}", f"check `{PATH_KEY}`") from None


def _from_jsonl(file: Path) -> Iterator[Row]:
    lines = (line for line in _text(file).split("\n") if line.strip())
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            where = f"{error.msg}, at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else error
            raise RecipeError(f"`{file}`, row {number}: this is no JSON: {where}", "one JSON object a line") from None
        yield _as_row(row, str(file), number)


def _from_json(file: Path) -> Iterator[Row]:
    try:
        rows = json.loads(_text(file))
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"`{file}` is no JSON: {error}", "one list of objects, or name it .jsonl") from None
    if not isinstance(rows, list):
        raise RecipeError(f"`{file}` holds no list", "one list of objects, or name it .jsonl")
    for number, row in enumerate(rows, 1):
        yield _as_row(row, str(file), number)


def _from_csv(file: Path) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(_text(file), newline=""), strict=True)
    number = 0
    try:
        header = next(reader, [])
        if twice := next((name for place, name in enumerate(header) if name in header[:place]), None):
            raise RecipeError(f"`{file}` has the column `{twice}` twice", "name each column once")
        for number, fields in enumerate((fields for fields in reader if fields), 1):
            if len(fields) != len(header):
                raise RecipeError(
                    f"`{file}`, row {number} (line {reader.line_num}) has {len(fields)} fields, not {len(header)}",
                    "quote fields that hold a comma or a line break",
                )
            yield dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise RecipeError(
            f"`{file}`, row {number + 1} (line {reader.line_num}): {error}", 'quotes inside a field are doubled: ""'
        ) from None


def _from_parquet(file: Path) -> Iterator[Row]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise RecipeError(f"`{file}` needs pyarrow", 'pip install "ponder[data]"') from None
    try:
        yield from cast("list[Row]", parquet.read_table(file).to_pylist())
    except (pyarrow.ArrowException, OSError) as error:
        raise RecipeError(f"`{file}` cannot be read: {' '.join(str(error).split())[:200]}", "check the file") from None


def _from_hub(path: str, split: str, config: str, *, is_local: bool) -> Iterator[Row]:
    try:
        import datasets
    except ImportError:
        raise RecipeError(f"the data set `{path}` needs datasets", 'pip install "ponder[hub]"') from None
    datasets.disable_progress_bars()
    try:
        if is_local and any((Path(path) / name).is_file() for name in SAVED):
            loaded = datasets.load_from_disk(path)
            if isinstance(loaded, Mapping):
                loaded = loaded[split]
        else:
            loaded = datasets.load_dataset(path, config or None, split=split)
    except Exception as error:  # a border: the library raises what its many readers raise
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise RecipeError(
            f"the data set `{path}` cannot be loaded: {said}",
            "check `path`, `split` and `config` in `[task.options]`; a local copy needs no network",
        ) from error
    yield from cast("Iterator[Row]", iter(loaded))


def _from_function(path: str) -> Iterator[Row]:
    number = 0
    try:
        function = load_function(path)
        for number, row in enumerate(cast("Iterator[object]", function()), 1):
            yield _as_row(row, path, number)
    except RecipeError:
        raise
    except Exception as error:  # a border: the user's own code
        where = f", row {number + 1}" if number else ""
        raise RecipeError(
            f"`{path}`{where}: {explain(error)}", "it is called without arguments, and gives rows"
        ) from error


def _as_row(row: object, source: str, number: int) -> Row:
    if not isinstance(row, Mapping):
        raise RecipeError(
            f"`{source}`, row {number}: this is no object but {type(row).__name__}", "a row names its columns"
        )
    return row


def cell(row: Row, column: str, place: str) -> str:
    """The text in a column; numbers are texts too. RecipeError when there is none."""
    if column not in row:
        there = ", ".join(f"`{name}`" for name in row)
        raise RecipeError(
            f"{place} has no column `{column}`; its columns are {there}", "give every row the same columns"
        )
    value = row[column]
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise RecipeError(f"{place}: `{column}` is {type(value).__name__}, and not a text", "one text or number a cell")
    if isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"{place}: `{column}` is {value}, and no number", "fill it in, or leave the row out")
    text = str(value)
    if not text.strip():
        raise RecipeError(f"{place}: `{column}` is empty", "fill it in, or leave the row out")
    refuse_bad_text(text, column, place)
    return text
