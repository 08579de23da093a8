"""Where more thinking stops to help: the highest point of a curve of test-time compute, and what lies beyond it.

    highest   the way of answering with the most right answers, and those that are so in 95 % of resamples
    beyond    the longest way less the highest, problem by problem, with its 95 % interval
    a turn    is seen where both intervals say so: what is highest comes before the longest, and the longest is lower

Both from the same resamples (bootstrap, Efron 1979): the answers to one problem are alike, problems are not. That the
highest was chosen by looking is in its own interval. Deliberately left out: measuring, and drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from ponder.measured import Measured, way_words

RESAMPLES = 1000
LEAST_POINTS = 3


@dataclass(frozen=True)
class Turn:
    """Where a curve is highest, and what its longest way of answering makes less; shares."""

    way: str
    first: str
    """The interval of the ways that may be highest."""
    last: str
    longest: str
    tokens: float
    value: float
    beyond: float
    """0 where the longest is the highest."""
    beyond_low: float
    beyond_high: float

    @property
    def is_seen(self) -> bool:
        return self.last != self.longest and self.beyond_high < 0


def find_turn(rows: Sequence[Measured]) -> Turn | None:
    """The turn of these ways of answering, from little thinking to much; None where problems were not told apart."""
    known = [place for place, one in enumerate(zip(*(row.rates for row in rows), strict=False)) if None not in one]
    if len(rows) < LEAST_POINTS or len({len(row.rates) for row in rows}) > 1 or not known:
        return None
    rates = [[row.rates[place] or 0.0 for place in known] for row in rows]
    means = [sum(own) / len(known) for own in rates]
    best, end = _highest(means), len(rows) - 1
    rng = Random(f"turn {rows[0].seed}")
    places, falls = [], []
    for _ in range(RESAMPLES):
        drawn = rng.choices(range(len(known)), k=len(known))
        sums = [sum(map(own.__getitem__, drawn)) for own in rates]
        places.append(_highest(sums))
        falls.append((sums[end] - sums[best]) / len(known))
    low, high = round(0.025 * RESAMPLES), round(0.975 * RESAMPLES) - 1
    places, falls = sorted(places), sorted(falls)
    words = [way_words(row.way, row.amount) for row in rows]
    return Turn(
        words[best], words[places[low]], words[places[high]], words[end], rows[best].tokens, means[best],
        means[end] - means[best], falls[low], falls[high],
    )  # fmt: skip


def turn_words(name: str, turn: Turn) -> str:
    """The turn in a sentence, or that none is seen.

    >>> turn_words("made to think on", Turn("wait 2", "wait 1", "wait 2", "wait 8", 60, 0.45, -0.15, -0.18, -0.12))
    'made to think on: turns at wait 2 (wait 1 .. wait 2): 45.0 % in 60 tokens, wait 8 is -15.0 points (-18.0..-12.0)'
    >>> turn_words("made to think on", Turn("wait 8", "wait 2", "wait 8", "wait 8", 150, 0.45, 0.0, 0.0, 0.0))
    'made to think on: no turn is seen up to wait 8: that is the highest, 45.0 % in 150 tokens'
    """
    at = f"{turn.value:.1%}".replace("%", " %") + f" in {turn.tokens:,.0f} tokens"
    if turn.way == turn.longest:
        return f"{name}: no turn is seen up to {turn.longest}: that is the highest, {at}"
    low, value, high = (100 * end for end in (turn.beyond_low, turn.beyond, turn.beyond_high))
    beyond = f"{turn.longest} is {value:+.1f} points ({low:+.1f}..{high:+.1f})"
    if turn.is_seen:
        return f"{name}: turns at {turn.way} ({turn.first} .. {turn.last}): {at}, {beyond}"
    return f"{name}: no turn is seen yet: highest at {turn.way} ({turn.first} .. {turn.last}), {at}; {beyond}"


def _highest(values: Sequence[float]) -> int:
    """Of several the first: what costs less."""
    return max(range(len(values)), key=lambda place: (values[place], -place))
