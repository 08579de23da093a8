"""Long text into rows that fit a width counted in cells.

Breaks after a space where it can, inside a word where it must, never in a wide character or before a combining mark.
Left out on purpose: hyphenation and the bidirectional algorithm (bidi controls never get here: ponder/safe_text.py).
"""

from __future__ import annotations

from typing import NamedTuple

from rich.cells import cell_len, split_graphemes

TAB_CELLS = 4
"""Spaces that stand for one tab."""


class Row(NamedTuple):
    """Characters `start` to `end` of a text; a newline at the end belongs to no row."""

    start: int
    end: int

    def shown(self, text: str, offset: int) -> int:
        """Where the character `offset` of the text is in this row once its tabs are spaces."""
        return len(show_tabs(text[self.start : min(offset, self.end)]))


def show_tabs(text: str) -> str:
    """Tabs as spaces, always the same number: model text has no tab stops worth keeping."""
    return text.replace("\t", " " * TAB_CELLS)


def wrap_from(text: str, start: int, width: int) -> list[Row]:
    """Rows of the text from a line's `start` on; an empty line is an empty row.

    >>> wrap_from("one two three", 0, 8)
    [Row(start=0, end=8), Row(start=8, end=13)]
    """
    rows: list[Row] = []
    if width <= 0:
        return rows
    while True:
        end = text.find("\n", start)
        stop = len(text) if end < 0 else end
        rows += _wrap_line(text, start, stop, width)
        if end < 0:
            return rows
        start = end + 1


def _wrap_line(text: str, start: int, stop: int, width: int) -> list[Row]:
    """One line's rows."""
    line = text[start:stop]
    if len(line) * 2 <= width and "\t" not in line:
        return [Row(start, stop)]
    if "\t" not in line and cell_len(line) <= width:
        return [Row(start, stop)]
    is_plain = line.isascii() and "\t" not in line
    rows: list[Row] = []
    while start < stop:
        end = min(stop, start + width) if is_plain else _fits(text, start, stop, width)
        if end < stop and text[end] != " ":
            space = text.rfind(" ", start, end)
            # A break far to the left would waste the row: long formulas and CJK break where the row ends.
            if space >= start + (end - start) // 2:
                end = space + 1
        rows.append(Row(start, end))
        start = end
        if start < stop and text[start] == " ":
            rows[-1] = Row(rows[-1].start, start + 1)
            start += 1
    return rows


def _fits(text: str, start: int, stop: int, width: int) -> int:
    """The end of the longest run from `start` that fits; at least one grapheme, so that wrapping always ends."""
    piece = text[start : min(stop, start + width * 5)]
    spans, _ = split_graphemes(piece.replace("\t", "\N{RIGHTWARDS ARROW}"))
    used = 0
    for begin, _, cells in spans:
        wide = TAB_CELLS if piece[begin] == "\t" else cells
        if used + wide > width and begin > 0:
            return start + begin
        used += wide
    return start + len(piece)
