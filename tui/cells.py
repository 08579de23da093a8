"""The screen as a grid of cells: what the toolkit wants shown, what the terminal was sent, and the difference.

The toolkit repaints whole strips; only the cells that changed are worth a byte. `draw` reads the toolkit's frame text
(cursor position, colours, text, newline) into the wanted grid; `changes` writes the shortest honest difference.

This is also the terminal's last gate. A frame can say nothing but "here", "in this style" and "these characters": any
other escape sequence loses its escape character and shows as text, every other control or invisible character is
dropped, and what is sent is built from the cells, never copied from the frame.

Characters whose width terminals disagree about (emoji, ambiguous signs) are followed by a cursor jump and a repaint of
the cell after them, so that a disagreement costs one glyph and not the line.

Where only ASCII may be sent, each cell that holds something else shows the ASCII sign nearest to it.

Left out on purpose: modes and pacing (tui/driver.py), scroll regions.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from rich.cells import cell_len, get_character_cell_size

from ponder.safe_text import MAX_COMBINING
from tui.sgr import clean_style, looks_same, style_change

_TOKEN = re.compile(r"\x1b\[([0-9;]{0,80})([mH])|([^\x1b\n]+)|(\n)|\x1b")
_PLAIN = frozenset(
    chr(code) for first, last in ((0x20, 0x7E), (0xA0, 0xAC), (0xAE, 0x2FF), (0x2500, 0x257F), (0x2580, 0x259F),
                                  (0x2800, 0x28FF)) for code in range(first, last + 1)
)  # fmt: skip
"""Characters that are one cell wide in every terminal: Latin, box drawing, blocks, braille."""

GAP_CELLS = 6
"""Unchanged cells that are cheaper to send again than to jump over (a jump is 6 to 8 bytes)."""

_SIGNS = {
    **dict.fromkeys("─━┄┈╌", "-"),
    **dict.fromkeys("┆┊╎", ":"),
    **dict.fromkeys("▁▂▃", "."),
    **dict.fromkeys("▄▅▆", ":"),
    **dict.fromkeys("▇█", "#"),
    **dict.fromkeys("│┃", "|"),
    "…": "~",
}
"""What stands for a sign where only ASCII may be sent; for other boxes `+`, for a letter with an accent the letter."""

_ZERO_WIDTH_JOINER = "\u200d"
_EMOJI_STYLE = "\ufe0f"


class CellGrid:
    """Two grids of (text, style), wanted and sent. A wide character's second cell is an empty text.

    Text None means "not known": never asked for, or perhaps no longer what was sent.
    """

    def __init__(self, width: int, height: int, *, colour: bool = True, is_ascii: bool = False) -> None:
        self._colour = colour
        self._is_ascii = is_ascii
        self.refused = 0
        """Control and invisible characters that frames held and the terminal was spared."""
        self._wanted: list[list[str | None]] = []
        self._wanted_styles: list[list[str]] = []
        self._x = self._y = 0
        self._cursor = (0, 0)
        self._last: int | None = None
        self._drawn = 0
        """Frames that were drawn."""
        self._touched: dict[int, int] = {}
        """Rows that may differ, by the frame that drew them last."""
        self.resize(width, height)

    def resize(self, width: int, height: int) -> None:
        """Show another part of what is wanted, and assume nothing about what the terminal shows.

        What was wanted outside a smaller size is kept: when the window grows back before the toolkit noticed, it will
        not be drawn again.
        """
        self.size = (width, height)
        self._wanted += [[] for _ in range(height - len(self._wanted))]
        self._wanted_styles += [[] for _ in range(height - len(self._wanted_styles))]
        for row, styles in zip(self._wanted, self._wanted_styles, strict=True):
            row += [None] * (width - len(row))
            styles += [""] * (width - len(styles))
        self.forget()

    def forget(self) -> None:
        """Assume nothing about what the terminal shows."""
        width, height = self.size
        self._sent: list[list[str | None]] = [[None] * width for _ in range(height)]
        self._sent_styles = [[""] * width for _ in range(height)]
        self._sent_cursor: tuple[int, int] | None = None
        self._sent_style: str | None = None
        self._touched = dict.fromkeys(range(height), self._drawn)

    def draw(self, frame: str) -> None:
        """Read a frame of the toolkit into the wanted grid; where it ends is where the cursor should be."""
        style = ""
        self._last = None
        self._drawn += 1
        for match in _TOKEN.finditer(frame):
            parameters, final, text, newline = match.groups()
            if text is not None:
                self._put(text, style)
            elif final == "m":
                style = clean_style(parameters, self._colour)
            elif final == "H":
                row, _, column = parameters.partition(";")
                self._y = int(row or 1) - 1
                self._x = int(column) - 1 if column.isdigit() else 0
                self._last = None
            elif newline:
                self._x, self._y, self._last = 0, self._y + 1, None
            else:
                self.refused += 1
        self._cursor = (self._x, self._y)

    def changes(self, most: float = float("inf")) -> str:
        """What brings the terminal from the sent grid to the wanted one; empty when nothing differs.

        Of more than about `most` characters the rows that were drawn last come first, and the rest waits: what a key
        does is seen before what it does not concern.
        """
        width, height = self.size
        writer = _Writer(width, self._sent_style)
        is_short, size = most < float("inf"), 0
        for y in sorted(self._touched, key=lambda y: (-self._touched[y], y) if is_short else y):
            known = len(writer.parts)
            if y < height:
                self._row_changes(y, writer)
            del self._touched[y]
            size += sum(map(len, writer.parts[known:]))
            if size >= most:
                break
        if writer.parts:
            self._sent_cursor = None
        if self._cursor != self._sent_cursor:
            self._sent_cursor = self._cursor
            writer.jump(min(self._cursor[0], width - 1), min(self._cursor[1], height - 1))
        self._sent_style = writer.style
        return "".join(writer.parts)

    def _row_changes(self, y: int, writer: _Writer) -> None:
        width, _ = self.size
        wanted, styles = self._wanted[y][:width], self._wanted_styles[y][:width]
        sent, sent_styles = self._sent[y], self._sent_styles[y]
        if wanted == sent and styles == sent_styles:
            return
        if len(self._wanted[y]) > width and self._wanted[y][width] == "":
            wanted[-1] = " "  # a wide character would stick out of the smaller window

        row = [text or "" for text in wanted]
        is_new = [
            bool(text) and (text != old or (style != old_style and not looks_same(text, style, old_style)))
            for text, style, old, old_style in zip(row, styles, sent, sent_styles, strict=True)
        ]
        x = 0
        while True in is_new[x:]:
            x = is_new.index(True, x)
            text, style = row[x], styles[x]
            writer.bridge(x, y, row, styles)
            end = x + 1
            if text in _PLAIN:
                while end < width and is_new[end] and styles[end] == style and row[end] in _PLAIN:
                    end += 1
                writer.put("".join(row[x:end]), style, x, y, end - x)
            else:
                cells = 2 if end < width and wanted[end] == "" else 1
                if is_certain(text):
                    writer.put(text, style, x, y, cells)
                else:
                    writer.put_uncertain(text, style, x, y, cells)
                    if x + cells < width:  # nobody knows where it ended
                        is_new[x + cells] = bool(row[x + cells])
            x = end
        if None in wanted:
            for x in range(width):
                if wanted[x] is not None:
                    sent[x], sent_styles[x] = wanted[x], styles[x]
        else:
            sent[:], sent_styles[:] = wanted, styles

    def _put(self, text: str, style: str) -> None:
        """Text from the current place on, cut at the right edge as the terminal does with line wrap off."""
        width, height = self.size
        if not 0 <= self._y < height:
            return
        self._touched[self._y] = self._drawn
        if (self._is_ascii and not text.isascii()) or not _PLAIN.issuperset(text):
            self._put_slowly(text, style)
            return
        x, end = self._x, min(self._x + len(text), width)
        if end > x >= 0:
            row = self._wanted[self._y]
            self._split(row, x)
            self._split(row, end)
            row[x:end] = text[: end - x]
            self._wanted_styles[self._y][x:end] = [style] * (end - x)
            self._last = end - 1
        self._x += len(text)

    def _put_slowly(self, text: str, style: str) -> None:
        """One character after the other, measured as the toolkit measured them when it laid the strip out."""
        skip = False
        for index, character in enumerate(text):
            if skip:
                skip = False
            elif character == _ZERO_WIDTH_JOINER:
                # The toolkit counts the joined character as part of the first; showing the first alone keeps the line.
                skip = True
                self.refused += 1
            elif character == _EMOJI_STYLE:
                self.refused += 1
                if index and cell_len(text[index - 1] + character) > cell_len(text[index - 1]):
                    self._put_cell(" ", style, 1)
            else:
                cells = get_character_cell_size(character)
                if not is_printable(character):
                    self.refused += 1
                    if cells:
                        self._put_cell("\N{REPLACEMENT CHARACTER}", style, 1)
                        self._x += cells - 1
                elif cells:
                    self._put_cell(character, style, cells)
                else:
                    self._combine(character)

    def _put_cell(self, character: str, style: str, cells: int) -> None:
        if self._is_ascii and not character.isascii():
            for _ in range(cells):
                self._put_cell(ascii_sign(character), style, 1)
            return
        width, _ = self.size
        row, styles = self._wanted[self._y], self._wanted_styles[self._y]
        x, end = self._x, self._x + cells
        self._x = end
        if x < 0 or x >= width:
            return
        if end > width:
            character, end = " ", width
        self._split(row, x)
        self._split(row, end)
        row[x] = character
        styles[x] = style
        if end - x == 2:
            row[x + 1] = ""
            styles[x + 1] = style
        self._last = x

    def _combine(self, mark: str) -> None:
        """Put a combining mark on the character before it, if this frame drew one and it carries few enough."""
        cell = self._wanted[self._y][self._last] if self._last is not None else None
        if (
            self._is_ascii
            or self._last is None
            or not cell
            or cell == " "
            or len(cell) > MAX_COMBINING
            or self._x > self.size[0]
        ):
            self.refused += 1
            return
        self._wanted[self._y][self._last] = cell + mark

    def _split(self, row: list[str | None], x: int) -> None:
        """A wide character of which one half is about to be overwritten leaves a blank in the other."""
        if 0 < x < len(row) and row[x] == "":
            row[x - 1] = row[x] = " "


def ascii_sign(character: str) -> str:
    """The one ASCII sign that stands for a character.

    >>> "".join(map(ascii_sign, "a…│╭─é日"))
    'a~|+-e?'
    """
    if character.isascii():
        return character
    if character in _SIGNS:
        return _SIGNS[character]
    if "\u2500" <= character <= "\u257f":
        return "+"
    plain = unicodedata.normalize("NFKD", character)[0]
    return plain if plain.isascii() and plain.isprintable() else "?"


class _Writer:
    """Builds a frame: knows where the terminal's cursor is and in which style it writes, which outlasts the frame."""

    def __init__(self, width: int, style: str | None) -> None:
        self.parts: list[str] = []
        self.style = style
        self._width = width
        self._at: tuple[int, int] | None = None

    def jump(self, x: int, y: int) -> None:
        """Move the cursor."""
        if self._at != (x, y):
            self.parts.append(f"\x1b[{y + 1};{x + 1}H")
            self._at = (x, y)

    def bridge(self, x: int, y: int, row: list[str], styles: list[str]) -> None:
        """Write the few unchanged cells between the cursor and x again, where that is shorter than a jump."""
        if self._at is None or self._at[1] != y:
            return
        start = self._at[0]
        if not 0 < x - start <= GAP_CELLS:
            return
        gap = row[start:x]
        pen = self.style or ""
        if all(t and t in _PLAIN and looks_same(t, s, pen) for t, s in zip(gap, styles[start:x], strict=True)):
            self.parts.append("".join(gap))
            self._at = (x, y)

    def put(self, text: str, style: str, x: int, y: int, cells: int) -> None:
        """Write the text of one cell, or of plain ones beside each other."""
        self.jump(x, y)
        if self.style is None or not looks_same(text if text.strip(" ") else " ", style, self.style):
            self.parts.append(style_change(self.style, style))
            self.style = style
        self.parts.append(text)
        self._at = (x + cells, y) if x + cells < self._width else None

    def put_uncertain(self, text: str, style: str, x: int, y: int, cells: int) -> None:
        """Write a cell whose width is a matter of opinion: over blanks, and without trusting where the cursor ends."""
        if cells == 2:
            self.put(" ", style, x, y, 1)
            self.put(" ", style, x + 1, y, 1)
        self.put(text, style, x, y, cells)
        self._at = None


@lru_cache(maxsize=4096)
def is_printable(character: str) -> bool:
    """Whether a character may be sent at all."""
    code = ord(character)
    if 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF:
        return False
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp")


@lru_cache(maxsize=4096)
def is_certain(text: str) -> bool:
    """Whether every terminal gives this cell the width we think: plain characters, CJK, kana and hangul."""
    if len(text) > 1:
        return False
    code = ord(text)
    return text in _PLAIN or 0x3041 <= code <= 0x3096 or 0x30A1 <= code <= 0x30FA or 0x4E00 <= code <= 0x9FA5 or (
        0xAC00 <= code <= 0xD7A3
    )  # fmt: skip
