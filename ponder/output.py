"""How commands speak: data on stdout, talk on stderr, one way to show an error.

Everything printed here passes `safe_text` first, so that no text of a model, a prompt or a name can reach a terminal
raw. JSON keeps every character, but escapes all that is not printable ASCII, which is as harmless and loses nothing.
Deliberately left out: what is said (`ponder.commands`), colours beyond Rich's own, and the screens (`tui`).
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from ponder.errors import PonderError
from ponder.safe_text import cell_width, safe_line, safe_text

SCHEMA = 1
"""The number in every JSON document and line; goes up when a program that reads them would have to change."""

PIPE_EXIT_CODE = 141
"""128 + SIGPIPE: the reader of stdout has gone, as with `ponder ls | head -1`."""


class Interrupted(Exception):
    """Ctrl-C came while something was waited for; `message` says what goes on without us."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class Column:
    """One column of a table; numbers stand right, spare columns give way on a narrow terminal, the last first."""

    title: str
    is_number: bool = False
    is_spare: bool = False


def say(text: str) -> None:
    """Talk: a line for the person, on stderr."""
    print(safe_text(text), file=sys.stderr, flush=True)


def write_over(text: str) -> None:
    """Talk on a terminal: a line that the next one is written over, cut to its width; empty takes it away."""
    room = shutil.get_terminal_size().columns - 1
    widths = itertools.accumulate(map(cell_width, line := safe_line(text)))
    sys.stderr.write(f"\r\x1b[K{line[: sum(width <= room for width in widths)]}")
    sys.stderr.flush()


def write(text: str) -> None:
    """Data: lines on stdout."""
    print(safe_text(text))


def write_json(kind: str, content: object) -> None:
    """One JSON document, or one line of a stream: `schema`, `kind`, and the content's own fields."""
    built = msgspec.json.decode(msgspec.json.encode(content))  # enums, structs, bytes and NaN become plain JSON
    document = {"schema": SCHEMA, "kind": kind, **(built if isinstance(built, dict) else {"items": built})}
    print(json.dumps(document, ensure_ascii=True).replace("\x7f", "\\u007f"), flush=True)


def write_table(columns: Sequence[Column], rows: Iterable[Sequence[str]], *, empty: str = "") -> None:
    """A Rich table on a terminal, plain aligned text elsewhere; `empty` is said when there are no rows."""
    columns = [replace(column, title=safe_line(column.title)) for column in columns]
    cells = [[safe_line(cell) for cell in row] for row in rows]
    if not cells and empty:
        say(empty)
        return
    if sys.stdout.isatty():
        _write_rich_table(columns, cells)
    else:
        _write_plain_table(columns, cells)


def write_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Names and values below each other, the values aligned."""
    rows = [(safe_line(name), safe_line(value)) for name, value in pairs]
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        print(f"{name:<{width}}  {value}".rstrip())


def _write_rich_table(columns: Sequence[Column], cells: list[list[str]]) -> None:
    from rich import box  # 30 ms that a piped command does not pay
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    shown = _fitting(columns, _widths(columns, cells), console.width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number in shown:
        is_number = columns[number].is_number
        table.add_column(columns[number].title, justify="right" if is_number else "left", no_wrap=is_number)
    for row in cells:
        table.add_row(*(Text(row[number], overflow="fold") for number in shown))
    console.print(table)


def _fitting(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[int]:
    """The numbers of the columns to show: all, or without as many spare ones as it takes to fit.

    >>> _fitting([Column("a"), Column("b", is_spare=True), Column("c", is_spare=True)], [10, 10, 10], 24)
    [0, 1]
    """
    shown = list(range(len(columns)))
    for number in reversed(range(len(columns))):
        if sum(widths[each] + 2 for each in shown) - 2 <= room:
            break
        if columns[number].is_spare:
            shown.remove(number)
    return shown


def _widths(columns: Sequence[Column], cells: list[list[str]]) -> list[int]:
    lines = [[column.title for column in columns], *cells]
    return [max(map(_cells, values)) for values in zip(*lines, strict=True)]


def _write_plain_table(columns: Sequence[Column], cells: list[list[str]]) -> None:
    widths = _widths(columns, cells)
    for line in ([column.title for column in columns], *cells):
        parts = [
            " " * (width - _cells(cell)) + cell if column.is_number else cell + " " * (width - _cells(cell))
            for column, cell, width in zip(columns, line, widths, strict=True)
        ]
        print("  ".join(parts).rstrip())


def _cells(text: str) -> int:
    return len(text) if text.isascii() else sum(map(cell_width, text))


def show_error(error: PonderError) -> None:
    """`error: what happened`, then `hint: what to do`, on stderr."""
    say(f"error: {error.message}")
    if error.hint:
        say(f"hint: {error.hint}")


def is_lost(error: OSError) -> bool:
    """Whether it says that there is no room where a stream goes: no file of ours is named, and none is at fault."""
    return error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def stop_writing(error: OSError) -> int:
    """The exit code where stdout takes no more: nobody reads it, or it has no room. Other errors are raised again."""
    if isinstance(error, BrokenPipeError):
        silence_stdout()
        return PIPE_EXIT_CODE
    if not is_lost(error):
        raise error
    return show_lost(error)


def show_lost(error: OSError) -> int:
    """Say that stdout takes no more; the exit code."""
    silence_stdout()
    lost = PonderError(f"stdout cannot be written: {error.strerror}", "free some disk space, or send it elsewhere")
    show_error(lost)
    return lost.exit_code


def silence_stdout() -> None:
    """Give Python another stdout to flush at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_crash(error: BaseException, home: Path) -> None:
    """A bug of ours in one line, and where its traceback was written; PONDER_TRACEBACK=1 shows it."""
    text = "".join(traceback.format_exception(error))
    if os.environ.get("PONDER_TRACEBACK", "0") not in ("", "0"):
        say(text.rstrip())
    say(f"error: ponder made a mistake: {type(error).__name__}: {str(error).partition(chr(10))[0]}")
    written = _write_private(home / "cli-error.log", f"{' '.join(sys.argv)}\n{text}")
    say(f"hint: the traceback is in `{written}`" if written else "hint: PONDER_TRACEBACK=1 shows the traceback")


def _write_private(path: Path, text: str) -> Path | None:
    """Write a file that only its owner reads; None where that cannot be done."""
    import tempfile  # only after a crash

    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError:
        try:
            descriptor, name = tempfile.mkstemp(prefix="ponder-error-", suffix=".log")
        except OSError:
            return None
        path = Path(name)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
    return path


def terminal_width() -> int:
    """Columns for wrapped text: those of the terminal, 100 where there is none."""
    try:
        return max(os.get_terminal_size(1).columns, 40)
    except OSError:
        return 100
