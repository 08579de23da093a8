"""Text in the form in which words are compared, and where each of its characters stands in the original.

NFKC and casefold (Unicode Standard Annex 15; section 3.13), the usual apostrophes and hyphens as one of each. A letter
and the marks that follow it are folded together, so that a place in the folded text is one in the original, whatever
was composed or taken apart. Deliberately left out: the few Indic vowels that compose with a letter that is no mark.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SAME = str.maketrans({**dict.fromkeys("\u2018\u2019\u02bc", "'"), **dict.fromkeys("\u2010\u2011\u2012\u2013", "-")})
_PLAIN = re.compile(r"[\x00-\x7f]+")
_JAMO = range(0x1160, 0x1200)
"""Vowels and ends of Korean syllables, which join the consonant before them."""


@dataclass(frozen=True)
class Folded:
    """The folded text; character i stands for the original's `starts[i]:ends[i]`."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """Where a piece that is not empty stands in the original."""
        return self.starts[start], self.ends[end - 1]


def fold(text: str) -> Folded:
    """The text folded.

    >>> fold("Wait").text, fold("Ｗａｉｔ… That’s").text
    ('wait', "wait... that's")
    >>> fold("a e\\u0301t").text == "a ét", fold("a e\\u0301t").origin(2, 3)
    (True, (2, 4))
    """
    if text.isascii():
        return Folded(text.lower(), range(len(text)), range(1, len(text) + 1))
    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for start, end in _clusters(text):
        piece = folded(text[start:end])
        pieces.append(piece)
        if text[start:end].isascii():
            starts += range(start, end)
            ends += range(start + 1, end + 1)
        else:
            starts += [start] * len(piece)
            ends += [end] * len(piece)
    return Folded("".join(pieces), starts, ends)


def folded(text: str) -> str:
    """The text alone.

    >>> folded("Überprüfen"), folded("Straße")
    ('überprüfen', 'strasse')
    """
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKC", text.translate(SAME)).casefold()
    return unicodedata.normalize("NFKC", plain.translate(SAME))


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    """Stretches that fold by themselves: letters with their marks, and runs of plain ones."""
    at, size = 0, len(text)
    while at < size:
        plain = _PLAIN.match(text, at)
        if plain and plain.end() - at > 1:
            end = plain.end() if plain.end() == size else plain.end() - 1  # its last letter may have marks
            yield at, end
            at = end
            continue
        end = at + 1
        while end < size and (unicodedata.combining(text[end]) or ord(text[end]) in _JAMO):
            end += 1
        yield at, end
        at = end
