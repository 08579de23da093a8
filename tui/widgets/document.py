"""What a LineView shows: paragraphs of safe text with styled spans, and how they become rows.

Left out on purpose: painting and scrolling (tui/widgets/line_view.py), and where marks come from (the daemon).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ponder.safe_text import SafeText, sanitise
from tui.widgets.wrapping import Row, show_tabs, wrap_from

STYLES = (
    "plain", "dim", "title", "prompt", "think", "answer", "reflect", "verify", "backtrack", "aha",
    "good", "bad", "warning", "search", "heat-1", "heat-2", "heat-3", "heat-4",
)  # fmt: skip
"""Names that spans and paragraphs may use; tui/ponder.tcss can restyle each as `LineView > .line-view--NAME`."""


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` of a paragraph's safe text, in a named style.

    `sign` stands in the gutter beside the row where the span starts, so that it is seen without colour.
    """

    start: int
    end: int
    style: str
    sign: str = ""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Text in one style, with spans over it; `sign` stands in the gutter beside its first row."""

    text: SafeText
    spans: tuple[Span, ...] = ()
    style: str = "plain"
    sign: str = ""

    @classmethod
    def of(cls, text: str, marks: Iterable[Span] = (), *, style: str = "plain", sign: str = "") -> Paragraph:
        """Sanitise a raw text whose marks are places in that raw text."""
        safe = sanitise(text)
        return cls(safe, map_spans(safe, marks), style, sign)


def map_spans(safe: SafeText, marks: Iterable[Span]) -> tuple[Span, ...]:
    """Move marks made on a raw text to where they are in its safe text."""
    return tuple(Span(safe.offset(mark.start), safe.offset(mark.end), mark.style, mark.sign) for mark in marks)


@dataclass(slots=True)
class Block:
    """One paragraph as shown, with its rows.

    The raw text of its last line is kept while it streams: what comes next can still change how that line is shown.
    """

    text: str
    spans: tuple[Span, ...]
    warnings: tuple[tuple[int, int], ...]
    style: str
    sign: str
    rows: list[Row]
    raw_tail: str = ""
    tail_start: int = 0
    is_streamed: bool = False

    @classmethod
    def shown(cls, paragraph: Paragraph, width: int, before: Block | None = None) -> Block:
        """A paragraph's block; rows of the block that stood there `before` are kept where the text only grew."""
        text = paragraph.text.text
        rows: list[Row] = []
        start = 0
        if before is not None and before.rows and text.startswith(before.text):
            start = before.text.rfind("\n") + 1
            rows = [row for row in before.rows if row.start < start]
        rows += wrap_from(text, start, width)
        return cls(
            text, paragraph.spans, paragraph.text.spans, paragraph.style, paragraph.sign, rows, tail_start=len(text)
        )

    def stream(self, more: str, width: int) -> None:
        """Add raw text; only the last line is sanitised and wrapped again."""
        raw = self.raw_tail + more
        safe = sanitise(raw)
        kept = self.tail_start
        self.is_streamed = True
        self.text = self.text[:kept] + safe.text
        self.warnings = (
            *(span for span in self.warnings if span[1] <= kept),
            *((start + kept, end + kept) for start, end in safe.spans),
        )
        line_start = self.text.rfind("\n", 0, kept) + 1
        self.rows = [row for row in self.rows if row.start < line_start]
        self.rows += wrap_from(self.text, line_start, width)
        last_line = raw.rfind("\n") + 1
        self.raw_tail = raw[last_line:]
        self.tail_start = kept + safe.offset(last_line)


RowKey = tuple[str, str, tuple[tuple[int, int, str], ...], str]
"""Everything that decides how a row looks: text, style, spans inside it, gutter sign."""


def row_keys(block: Block) -> Iterable[RowKey]:
    """How each row of a block looks; tabs become spaces here, so spans move with them."""
    warnings = [Span(start, end, "warning") for start, end in block.warnings]
    spans = sorted((*block.spans, *warnings), key=lambda span: span.start)
    first = 0
    for number, row in enumerate(block.rows):
        while first < len(spans) and spans[first].end <= row.start:
            first += 1
        inside: list[tuple[int, int, str]] = []
        sign, has_sign = (block.sign if number == 0 else ""), False
        for span in spans[first:]:
            if span.start >= row.end:
                break
            if span.end > row.start:
                inside.append(
                    (row.shown(block.text, max(span.start, row.start)), row.shown(block.text, span.end), span.style)
                )
                if span.sign and span.start >= row.start and not has_sign:
                    sign, has_sign = span.sign, True
        yield show_tabs(block.text[row.start : row.end]), block.style, tuple(inside), sign
