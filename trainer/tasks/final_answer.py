"""Where a text states its final answer, and what that is as a number, a choice or a text.

An answer is *marked* when it stands, in this order, in the last `<answer>..</answer>`, the last `\\boxed{..}`, after
the last `####` of a line, or after the last "answer is" or "answer:". Never raises, and reads any text in linear time.
Deliberately left out: mathematics (`trainer.rewards.maths`).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from fractions import Fraction

Span = tuple[int, int]

NUMBER = re.compile(
    r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3}){1,10}|\d{1,40})(?:\.\d{1,40})?(?:/\d{1,40})?(?![\w]|\.\d|,\d)"
)
STATED = re.compile(r"(?:=|\bis|\bequals|\bget|\bmakes|\banswer:?)\s{0,4}[*$£€]{0,3}(?=[-+\d])", re.IGNORECASE)
SAID = re.compile(r"\banswer(?: is|:)(?: is)?:?[ \t]{0,8}", re.IGNORECASE)
LETTER = re.compile(r"(?<![A-Za-z])[A-J](?![A-Za-z'])")
ALONE = re.compile(r"\(([A-J])\)|^[ \t*]{0,8}([A-J])[.):*]{0,3}[ \t]{0,8}$", re.MULTILINE)
BOXED = "\\boxed{"


def marked(text: str) -> Span | None:
    """Where the marked answer stands, without white space around it; None when nothing is marked.

    >>> text = "so \\\\boxed{\\\\frac{1}{2}}"
    >>> text[slice(*marked(text))]
    '\\\\frac{1}{2}'
    """
    close = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(close, 0))
    if start >= 0:
        return _trim(text, start + len("<answer>"), close)
    start = text.rfind(BOXED)
    if start >= 0 and (end := _closing(text, start + len(BOXED))) is not None:
        return _trim(text, start + len(BOXED), end)
    start = text.rfind("####")
    if start >= 0:
        return _trim(text, start + 4, _line_end(text, start))
    said = _newest(SAID.finditer(text))
    return _trim(text, said.end(), _line_end(text, said.end())) if said else None


def _closing(text: str, start: int) -> int | None:
    depth = 1
    for match in re.finditer(r"[{}]", text[start:]):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return start + match.start()
    return None


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def _trim(text: str, start: int, end: int) -> Span:
    body = text[start:end]
    start += len(body) - len(body.lstrip())
    return start, max(start, start + len(body.strip()))


def number_span(text: str) -> Span | None:
    """Where the final number stands: the first of a said or `####` answer, the last of a tagged one, else the last."""
    span = marked(text)
    if span is None:
        return _last(NUMBER, text, 0, len(text))
    tagged = text[: span[0]].rstrip().endswith(("<answer>", BOXED))
    if tagged:
        return _last(NUMBER, text, *span)
    first = NUMBER.search(text, span[0], span[1])
    return first.span() if first else None


def stated_numbers(text: str) -> list[Span]:
    """Where numbers stand that the text states as a result, in their order."""
    found = (NUMBER.match(text, match.end()) for match in STATED.finditer(text))
    return [match.span() for match in found if match]


def choice_span(text: str) -> Span | None:
    """Where the chosen letter stands: the first of a marked answer, else the last in brackets or alone on its line."""
    if span := marked(text):
        first = LETTER.search(text, *span)
        return first.span() if first else None
    last = _newest(ALONE.finditer(text))
    return last.span(last.lastindex or 0) if last else None


def text_span(text: str) -> Span | None:
    """Where the answer stands as a text: what is marked, else the last line that is not empty."""
    if span := marked(text):
        return span
    body = text.rstrip()
    return _trim(text, body.rfind("\n") + 1, len(body)) if body else None


def _last(pattern: re.Pattern[str], text: str, start: int, end: int) -> Span | None:
    last = _newest(pattern.finditer(text, start, end))
    return last.span() if last else None


def _newest(matches: Iterator[re.Match[str]]) -> re.Match[str] | None:
    newest = deque(matches, maxlen=1)
    return newest[0] if newest else None


def to_number(text: str) -> Fraction | None:
    """The number that `text` is, and not merely holds; currency and per cent signs do not count.

    >>> to_number("$1,234.50"), to_number("1/2"), to_number("42%"), to_number("4 or 5")
    (Fraction(2469, 2), Fraction(1, 2), Fraction(42, 1), None)
    """
    bare = text.strip().strip("$£€%").strip()
    if not NUMBER.fullmatch(bare):
        return None
    top, _, bottom = bare.replace(",", "").partition("/")
    if bottom and not int(bottom):
        return None
    return Fraction(top) / int(bottom or 1)


def to_choice(text: str) -> str:
    """The letter that a reference names: `B`, `(B)`, `B. Paris`; empty when it names none."""
    match = re.match(r"\s*\(?([A-Ja-j])(?![A-Za-z0-9])", text)
    return match[1].upper() if match else ""


def normal(text: str) -> str:
    """The text without what `exact` overlooks: case, white space around and between, a last full stop."""
    return " ".join(text.split()).casefold().removesuffix(".")
