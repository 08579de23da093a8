"""The parts that screens are made of: each paints by lines, costs what changed, and shows only sanitised text."""

from tui.widgets.braille_chart import BrailleChart
from tui.widgets.document import Paragraph, Span, map_spans
from tui.widgets.line_view import LineView
from tui.widgets.rows import Cell, Column, ListRow, ListSource, RowSource
from tui.widgets.token_view import HeatSpan, TokenView
from tui.widgets.virtual_list import VirtualList

__all__ = [
    "BrailleChart",
    "Cell",
    "Column",
    "HeatSpan",
    "LineView",
    "ListRow",
    "ListSource",
    "Paragraph",
    "RowSource",
    "Span",
    "TokenView",
    "VirtualList",
    "map_spans",
]
