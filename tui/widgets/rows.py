"""What a VirtualList shows: columns, rows of plain cells, and where the rows come from.

Left out on purpose: painting and the cursor (tui/widgets/virtual_list.py), sorting and filtering (the source's work).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

from rich.cells import cell_len, set_cell_size

FLEXIBLE_LEAST = 8
"""Cells that a column without a width of its own should at least have before others are dropped for it."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `width` cells, or with width 0 one that takes the room that is left.

    When the view is too narrow the columns with the highest `drop` go first; 0 stays whatever happens.
    """

    name: str
    width: int = 0
    align: Literal["left", "right"] = "left"
    drop: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """A plain text in a named style. It is sanitised when it is painted."""

    text: str
    style: str = "plain"


@dataclass(frozen=True, slots=True)
class ListRow:
    """One row: its key, one cell for each column, and a style for all of it."""

    key: str
    cells: tuple[Cell | str, ...]
    style: str = "plain"


class RowSource(Protocol):
    """Where rows come from. Every call is answered at once: it runs while the screen waits."""

    def count(self) -> int:
        """How many rows there are."""
        ...

    def rows(self, offset: int, limit: int) -> Sequence[ListRow]:
        """At most `limit` rows from `offset` on."""
        ...

    def index_of(self, key: str) -> int | None:
        """Where the row of this key is now; None when it is gone."""
        ...


class ListSource:
    """Rows that are already in memory."""

    def __init__(self, rows: Sequence[ListRow] = ()) -> None:
        self._rows = rows
        self._index = {row.key: number for number, row in enumerate(rows)}

    def count(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def rows(self, offset: int, limit: int) -> Sequence[ListRow]:
        """At most `limit` rows from `offset` on."""
        return self._rows[offset : offset + limit]

    def index_of(self, key: str) -> int | None:
        """Where the row of this key is; None when there is none."""
        return self._index.get(key)


def fit(text: str, room: int, align: Literal["left", "right"]) -> str:
    """Safe text in exactly `room` cells; what is cut off leaves a mark.

    >>> fit("right", 7, "right"), fit("too long", 4, "left")
    ('  right', 'too…')
    """
    cells = len(text) if text.isascii() else cell_len(text)
    if cells > room:
        return set_cell_size(set_cell_size(text, room - 1) + "…", room)
    blank = " " * (room - cells)
    return blank + text if align == "right" else text + blank


@lru_cache(maxsize=64)
def column_widths(columns: tuple[Column, ...], room: int) -> list[int]:
    """Cells for each column in a row of `room` cells, one blank after each; 0 for a column that is dropped."""
    kept = dict(enumerate(columns))
    droppable = sorted((number for number, column in kept.items() if column.drop), key=lambda n: -columns[n].drop)
    for number in droppable:
        if sum((column.width or FLEXIBLE_LEAST) + 1 for column in kept.values()) <= room:
            break
        del kept[number]
    taken = sum(column.width + 1 for column in kept.values())
    flexible = sum(not column.width for column in kept.values())
    share = max(0, room - taken) // flexible if flexible else 0
    return [(column.width or share) if number in kept else 0 for number, column in enumerate(columns)]
