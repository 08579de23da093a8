"""Runs side by side on a page: settings that differ, what was turned in each, final and best figures.

The same numbers as `ponder compare`. Where not all runs fit beside each other they come in blocks below each other.
Deliberately left out: curves (`o` lays them over each other on the screen that has them).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical

from ponder.compare import Comparison, tables
from ponder.safe_text import safe_line
from tui.screens.dialog import Dialog
from tui.screens.text_line import Part, TextLine
from tui.widgets import LineView, Paragraph, Span

LABEL_CELLS = 28
MOST_CELLS = 44
"""A column is no broader; what does not fit is cut with a sign."""


class ComparePage(Dialog[bool]):
    """Answers True when the runs are to be seen as curves."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,v", "leave(False)", "close", show=False),
        Binding("o", "leave(True)", "curves", show=False),
    ]

    def __init__(self, comparison: Comparison) -> None:
        super().__init__()
        self._comparison = comparison

    def compose(self) -> ComposeResult:
        """One long text."""
        with Vertical(id="page", classes="broad"):
            yield TextLine(id="page-head")
            yield LineView(id="page-text", gutter=False)

    def opened(self) -> None:
        """Fill the page."""
        runs = self._comparison.runs
        self.query_one("#page-head", TextLine).show(
            [Part(f" {len(runs)} runs side by side", "title"), Part(f"= ponder compare {' '.join(runs)}", "dim", 2)],
            [Part("o curves"), Part("Esc closes ")],
        )
        view = self.query_one("#page-text", LineView)
        view.set_document(compare_page(self._comparison, self.app.size.width - 4))
        view.focus()

    def action_leave(self, is_for_curves: bool) -> None:
        """Close."""
        self.close(is_for_curves)


def compare_page(comparison: Comparison, width: int) -> list[Paragraph]:
    """The page as paragraphs, no row broader than `width`."""
    page: list[Paragraph] = []
    for title, (header, *rows) in tables(comparison):
        page.append(Paragraph.of(f"\n{title}", style="title"))
        if not rows:
            page.append(Paragraph.of("  none", style="dim"))
            continue
        for number, block in enumerate(_blocks([header, *rows], width)):
            page += [*([Paragraph.of("")] if number else []), *_lines(block)]
    return page


def _blocks(rows: Sequence[Sequence[str]], width: int) -> list[list[list[str]]]:
    """The table cut into tables that fit, each with the first column and some of the others."""
    cells = [[safe_line(cell) for cell in row] for row in rows]
    widths = [min(MOST_CELLS, max(cell_len(row[n]) for row in cells)) for n in range(len(cells[0]))]
    label = min(LABEL_CELLS, max(cell_len(row[0]) for row in cells))
    room = width - label
    groups: list[list[int]] = [[]]
    used = 0
    for number in range(1, len(widths)):
        if groups[-1] and used + widths[number] + 2 > room:
            groups.append([])
            used = 0
        groups[-1].append(number)
        used += widths[number] + 2
    shown = [min(cells_of, max(8, room - 2)) for cells_of in widths]
    return [[[_fit(row[0], label), *(_fit(row[n], shown[n]) for n in group)] for row in cells] for group in groups]


def _fit(text: str, cells: int) -> str:
    """Exactly so broad."""
    return set_cell_size(text, cells - 1) + "…" if cell_len(text) > cells else set_cell_size(text, cells)


def _lines(block: Sequence[Sequence[str]]) -> list[Paragraph]:
    header, *rows = ["  ".join(row).rstrip() for row in block]
    lines = [Paragraph.of(header, style="title")]
    label = len(block[0][0])
    return lines + [Paragraph.of(line, [Span(0, min(label, len(line)), "dim")]) for line in rows]
