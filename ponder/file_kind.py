"""What kind of file rows go to or come from: JSONL, JSON, CSV, Parquet; `.gz` behind the name packs all but the last.

    answers.csv.gz         the ending says it
    answers.txt --format   a word says it, where the ending says nothing

Also how such a file is written: beside its place, and moved there when it is whole. Deliberately left out: what is in
it (`ponder.table_file`, `ponder.preference_formats.files`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple  # Any: pyarrow is optional and carries no types

from ponder.errors import PonderError, UsageError


class FileKind(StrEnum):
    """How rows are written."""

    JSONL = "jsonl"
    """A row a line."""
    JSON = "json"
    """One list of rows."""
    CSV = "csv"
    PARQUET = "parquet"


class Written(NamedTuple):
    """How a file is written."""

    kind: FileKind
    is_packed: bool


ELSEWHERE = "choose another place with `-o`"
ENDINGS = {
    f".{kind}{packed}": Written(kind, bool(packed))
    for kind in FileKind
    for packed in ("", ".gz")
    if not (packed and kind is FileKind.PARQUET)
}
"""Every ending that a file may have, and what it says."""


def kind_of(path: Path, named: str | None = "") -> Written:
    """How the file is written: as its ending or `named` says, JSONL where neither does; raises UsageError.

    `named` is None where there is no `--format` to say it with.

    >>> kind_of(Path("a.csv.gz"))
    Written(kind=<FileKind.CSV: 'csv'>, is_packed=True)
    >>> kind_of(Path("a.txt"), "parquet").kind
    <FileKind.PARQUET: 'parquet'>
    """
    if named and named not in list(FileKind):
        raise UsageError(f"there is no file format `{named}`", f"`--format` takes {', '.join(FileKind)}")
    ending = next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), "")
    if ending:
        if named and named != ENDINGS[ending].kind:
            raise UsageError(f"`{path}` ends in `{ending}`, and `--format` says `{named}`", "leave one of them out")
        return ENDINGS[ending]
    if named:
        return Written(FileKind(named), is_packed=False)
    if not path.suffix:
        return ENDINGS[".jsonl"]
    hint = f"it may end in {', '.join(ENDINGS)}"
    option = "" if named is None else f"; or `--format` says which it is: {', '.join(FileKind)}"
    raise UsageError(f"`{path}` is of no kind that is known", hint + option)


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Inside, a file to write; then it is in its place. PonderError when that fails, and the place is as it was."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield beside
        beside.replace(path)
    except OSError as error:
        said = os.strerror(error.errno) if error.errno else error  # pyarrow names the file beside it
        raise PonderError(f"`{path}` cannot be written: {said}", ELSEWHERE) from error
    finally:
        beside.unlink(missing_ok=True)


def find_pyarrow() -> tuple[Any, Any]:
    """pyarrow and its Parquet; UsageError without the package."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UsageError("Parquet needs pyarrow", 'pip install "ponder[data]"') from None
    return pyarrow, parquet
