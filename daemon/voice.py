"""How an answer is heard: token by token while it is written, thinking apart from the answer, never a raw byte.

    a terminal      `thinking` dim, `answer` plain; of several answers the ends, side by side, while they are written,
                    then what each came to and the count of votes
    a pipe, a file  the text alone; figures and talk go to stderr

Text may come a token at a time, so that what is held back until it is sure is little: the beginning of a tag, half a
character, a carriage return. Deliberately left out: what is said (`trainer.talk`), and when (`daemon.dialogue`).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

from ponder.events import Finish
from ponder.output import write_over
from ponder.safe_text import cell_width, safe_line, safe_text
from trainer.rewards.form import ANSWER, ANSWERED, THINK, THOUGHT
from trainer.talk import Said
from trainer.thoughts import split_tags

ONE_LINE = 1 << 20
UNSURE = ("\ufffd", "\r")
DIM, BOLD, PLAIN = "\x1b[2m", "\x1b[1m", "\x1b[0m"


def held_back(text: str) -> int:
    """How many characters at the end may yet become something else.

    >>> held_back("so </thi"), held_back("a < b"), held_back("tick\\r")
    (5, 0, 1)
    """
    if text.endswith(UNSURE):
        return 1
    for tag in (THINK, THOUGHT, ANSWER, ANSWERED):
        for length in range(min(len(tag) - 1, len(text)), 0, -1):
            if text.endswith(tag[:length]):
                return length
    return 0


class Wrapping:
    """Breaks lines between words while they come in pieces; a word is held until its end is known.

    >>> wrapping = Wrapping(10)
    >>> "".join([wrapping.feed(piece) for piece in ("no wa", "it 3 ", "+ 7 = 1", "0")]) + wrapping.end()
    'no wait 3\\n+ 7 = 10'
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._column = 0
        self._blanks = self._word = ""

    def feed(self, text: str) -> str:
        """What may be written now."""
        written = ""
        for character in text:
            if character == "\n":
                written += self.end() + "\n"
                self._column = 0
            elif character == " ":
                written += self._take() if self._word else ""
                self._blanks += " "
            else:
                self._word += character
        return written

    def end(self) -> str:
        """What was held."""
        held = self._take()
        self._blanks = ""
        return held

    def _take(self) -> str:
        """The word with the blanks before it, on a new line where it does not fit."""
        word, blanks = self._word, self._blanks
        if not word:
            return ""
        self._word = self._blanks = ""
        cells = sum(map(cell_width, word))
        if self._column and self._column + len(blanks) + cells > self._width:
            self._column = cells
            return f"\n{word}"
        self._column += len(blanks) + cells
        return blanks + word


