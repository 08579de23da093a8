"""One text against another, word by word, so that it can be read without colour.

    the same {+only here+} the same [-only there-] the same

Spaces count with the word before them. Past MOST_WORDS words it is compared line by line, since the time grows with
the square. Deliberately left out: how the marks look (`tui.screens.rank`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

MOST_WORDS = 1500
_WORD = re.compile(r"\s*\S+|\s+$")
_LINE = re.compile(r"[^\n]*\n|[^\n]+$")


@dataclass(frozen=True)
class Piece:
    """A part of the comparison: what both have (neither flag), what only this one has, or only the other."""

    text: str
    is_added: bool = False
    is_missing: bool = False

    @property
    def shown(self) -> str:
        """With the signs that stand for the colours; spaces stay outside of them."""
        if not (self.is_added or self.is_missing):
            return self.text
        body = self.text.strip()
        if not body:
            return self.text if self.is_added else ""
        before, _, after = self.text.partition(body)
        left, right = ("{+", "+}") if self.is_added else ("[-", "-]")
        return f"{before}{left}{body}{right}{after}"


def compare(text: str, other: str) -> list[Piece]:
    """`text` as it differs from `other`.

    >>> "".join(piece.shown for piece in compare("2 + 3 is 5 ok", "2 + 3 is 6"))
    '2 + 3 is {+5 ok+} [-6-]'
    >>> [piece.text for piece in compare("the same", "the same")]
    ['the same']
    """
    cut = _WORD if max(text.count(" "), other.count(" ")) <= MOST_WORDS else _LINE
    here, there = cut.findall(text), cut.findall(other)
    pieces: list[Piece] = []
    for kind, there_from, there_to, here_from, here_to in SequenceMatcher(None, there, here, False).get_opcodes():
        if kind == "equal":
            pieces.append(Piece("".join(here[here_from:here_to])))
            continue
        if here_to > here_from:
            pieces.append(Piece("".join(here[here_from:here_to]), is_added=True))
        if there_to > there_from:
            pieces.append(Piece("".join(there[there_from:there_to]), is_missing=True))
    return pieces
