"""What people say that turns did, beside what the detector says: the words, a label, and how far all agree.

    a turn      a place in an answer, and the detector's word for it; `none` where it passes over what is shown
    a label     who said what of it; the newest word of a person for a place stands, an empty one takes it back
    agreement   share of equal words, Cohen's kappa of each person with the detector and with each other person, and
                which word stood for which

People are asked about as many turns of each outcome as there are controls, however rare an outcome is: the agreement is
over what was asked, and no share of all turns. Deliberately left out: which turns are drawn (`store.turn_draw`), where
labels lie (`daemon.turn_book`), and asking (`ponder label`, the console's Label page).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Annotated

from msgspec import Meta, Struct

from ponder.agreement import Kappa, cohen_kappa
from ponder.events import Outcome
from ponder.shares import wilson_interval

NO_TURN = "none"
"""The word for a place at which nothing turns back."""
WORDS = (*(str(outcome) for outcome in Outcome), NO_TURN)
"""What may be said of a place; each begins with a letter of its own."""
MOST_WORD = 200
"""Characters of a turn's word that are kept."""

Place = tuple[int, int, int, int]
"""Step, group, answer, and where it stands in the answer's text: the same in a store that was made anew."""
Natural = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class Turn(Struct, frozen=True):
    """A place in an answer of a run at which it turns back, or seems to."""

    step: Natural
    group: Natural
    index: Natural
    """The answer's, in its group."""
    start: Natural
    """Where it stands in the text, in characters, half open."""
    end: Natural
    word: Annotated[str, Meta(max_length=MOST_WORD)]
    """What is written there."""
    detector: Annotated[str, Meta(max_length=32)]
    """One of WORDS."""

    @property
    def place(self) -> Place:
        """What tells it from all others of the run."""
        return self.step, self.group, self.index, self.start


class TurnLabel(Struct, frozen=True):
    """What a person says of a turn."""

    id: str
    """Of the request that said it."""
    turn: Turn
    said: str
    """One of WORDS; empty: nothing any more."""
    annotator: str
    at_us: int
    by: str = ""


class Person(Struct, frozen=True):
    """How far one person says the same as the detector."""

    annotator: str
    labels: int
    kappa: Kappa | None


class Pair(Struct, frozen=True):
    """How far two people say the same of the turns that both named."""

    one: str
    other: str
    same: int
    shared: int
    kappa: Kappa | None


class Agreement(Struct, frozen=True):
    """How far people and the detector say the same."""

    labels: int
    share: float
    low: float
    high: float
    """95 % interval of the share."""
    kappa: Kappa | None
    """Over all labels; None where it cannot be told."""
    counts: dict[str, dict[str, int]]
    """How often people said a word where the detector said another: by the detector's, then by theirs."""
    people: list[Person]
    pairs: list[Pair]


def meaning(letter: str) -> str:
    """The word that begins with this letter; empty for any other.

    >>> meaning("r"), meaning("n"), meaning("x"), meaning("")
    ('rescued', 'none', '', '')
    """
    return next((word for word in WORDS if letter and word[0] == letter), "")


def standing(labels: Iterable[TurnLabel]) -> list[TurnLabel]:
    """Each person's newest word for each place, in the order of their first ones; none that was taken back."""
    newest: dict[tuple[str, Place], TurnLabel] = {}
    for label in labels:
        newest[label.annotator, label.turn.place] = label
    return [label for label in newest.values() if label.said]


def agreement(labels: Sequence[TurnLabel]) -> Agreement | None:
    """Of labels that stand, all together; None where there are none."""
    if not labels:
        return None
    same = sum(label.said == label.turn.detector for label in labels)
    low, high = wilson_interval(same, len(labels))
    counts = {
        word: dict(Counter(label.said for label in labels if label.turn.detector == word))
        for word in WORDS
        if any(label.turn.detector == word for label in labels)
    }
    said: defaultdict[str, dict[Place, TurnLabel]] = defaultdict(dict)
    for label in labels:
        said[label.annotator][label.turn.place] = label
    people = [Person(name, len(own), _with_detector(own.values())) for name, own in sorted(said.items())]
    pairs = [_pair(one, other, said[one], said[other]) for one, other in combinations(sorted(said), 2)]
    return Agreement(
        len(labels), same / len(labels), low, high, _with_detector(labels), counts, people,
        [pair for pair in pairs if pair.shared],
    )  # fmt: skip


def _with_detector(labels: Iterable[TurnLabel]) -> Kappa | None:
    return cohen_kappa([(label.said, label.turn.detector) for label in labels])


def _pair(one: str, other: str, first: dict[Place, TurnLabel], second: dict[Place, TurnLabel]) -> Pair:
    both = [(label.said, second[place].said) for place, label in first.items() if place in second]
    return Pair(one, other, sum(a == b for a, b in both), len(both), cohen_kappa(both))


def kappa_words(kappa: Kappa | None) -> str:
    """The figure with its interval.

    >>> kappa_words(Kappa(0.4, 0.24, 0.55, 50)), kappa_words(None)
    ('kappa 0.40 (0.24..0.55)', 'kappa not yet known')
    """
    if kappa is None:
        return "kappa not yet known"
    return f"kappa {kappa.value:.2f} ({kappa.low:.2f}..{kappa.high:.2f})"


def agreement_lines(found: Agreement) -> list[str]:
    """What there is to say beside the table: all labels, each person with the detector, people with each other."""
    share = f"{found.share:.1%} ({found.low * 100:.1f}..{found.high * 100:.1f})"
    lines = [f"{_count(found.labels)}, {share} as the detector says; {kappa_words(found.kappa)}"]
    if len(found.people) > 1:
        lines += [f"{one.annotator}: {_count(one.labels)}, {kappa_words(one.kappa)}" for one in found.people]
    lines += [
        f"{pair.one} and {pair.other}: {pair.same:,} of {pair.shared:,} the same, {kappa_words(pair.kappa)}"
        for pair in found.pairs
    ]
    return lines


def confusion(found: Agreement) -> tuple[list[str], list[list[str]]]:
    """The table: what people said, across; a row for each word of the detector, its name first."""
    said = [word for word in WORDS if any(word in row for row in found.counts.values())]
    return said, [[word, *(str(row.get(other, 0)) for other in said)] for word, row in found.counts.items()]


def _count(labels: int) -> str:
    return f"{labels:,} label{'s' * (labels != 1)}"
