"""Which answers somebody wants to see, as a line that a person types: the filter of the samples.

    reward>0.5 step:120..130 rescued prompt:"solve 4 7" no wait

    step reward length     a number (`step:7`), a range (`step:7..9`, `7..`, `..9`), or `<` `<=` `>` `>=` and a number
    rescued harmed ...     what reflection did; `reflecting` for any of it
    right wrong            the verdict
    scored unscored        whether there is a reward
    finds                  a winning move that nobody expected (Move 37)
    cut ended              whether the token limit ended it
    starred flagged noted  what people said of it
    monitor:NAME           a finding of this monitor; `monitor:*` of any
    prompt:TEXT            what the prompt holds
    text:TEXT TEXT         what the answer holds; all words that mean nothing else are one text, as they stand

Quotes make anything a text: `"right"` looks for the word. Every term must hold. Deliberately left out: `or`, `not` and
brackets, which a store of a million answers cannot answer at once.
"""

from __future__ import annotations

import math
import re

from msgspec.structs import replace

from ponder.errors import UsageError
from ponder.events import Finish, Outcome
from ponder.knobs import nearest
from ponder.wire import GetSamples

LONGEST_TEXT = 200
MOST = 1 << 62
ORDERS = ("newest", "reward", "length")
"""What `GetSamples.order` takes: newest, highest reward or longest first."""
NUMBERS = ("step", "reward", "length")
TEXTS = ("prompt", "text", "monitor")
WORDS: dict[str, dict[str, object]] = {
    **{str(outcome): {"outcome": outcome} for outcome in Outcome},
    "reflecting": {"only_reflecting": True},
    "right": {"is_correct": True},
    "wrong": {"is_correct": False},
    "scored": {"is_scored": True},
    "unscored": {"is_scored": False},
    **{word: {f"only_{word}": True} for word in ("starred", "flagged", "noted")},
    "finds": {"only_finds": True},
    "cut": {"finish": Finish.TRUNCATED},
    "ended": {"finish": Finish.END},
}
"""Words that are a term by themselves, and what they ask for."""
EXAMPLE = 'for example `reward>0.5 step:120..130 rescued prompt:"solve 4"`; quote a text that looks like a term'

_TERM = re.compile(r'(?:(?P<key>[A-Za-z_]+)(?P<sign>>=|<=|[:=<>]))?(?P<value>"(?:[^"\\]|\\.)*(?P<end>"?)|\S*)')


def read_filter(line: str, asked: GetSamples) -> GetSamples:
    """The request with what the line asks for; raises UsageError that names the term at fault.

    >>> found = read_filter('reward>=0.5 step:7..9 rescued no wait', GetSamples("demo"))
    >>> found.min_reward, found.min_step, found.max_step, str(found.outcome), found.text
    (0.5, 7, 9, 'rescued', 'no wait')
    """
    wanted: dict[str, object] = {}
    words: list[str] = []
    at = 0
    while at < len(line):
        if line[at].isspace():
            at += 1
            continue
        match = _TERM.match(line, at)
        if match is None or match.end() == at:
            raise AssertionError("a term is at least one character")
        at = match.end()
        if match["value"].startswith('"') and not match["end"]:
            raise UsageError(f"`{match[0]}` has no closing quote", EXAMPLE)
        _take(match, wanted, words)
    if words:
        _want(wanted, "text", _fitting(" ".join(words)))
    return replace(asked, **wanted)


def _take(match: re.Match[str], wanted: dict[str, object], words: list[str]) -> None:
    """One term into what is wanted, or a word into the text."""
    term, key, sign, value = match[0], (match["key"] or "").lower(), match["sign"], match["value"]
    is_quoted = value.startswith('"')
    text = re.sub(r"\\(.)", r"\1", value[1:-1]) if is_quoted else value
    if not key and (is_quoted or text.lower() not in WORDS):
        words.append(text)
    elif not key:
        for name, choice in WORDS[text.lower()].items():
            _want(wanted, name, choice)
    elif key in TEXTS and sign in (":", "="):
        if not text:
            raise UsageError(f"`{term}` does not say what to look for", EXAMPLE)
        _want(wanted, key, _fitting(text))
    elif key in NUMBERS:
        for name, bound in _bounds(key, sign, text, term).items():
            _want(wanted, name, bound)
    else:
        known = [*NUMBERS, *TEXTS]
        hint = nearest(key, known) or f"there are {', '.join(known)}; {EXAMPLE}"
        raise UsageError(f"there is no `{key}` to filter by (`{term}`)", hint)


def _want(wanted: dict[str, object], name: str, value: object) -> None:
    """Both of two bounds hold; two other wishes contradict each other."""
    known = wanted.get(name, value)
    if isinstance(known, int | float) and isinstance(value, int | float) and name.startswith(("min_", "max_")):
        wanted[name] = max(known, value) if name.startswith("min_") else min(known, value)
    elif known != value:
        raise UsageError(f"no answer is both `{known}` and `{value}`", "take one of them away")
    else:
        wanted[name] = value


def _fitting(text: str) -> str:
    if len(text) > LONGEST_TEXT:
        raise UsageError(f"a text to look for has {LONGEST_TEXT} characters at the most", "its beginning is enough")
    return text


def _bounds(key: str, sign: str, text: str, term: str) -> dict[str, int | float]:
    """`min_KEY` and `max_KEY` of a term; both bounds are among what is found."""
    read = _real if key == "reward" else _whole
    low, high = f"min_{key}", f"max_{key}"
    if sign in (":", "=") and ".." in text:
        first, _, last = text.partition("..")
        if not (first or last):
            raise UsageError(f"`{term}` names no number", EXAMPLE)
        return ({low: read(first, term)} if first else {}) | ({high: read(last, term)} if last else {})
    number = read(text, term)
    match sign:
        case ">=":
            return {low: number}
        case "<=":
            return {high: number}
        case ">":
            return {low: _next(number, 1)}
        case "<":
            return {high: _next(number, -1)}
        case _:
            return {low: number, high: number}


def _next(number: int | float, way: int) -> int | float:
    """The nearest number above or below."""
    return number + way if isinstance(number, int) else math.nextafter(number, way * math.inf)


def _whole(text: str, term: str) -> int:
    try:
        number = int(text.replace(",", ""))
    except ValueError:
        raise UsageError(f"`{term}` needs a whole number, not `{text}`", EXAMPLE) from None
    if abs(number) > MOST:
        raise UsageError(f"`{term}` needs a smaller number", EXAMPLE)
    return number


def _real(text: str, term: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"`{term}` needs a number, not `{text}`", EXAMPLE)
    return number
