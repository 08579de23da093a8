"""Where marker words stand in a text, and where they are not meant.

    not meant    code, quotes, tags of a template, and what the text copies from its prompt
    loops        what the text says for the third time or more in a row

A strong marker is found wherever it is a word of its own; a weak one only where it opens a sentence or a line, or
stands before punctuation, and only if it is of the text's own language: the Latin one whose common words the text has
most of, and every language with a script of its own. Deliberately left out: whether what is found is a turn
(`trainer.reflection`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trainer.folding import fold, folded
from trainer.markers import STRONG, Marker, Markers, WordList

ECHO_WORDS = 6
"""So many words in a row that stand in the prompt are an echo of it."""
LONGEST_ROUND = 24
"""Words of the longest round of a loop."""
ROUNDS = 3
"""From the so-many-th round on, a repetition is a loop."""
MASKED = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`"  # code
    r"|“[^”]*”|„[^“”]*[“”]|«[^»]*»|「[^」]*」|『[^』]*』|(?<!\w)\"[^\"\n]{1,200}\"(?!\w)|^[ \t]*>[^\n]*$"  # quotes
    r"|<[/|]?\w[\w|]{0,30}\|?>",  # tags
    re.DOTALL | re.MULTILINE,
)
_WORD = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]|[^\s\u3040-\u30ff\u4e00-\u9fff]+")
_LATIN = re.compile(r"\w+")
_STOPPED = re.compile(r"[ \t*_]*(?:[,.!?:;、。।،؟؛\n]|\Z)")
_ENDS = ".!?。।؟\n"
_LEAD = " \t*_#>(-"
"""What may stand between the end of a sentence or line and the first word of the next."""
_LONGEST_LEAD = 40
_IN_WORDS = ("L", "M", "N")
"""Unicode's letters, marks and numbers: what a word goes on with."""

Spans = list[tuple[int, int]]


@dataclass(frozen=True)
class Spotted:
    """A marker and where it stands in the original text; half open."""

    start: int
    end: int
    marker: Marker
    is_loop: bool


def spot(text: str, markers: Markers, prompt: str = "") -> list[Spotted]:
    """The markers of a text in order, none within another: the longest of those that begin together."""
    whole = fold(text)
    found = _matches(whole.text, markers)
    if not found:
        return []
    if not markers.is_grammar:
        masks = [*(match.span() for match in MASKED.finditer(whole.text)), *_echoes(whole.text, prompt)]
        found = [match for match in found if not _is_in(match[0], masks)]
    if not found:
        return []
    loops = loop_spans(whole.text)
    spotted: list[Spotted] = []
    taken_until = -1
    for start, end, marker in sorted(found, key=lambda match: (match[0], -match[1], match[2].tier)):
        if start >= taken_until:
            spotted.append(Spotted(*whole.origin(start, end), marker, _is_in(start, loops)))
            taken_until = end
    return spotted


def loop_spans(text: str) -> Spans:
    """Where a text goes round for the third time or more; half open.

    >>> [text[start:end] for text in ["a b no a b no a b no a b yes"] for start, end in loop_spans(text)]
    ['a b no a b']
    """
    places = [match.span() for match in _WORD.finditer(text)]
    words = [text[start:end] for start, end in places]
    spans: Spans = []
    for size in range(1, min(LONGEST_ROUND, len(words) // ROUNDS) + 1):
        run = 0
        for at in range(size, len(words) + 1):
            if at < len(words) and words[at] == words[at - size]:
                run += 1
                continue
            if run >= (ROUNDS - 1) * size:
                first = at - run - size
                spans.append((places[first + (ROUNDS - 1) * size][0], places[at - 1][1]))
            run = 0
    return sorted(spans)


def _matches(text: str, markers: Markers) -> list[tuple[int, int, Marker]]:
    own = _own_language(text, markers.lists)
    return [
        (start, end, marker)
        for part in markers.lists
        for marker in part.markers
        if marker.word in text
        for start, end in _places(text, marker.word, part.is_inside)
        if marker.tier == STRONG or ((not part.common or part is own) and _stands_out(text, start, end))
    ]


def _own_language(text: str, lists: Sequence[WordList]) -> WordList | None:
    """The list whose common words the text has most of; English, unless another has two more than it, or is alone."""
    latin = [part for part in lists if part.common]
    if len(latin) < 2:
        return latin[0] if latin else None
    words = set(_LATIN.findall(text))
    english_first = sorted(latin, key=lambda part: part.language != "en")
    return max(english_first, key=lambda part: len(words & part.common) - (part.language != "en"))


def _places(text: str, word: str, is_inside: bool) -> Iterator[tuple[int, int]]:
    at = text.find(word)
    while at >= 0:
        end = at + len(word)
        if is_inside or not (_goes_on(text, at - 1) or _goes_on(text, end)):
            yield at, end
        at = text.find(word, end)


def _goes_on(text: str, at: int) -> bool:
    """Whether a word goes on at this place."""
    return 0 <= at < len(text) and (text[at] == "_" or unicodedata.category(text[at])[0] in _IN_WORDS)


def _stands_out(text: str, start: int, end: int) -> bool:
    """Whether it opens a sentence or a line, or stands before punctuation."""
    before = text[max(0, start - _LONGEST_LEAD) : start].rstrip(_LEAD)
    is_opening = before[-1] in _ENDS if before else start <= _LONGEST_LEAD
    return is_opening or _STOPPED.match(text, end) is not None


def _echoes(text: str, prompt: str) -> Spans:
    asked = _WORD.findall(folded(prompt))
    copied = {tuple(asked[at : at + ECHO_WORDS]) for at in range(len(asked) - ECHO_WORDS + 1)}
    if not copied:
        return []
    places = [match.span() for match in _WORD.finditer(text)]
    words = [text[start:end] for start, end in places]
    return [
        (places[at][0], places[at + ECHO_WORDS - 1][1])
        for at in range(len(words) - ECHO_WORDS + 1)
        if tuple(words[at : at + ECHO_WORDS]) in copied
    ]


def _is_in(place: int, spans: Spans) -> bool:
    return any(start <= place < end for start, end in spans)
