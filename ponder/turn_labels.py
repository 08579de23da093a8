"""What people say that turns did, beside what the detector says: drawn, kept in a file, and told how far both agree.

    drawn       one turn of an answer, answers at random, in an order that is the same for everybody who labels the run
    a line      of the file: who said what of which place, and the detector's word for it
    agreement   share of equal words with its interval, Krippendorff's alpha, and which word stood for which

A person sees the detector's word of no turn before all are named. Turns that it passes over are never shown, so that
agreement says nothing of them; texts whose turns are known do (bench/RESULTS.md). Deliberately left out: asking.
"""

from __future__ import annotations

import heapq
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from ponder.agreement import krippendorff_alpha
from ponder.errors import UsageError
from ponder.events import Mark, Outcome
from ponder.shares import wilson_interval
from ponder.wire import StoredRollout

NO_TURN = "none"
"""A person's word for a place at which nothing turns back."""
WORDS = (*(str(outcome) for outcome in Outcome), NO_TURN)
"""What a person may say; each begins with a letter of its own."""


class Label(Struct, frozen=True):
    """What a person says of a turn."""

    run: str
    sample: int
    start: int
    """Where it stands in the answer's text, in characters, half open."""
    end: int
    word: str
    said: str
    """One of WORDS."""
    detector: Outcome
    by: str
    at_us: int

    @property
    def place(self) -> tuple[str, int, int]:
        """The turn that it is about."""
        return self.run, self.sample, self.start


class Agreement(Struct, frozen=True):
    """How far people and the detector say the same."""

    labels: int
    share: float
    low: float
    high: float
    """95 % interval of the share."""
    alpha: float | None
    """Krippendorff's, nominal; None where only one word was said."""
    counts: dict[str, dict[str, int]]
    """How often people said a word where the detector said another: by the detector's, then by theirs."""


def draw(answers: Iterable[StoredRollout], count: int) -> list[tuple[StoredRollout, Mark]]:
    """One turn of each of `count` answers at random; the first of them are those that fewer would have been."""
    turning = (stored for stored in answers if stored.rollout.marks)
    chosen = heapq.nsmallest(count, turning, key=lambda stored: _lot(stored.run, stored.id))
    return [(one, min(one.rollout.marks, key=lambda mark: _lot(one.run, one.id, mark.start))) for one in chosen]


def _lot(*place: str | int) -> int:
    """A number that looks drawn, and is the same for the same place for ever."""
    return zlib.crc32(repr(place).encode())


def meaning(letter: str) -> str:
    """The word that begins with this letter; empty for any other.

    >>> meaning("r"), meaning("n"), meaning("x"), meaning("")
    ('rescued', 'none', '', '')
    """
    return next((word for word in WORDS if letter and word[0] == letter), "")


def read_labels(path: Path) -> list[Label]:
    """The labels of a file, none where there is no file; UsageError names the line that is none."""
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
    except OSError as error:
        raise UsageError(f"`{path}` cannot be read: {error.strerror}", "name a file of yours") from None
    labels = []
    for number, line in enumerate(lines, 1):
        try:
            labels.append(msgspec.json.decode(line, type=Label))
        except msgspec.DecodeError:
            raise UsageError(
                f"`{path}`, line {number} is no label of a turn", "name a new file, or one that `ponder label` wrote"
            ) from None
    return labels


def add_label(path: Path, label: Label) -> None:
    """Write it behind the others; UsageError where that cannot be."""
    try:
        with path.open("ab") as file:
            file.write(msgspec.json.encode(label) + b"\n")
    except OSError as error:
        raise UsageError(f"`{path}` cannot be written: {error.strerror}", "name a file in a folder of yours") from None


def agreement(labels: Sequence[Label]) -> Agreement | None:
    """Of all labels together; None where there are none."""
    if not labels:
        return None
    same = sum(label.said == label.detector for label in labels)
    low, high = wilson_interval(same, len(labels))
    counts = {
        str(outcome): dict(Counter(label.said for label in labels if label.detector is outcome))
        for outcome in Outcome
        if any(label.detector is outcome for label in labels)
    }
    alpha = krippendorff_alpha([(label.said, str(label.detector)) for label in labels])
    return Agreement(len(labels), same / len(labels), low, high, alpha, counts)