class Voice:
    """Writes to stdout what was not yet written."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty()
        self._has_styles = self.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._section = ""
        self._shown = ""
        self._is_counting = False
        self._board: list[str] = []
        self._wrapping: Wrapping | None = None

    def begin(self) -> None:
        """A new answer."""
        self._section, self._shown = "", ""
        self._wrapping = self._new_wrapping()

    def _new_wrapping(self) -> Wrapping | None:
        """For a person; a file keeps the lines as they are."""
        return Wrapping(shutil.get_terminal_size().columns - 1) if self.is_terminal else None

    def write(self, text: str, *, is_opened: bool, is_whole: bool = False) -> None:
        """The text as far as it is written; only what is new is printed."""
        sure = text if is_whole else text[: len(text) - held_back(text)]
        tagged = split_tags(sure, is_opened=is_opened)
        if tagged is None:
            self._grow("text", sure)
            return
        thinking, answer = tagged
        if thinking and not answer:
            self._grow("thinking", thinking)
        elif answer:
            if self._section != "answer" and thinking:
                self._grow("thinking", thinking)
            self._grow("answer", answer)

    def end(self) -> None:
        """The answer is whole."""
        if self._section:
            self._end_section()
        self._section = ""

    def label(self, word: str) -> None:
        """A heading, where a person looks."""
        if self.is_terminal:
            self._put(f"{BOLD}{word}{PLAIN}\n" if self._has_styles else f"{word}\n")

    def line(self, text: str, *, is_dim: bool = False) -> None:
        """A line of somebody's text."""
        safe = safe_line(text)
        self._put(f"{DIM}{safe}{PLAIN}\n" if is_dim and self._has_styles else f"{safe}\n")

    def block(self, text: str, *, is_dim: bool = False) -> None:
        """Lines of somebody's text."""
        for part in safe_text(text).splitlines():
            self.line(part, is_dim=is_dim)

    def count(self, text: str) -> None:
        """How far it is, on one line that is written over; only where a person looks."""
        if sys.stderr.isatty():
            self._is_counting = True
            write_over(text)

    def end_count(self) -> None:
        """Take that line away."""
        if self._is_counting:
            write_over("")
        self._is_counting = False

    @property
    def board_rows(self) -> int:
        """Rows for `board`; none where nobody looks, or where a cursor cannot go up."""
        can_go_up = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        return max(0, shutil.get_terminal_size().lines - 2) if can_go_up else 0

    def board(self, texts: Sequence[str], heads: Sequence[str]) -> None:
        """A row for each text that is being written, with its head and its end; written over the rows of before."""
        width = shutil.get_terminal_size().columns - 1
        rows = [head + ending(text, width - len(head)) for head, text in zip(heads, texts, strict=True)]
        if len(rows) != len(self._board):
            self.end_board()
            sys.stderr.write("\n" * len(rows))
            self._board = [""] * len(rows)
        for row, (was, now) in enumerate(zip(self._board, rows, strict=True)):
            if was != now:
                up = len(rows) - row
                sys.stderr.write(f"\x1b[{up}A\r{now}\x1b[K\x1b[{up}B\r")
        sys.stderr.flush()
        self._board = rows

    def end_board(self) -> None:
        """Take those rows away."""
        if self._board:
            sys.stderr.write(f"\x1b[{len(self._board)}A\r\x1b[J")
            sys.stderr.flush()
        self._board = []

    def _grow(self, section: str, text: str) -> None:
        if section != self._section:
            if self._section:
                self._end_section()
            if section != "text":
                self.label(section)
            self._section, self._shown = section, ""
            if section == "thinking" and self._has_styles:
                self._put(DIM)
        safe = safe_text(text, max_line=ONE_LINE)
        if len(safe) > len(self._shown):
            more = safe[len(self._shown) :]
            self._put(self._wrapping.feed(more) if self._wrapping else more)
            self._shown = safe

    def _end_section(self) -> None:
        held = self._wrapping.end() if self._wrapping else ""
        self._put(f"{held}{PLAIN}\n" if self._has_styles else f"{held}\n")
        self._wrapping = self._new_wrapping()

    def _put(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def ending(text: str, width: int) -> str:
    """The end of a text on one line of so many cells.

    >>> ending("first this\\nand then that", 12), ending("short", 12)
    ('…d then that', 'short')
    """
    most = max(width, 1) * 4
    line = safe_line(text[-most:])
    if len(text) <= most and sum(map(cell_width, line)) <= width:
        return line
    cells, start = 0, len(line)
    while start and (cells := cells + cell_width(line[start - 1])) < width:
        start -= 1
    return f"…{line[start:]}"


def figures(said: Said, seconds: float | None = None) -> str:
    """What is to be known about an answer, in words."""
    words = [f"{said.tokens} tokens"]
    if seconds is not None:
        words.append(f"{seconds:.1f} s")
    if said.is_forced:
        words.append("its thinking was ended by the budget")
    if said.finish is Finish.TRUNCATED:
        words.append("cut off")
    if said.is_right is not None:
        words.append("right" if said.is_right else "wrong")
    return ", ".join(words)


def votes(counted: Sequence[tuple[str, int]], total: int) -> list[str]:
    """The count of votes, a line a value.

    >>> votes([("15", 2), ("", 1)], 3)
    ['2 of 3  15', '1 of 3  no answer']
    """
    return [f"{count} of {total}  {value or 'no answer'}" for value, count in counted]
