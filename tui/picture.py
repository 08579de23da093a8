"""Styled cells into an SVG that looks the same everywhere and loads nothing.

Words are text in whatever monospaced font the reader has, each placed on its own so that no font drifts; braille dots
and lines are drawn, because many fonts lack them. Deliberately left out: animation, blinking, links.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from rich.color import ColorType
from rich.segment import Segment
from rich.style import Style

FONTS = "ui-monospace,'DejaVu Sans Mono','Cascadia Mono',Menlo,Consolas,'Liberation Mono',monospace"
FONT_PX = 14
CELL_PX = 8.43
ROW_PX = 18
PAD_PX = 12
BAR_PX = 30
DOTS = ((0x01, 0, 0), (0x02, 0, 1), (0x04, 0, 2), (0x08, 1, 0), (0x10, 1, 1), (0x20, 1, 2), (0x40, 0, 3), (0x80, 1, 3))
"""Bit of a braille character, its column, its row."""


@dataclass(frozen=True)
class Look:
    """How a run of cells looks, with reverse and dim worked out."""

    ink: str
    paper: str
    is_bold: bool
    is_italic: bool
    is_underlined: bool


def picture(rows: Sequence[Sequence[Segment]], columns: int, ink: str, paper: str, title: str) -> str:
    """The whole picture; `ink` and `paper` are the default colours as `#rrggbb`."""
    width = columns * CELL_PX + 2 * PAD_PX
    height = len(rows) * ROW_PX + BAR_PX + PAD_PX
    body: list[str] = []
    for number, row in enumerate(rows):
        body += _row(row, BAR_PX + number * ROW_PX, ink, paper)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>text{{font-family:{FONTS};font-size:{FONT_PX}px;white-space:pre}}</style>",
            f'<rect width="{width:.0f}" height="{height}" rx="8" fill="{paper}" stroke="#8888" />',
            *(f'<circle cx="{18 + 18 * n}" cy="15" r="5" fill="#8886" />' for n in range(3)),
            f'<text x="{width / 2:.0f}" y="20" fill="{ink}" opacity=".6" text-anchor="middle">{escape(title)}</text>',
            *body,
            "</svg>",
            "",
        ]
    )


def _row(row: Sequence[Segment], top: float, ink: str, paper: str) -> Iterator[str]:
    column = 0
    for segment in row:
        text, look = segment.text, _look(segment.style or Style(), ink, paper)
        left = PAD_PX + column * CELL_PX
        if look.paper != paper:
            size = f'width="{len(text) * CELL_PX + 0.4:.1f}" height="{ROW_PX}"'
            yield f'<rect x="{left:.1f}" y="{top:.0f}" {size} fill="{look.paper}" />'
        yield from _drawn(text, left, top, look)
        yield from _written(text, left, top, look)
        column += segment.cell_length


def _written(text: str, left: float, top: float, look: Look) -> Iterator[str]:
    """Each word as text; lines and dots are left to `_drawn`."""
    weight = ' font-weight="bold"' if look.is_bold else ""
    slant = ' font-style="italic"' if look.is_italic else ""
    line = ' text-decoration="underline"' if look.is_underlined else ""
    for word in re.finditer(r"[^\s─│┊\u2800-\u28ff]+", text):
        x = left + word.start() * CELL_PX
        size = f'textLength="{len(word[0]) * CELL_PX:.1f}" lengthAdjust="spacingAndGlyphs"'
        place = f'x="{x:.1f}" y="{top + 13.5:.1f}" {size}'
        yield f'<text {place} fill="{look.ink}"{weight}{slant}{line}>{escape(word[0])}</text>'


def _drawn(text: str, left: float, top: float, look: Look) -> Iterator[str]:
    """Braille dots as round points of one path, box characters as lines of another."""
    dots: list[str] = []
    lines: list[str] = []
    for number, character in enumerate(text):
        x = left + number * CELL_PX
        bits = ord(character) - 0x2800
        if 0 < bits <= 0xFF:
            dots += [
                f"M{x + CELL_PX * (0.27 + 0.46 * across):.1f} {top + ROW_PX * (0.16 + 0.226 * down):.1f}h0"
                for bit, across, down in DOTS
                if bits & bit
            ]
        elif character == "─":
            lines.append(f"M{x:.1f} {top + ROW_PX / 2:.1f}h{CELL_PX:.1f}")
        elif character in "│┊":
            lines.append(f"M{x + CELL_PX / 2:.1f} {top:.1f}v{ROW_PX if character == '│' else ROW_PX * 0.5:.1f}")
    if dots:
        yield f'<path d="{"".join(dots)}" stroke="{look.ink}" stroke-width="2.4" stroke-linecap="round" />'
    if lines:
        yield f'<path d="{"".join(lines)}" stroke="{look.ink}" stroke-width="1" stroke-opacity=".55" />'


def _look(style: Style, ink: str, paper: str) -> Look:
    front, back = _colour(style, is_front=True) or ink, _colour(style, is_front=False) or paper
    if style.reverse:
        front, back = back, front
    if style.dim:
        front = _mixed(front, back, 0.42)
    return Look(front, back, bool(style.bold), bool(style.italic), bool(style.underline))


def _colour(style: Style, *, is_front: bool) -> str | None:
    colour = style.color if is_front else style.bgcolor
    if colour is None or colour.type is ColorType.DEFAULT:
        return None
    return colour.get_truecolor().hex


def _mixed(first: str, second: str, share: float) -> str:
    """`first` with a share of `second`."""
    pairs = [(int(first[n : n + 2], 16), int(second[n : n + 2], 16)) for n in (1, 3, 5)]
    return "#" + "".join(f"{round(a * (1 - share) + b * share):02x}" for a, b in pairs)
