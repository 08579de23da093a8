"""Model text made harmless for any terminal: the one sanitiser.

A policy under reinforcement learning emits whatever bytes pay. An escape sequence can clear the screen, fill the
clipboard or make the terminal type; a bidi control shows a judge another answer than the one that was written; an
invisible character hides instructions. So every string that a model, a prompt or a name may have touched passes
through here once before a screen or a terminal sees it, and what was replaced stays visible and is counted.

    `safe_text(text)`   many lines: `\\n` and `\\t` stay, CR LF becomes LF, lines are capped
    `safe_line(text)`   one line: a newline becomes a visible sign, and the line can be cut to a width in cells
    `sanitise(text)`    the same as `safe_text`, with the count, the places, and a map from old offsets to new ones

Left out on purpose: normalisation (NFC would change what is judged), markup (nothing here knows any; see the widgets),
and the terminal's own last gate (tui/driver.py), which holds even for text that forgot to pass here.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

MAX_LINE = 4000
"""Characters of one line that are shown; the rest becomes `… 12,345 more`."""

MAX_COMBINING = 4
"""Combining marks that one character may carry; the rest becomes `‹+996 marks›`."""

# Everything that needs no look: printable ASCII, newline, tab, and the blocks of everyday writing that hold neither
# controls, combining marks, format characters nor holes. Whatever is missing here is merely slower, never less safe.
_HARMLESS = (
    "\n\t\x20-\x7e\xa0-\xac\xae-\u02ff\u0370-\u0377\u037a-\u037f\u0391-\u03a1\u03a3-\u0482\u048a-\u052f"
    "\u2010-\u2027\u2030-\u205e\u2070-\u2071\u2074-\u208e\u20a0-\u20bd\u2100-\u218b\u2190-\u2426\u2440-\u244a"
    "\u2460-\u2b73\u3001-\u3029\u3041-\u3096\u309b-\u30ff\u4e00-\u9fef\uac00-\ud7a3\uff01-\uff9f"
    "\U0001f300-\U0001f3fa\U0001f400-\U0001f64f\U0001f680-\U0001f6c5"
)
_SUSPECT = re.compile(f"[^{_HARMLESS}]")
_MARKS_OR_SUSPECT = re.compile(f"[^{_HARMLESS}]+")

# Marks and letters that draw nothing at all, though their category does not say so.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0")


@dataclass(frozen=True, slots=True)
class SafeText:
    """Text that is safe to print, and how it came from the original.

    `replaced` counts the original characters that were made visible or folded away as too many combining marks;
    a CR of CR LF and the hidden rest of a long line are not counted: they are no one's trick.
    `spans` are the places of the replacements in `text`, for a warning style.
    """

    text: str
    replaced: int = 0
    spans: tuple[tuple[int, int], ...] = ()
    # Edits in order: original start, original end, start in text, end in text. Between edits both sides run in step.
    _edits: tuple[tuple[int, int, int, int], ...] = ()

    def offset(self, original: int) -> int:
        """Where the original character number `original` is in `text`.

        Never decreases. For a character that was kept it is that character; for a replaced one, the start of its
        replacement; for one hidden in a cut or folded run, a place inside or at the end of the marker that stands
        for it. One past the original's end gives one past the text's end.

        >>> safe = sanitise("a\\x1b[31m")
        >>> safe.text, safe.offset(2), safe.badge
        ('a␛[31m', 2, '1 control char')
        """
        index = bisect_right(self._edits, (original, 1 << 62, 0, 0)) - 1
        if index < 0:
            return original
        start, end, new_start, new_end = self._edits[index]
        if original < end:
            return min(new_start + original - start, new_end)
        return new_end + original - end

    @property
    def badge(self) -> str:
        """`7 control chars`, or nothing."""
        if not self.replaced:
            return ""
        return f"{self.replaced:,} control char{'s' if self.replaced > 1 else ''}"


def sanitise(text: str, *, max_line: int = MAX_LINE) -> SafeText:
    """Make `text` safe for a terminal of many lines, remembering every replacement.

    Its own output has nothing left to replace (a line that replacements made longer than `max_line` is cut again).
    """
    has_suspects = _SUSPECT.search(text) is not None
    cuts = list(_long_line_cuts(text, max_line))
    if not has_suspects and not cuts:
        return SafeText(text)
    writer = _Writer(text)
    for cut_start, cut_end in cuts:
        writer.copy(cut_start)
        writer.replace(cut_end, f"… {cut_end - cut_start:,} more", counted=0)
    writer.copy(len(text))
    return writer.done()


def safe_text(text: str, *, max_line: int = MAX_LINE) -> str:
    """`text` with everything a terminal might obey made visible; keeps newlines and tabs.

    >>> safe_text("tick\\r\\n\\x1b]52;c;cm0gLXJm\\x07\\u202eevil")
    'tick\\n␛]52;c;cm0gLXJm␇‹U+202E›evil'
    """
    return sanitise(text, max_line=max_line).text


def safe_line(text: str, width: int | None = None) -> str:
    """`text` on one line: newlines and tabs become visible too; cut to `width` cells with a final `…`.

    >>> safe_line("a name\\nwith a break"), safe_line("the first line of an answer", 12)
    ('a name␊with a break', 'the first l…')
    """
    if width is not None and width <= 0:
        return ""
    if len(text) <= (MAX_LINE if width is None else width) and text.isascii() and text.isprintable():
        return text
    if width is None and len(text) > MAX_LINE:
        return f"{safe_line(text[:MAX_LINE])}… {len(text) - MAX_LINE:,} more"
    head = text if width is None else text[: width * (MAX_COMBINING + 1) + MAX_COMBINING]
    line = safe_text(head, max_line=max(len(head), 1)).translate(_ONE_LINE)
    if width is None:
        return line
    if len(head) == len(text) and sum(map(cell_width, line)) <= width:
        return line
    used = 0
    for index, character in enumerate(line):
        used += cell_width(character)
        if used > width - 1:
            return line[:index] + "…"
    return line + "…"


def cell_width(character: str) -> int:
    """Cells of one character on a terminal, for plain output; the screens measure with their toolkit's own table."""
    if character.isascii():
        return 1
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


