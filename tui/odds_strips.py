"""An answer's odds as lines of text: a strip of tokens for each checkpoint, as broad as there is room.

    step     whole  mean  here  3 + 7 = 10[end]
       0   1.2e-09   10%   12%  1 0 2 4  1    0
      20    0.0003   32%   50%  5 4 2 9  1    3

A token is as broad as its text where all fit, else a cell, and where not even that, those around the cursor are shown.
Its digit is its chance in tenths, rounded down; its heat has the bounds of the Tokens screen. Deliberately left out:
asking (`tui.screens.odds`), and the figures themselves (`ponder.odds`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from ponder.odds import per_token, write_chance
from ponder.safe_text import safe_line
from ponder.wire import CheckpointOdds, TokenOdds
from tui.token_facts import BANDS, END
from tui.widgets import Paragraph, Span

STEP, WHOLE, MEAN, HERE = 8, 9, 6, 6
FIGURES = STEP + WHOLE + MEAN + HERE + 2
"""Cells before a strip."""
MOST_CELLS = 8
"""A longer text is cut."""
NOT_DRAWN = "-"
"""Stands for a token that a world said."""


@dataclass(frozen=True)
class Line:
    """A policy and what it makes of the answer."""

    name: str
    odds: CheckpointOdds
    is_recorded: bool = False
    """Whether it is no checkpoint's, but what was recorded as the answer was drawn."""


@dataclass(frozen=True)
class Shape:
    """Which tokens are shown, and how broad each is."""

    first: int
    cells: tuple[int, ...]


def shown_text(token: TokenOdds) -> str:
    """A token's text on one line; the end has its own words."""
    return safe_line(token.text) if token.text else END


def shape(tokens: Sequence[TokenOdds], cursor: int, room: int) -> Shape:
    """How the tokens fit into so many cells.

    >>> words = [TokenOdds(text, 0.0) for text in ("3", " +", " 7", "")]
    >>> shape(words, 0, 20), shape(words, 0, 6), shape(words, 3, 2)
    (Shape(first=0, cells=(1, 2, 2, 5)), Shape(first=0, cells=(1, 1, 1, 1)), Shape(first=2, cells=(1, 1)))
    """
    cells = tuple(max(1, min(MOST_CELLS, cell_len(shown_text(token)))) for token in tokens)
    if sum(cells) <= room:
        return Shape(0, cells)
    count = max(1, min(room, len(tokens)))
    first = max(0, min(cursor - count // 2, len(tokens) - count))
    return Shape(first, (1,) * count)


def head_line(tokens: Sequence[TokenOdds], cursor: int, width: int) -> Paragraph:
    """What the columns are, and the answer's tokens, the one under the cursor marked."""
    text = f"{'step':>{STEP}}{'whole':>{WHOLE}}{'mean':>{MEAN}}{'here':>{HERE}}  "
    spans = [Span(0, len(text), "dim")]
    for number, cells in _places(tokens, cursor, width):
        start, text = len(text), text + set_cell_size(shown_text(tokens[number]), cells)
        spans += [Span(start, len(text), "search")] if number == cursor else []
    return Paragraph.of(text, spans)


def strip_line(line: Line, cursor: int, width: int) -> Paragraph:
    """One policy's figures, and a digit for each token."""
    tokens = line.odds.tokens
    here = tokens[cursor].logp if cursor < len(tokens) else None
    text = (
        f"{line.name:>{STEP}}{write_chance(line.odds.logp):>{WHOLE}}{percent(per_token(line.odds)):>{MEAN}}"
        f"{'-' if here is None else percent(math.exp(here)):>{HERE}}  "
    )
    spans = [Span(0, STEP, "title"), *([Span(STEP, len(text), "dim")] if line.is_recorded else [])]
    for number, cells in _places(tokens, cursor, width):
        logp = tokens[number].logp
        start, text = len(text), text + _digit(logp).rjust(cells)
        style = "dim" if logp is None else f"heat-{heat(math.exp(logp))}"
        spans += [Span(start, len(text), style)]
        spans += [Span(start, len(text), "search")] if number == cursor else []
    return Paragraph.of(text, spans)


def _places(tokens: Sequence[TokenOdds], cursor: int, width: int) -> list[tuple[int, int]]:
    """(number, cells) of the tokens that are shown in a line of this width."""
    found = shape(tokens, cursor, width - FIGURES)
    return list(enumerate(found.cells, start=found.first))


def heat(chance: float) -> int:
    """1 to 4, hotter where it is less likely; as on the Tokens screen."""
    return 1 + sum(chance < band for band in BANDS["probability"])


def _digit(logp: float | None) -> str:
    """A chance in tenths, rounded down; 9 also for what is sure."""
    return NOT_DRAWN if logp is None else str(min(9, int(10 * math.exp(logp))))


def percent(chance: float) -> str:
    """As short as it can be told apart.

    >>> percent(0.314), percent(0.0123), percent(0.99999), percent(1e-7)
    ('31%', '1.2%', '100%', '<.1%')
    """
    if chance < 0.001:
        return "<.1%"
    return f"{chance:.1%}" if chance < 0.0995 else f"{chance:.0%}"