_ONE_LINE = {ord("\n"): "␊", ord("\t"): "␉"}


class _Writer:
    """Builds the safe text from left to right, and the edits with it."""

    def __init__(self, original: str) -> None:
        self._original = original
        self._read = 0
        self._pieces: list[str] = []
        self._written = 0
        self._edits: list[tuple[int, int, int, int]] = []
        self._spans: list[tuple[int, int]] = []
        self._replaced = 0

    def copy(self, until: int) -> None:
        """Copy up to the original offset `until`, replacing what is suspect on the way."""
        for match in _MARKS_OR_SUSPECT.finditer(self._original, self._read, until):
            self._keep(match.start())
            self._suspects(match.end())
        self._keep(until)

    def replace(self, until: int, replacement: str, *, counted: int) -> None:
        """Let `replacement` stand for the original up to `until`."""
        start = self._written
        self._pieces.append(replacement)
        self._written += len(replacement)
        self._edits.append((self._read, until, start, self._written))
        if counted:
            self._spans.append((start, self._written))
            self._replaced += counted
        self._read = until

    def done(self) -> SafeText:
        return SafeText("".join(self._pieces), self._replaced, tuple(self._spans), tuple(self._edits))

    def _keep(self, until: int) -> None:
        if until > self._read:
            self._pieces.append(self._original[self._read : until])
            self._written += until - self._read
            self._read = until

    def _suspects(self, until: int) -> None:
        """Look at each character of a suspicious run: keep it, replace it, or fold a flood of combining marks."""
        while self._read < until:
            character = self._original[self._read]
            if _is_combining(character) and self._has_base():
                end = self._read + 1
                while end < until and _is_combining(self._original[end]):
                    end += 1
                folded = end - self._read - MAX_COMBINING
                self._keep(min(end, self._read + MAX_COMBINING))
                if folded > 0:
                    self.replace(end, f"‹+{folded:,} marks›", counted=folded)
            elif character == "\r" and self._original[self._read + 1 : self._read + 2] == "\n":
                self.replace(self._read + 2, "\n", counted=0)
                until = max(until, self._read)
            elif (visible := _visible(character)) is None and not _is_combining(character):
                self._keep(self._read + 1)
            else:
                self.replace(self._read + 1, visible or _code_point(character), counted=1)

    def _has_base(self) -> bool:
        """Whether a combining mark written now would sit on a character of this text."""
        return bool(self._pieces) and self._pieces[-1][-1] not in "\n\t›"


@lru_cache(maxsize=4096)
def _is_combining(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Me", "Mc") and _visible(character) is None


@lru_cache(maxsize=4096)
def _visible(character: str) -> str | None:
    """What stands for a character that must not reach a terminal; None when it may."""
    code = ord(character)
    if character in "\n\t":
        return None
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    is_variation_selector = 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF
    # C: controls, format characters, surrogates, private use and the unassigned; Z: the two line separators.
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    if hidden or is_variation_selector or character in _INVISIBLE:
        return _code_point(character)
    return None


def _code_point(character: str) -> str:
    return f"‹U+{ord(character):04X}›"


def _long_line_cuts(text: str, max_line: int) -> Iterator[tuple[int, int]]:
    """The parts of lines beyond `max_line` characters, as (start, end); a line's CR before its LF stays with the LF."""
    if len(text) <= max_line:
        return
    ends = [-1, *(match.start() for match in re.finditer("\n", text)), len(text)]
    for before, end in pairwise(ends):
        start = before + 1
        if end - start > max_line:
            stop = end - 1 if end < len(text) and text[end - 1] == "\r" else end
            if stop - start > max_line:
                yield start + max_line, stop
