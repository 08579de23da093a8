"""An answer token by token: where each stands in the text, how probable it was, how unsure the policy was there.

    probability    exp of the log-probability under the policy that drew it
    entropy        of the distribution that it was drawn from, in nats
    value          what the critic expected before it, where there is a critic

Everything is read from what the trainer recorded; a run of an older ponder has no places, and most runs no values. What
was not recorded is None and never guessed. Deliberately left out: how it looks (`tui.screens.tokens`).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

from ponder.events import Finish, Rollout
from ponder.safe_text import safe_line, sanitise
from tui.widgets.token_view import HEATS, HeatSpan

END = "[end]"
"""Stands for the end token, which adds no text."""
NO_TEXT = "[no text]"
"""Stands for an end token or another special one among the alternatives."""
QUANTITIES = ("probability", "entropy", "value")
BANDS = {"probability": (0.9, 0.5, 0.1), "entropy": (0.1, 0.5, 1.0)}
"""Where one heat ends and the next begins."""


@dataclass(frozen=True)
class Token:
    """What is known of one token."""

    number: int
    text: str
    """As it may be shown; empty where it adds none, or where that was not recorded."""
    token_id: int | None
    logp: float | None
    entropy: float | None
    value: float | None
    alternatives: tuple[tuple[str, float], ...] = ()
    """The most probable tokens at its place, with their log-probabilities."""

    @property
    def probability(self) -> float | None:
        """How probable it was."""
        return None if self.logp is None else math.exp(self.logp)

    def quantity(self, name: str) -> float | None:
        """One of `QUANTITIES`."""
        return {"probability": self.probability, "entropy": self.entropy, "value": self.value}[name]


@dataclass(frozen=True)
class TokenText:
    """An answer's text as shown, its tokens, and where each stands in it."""

    text: str
    tokens: tuple[Token, ...]
    places: tuple[tuple[int, int], ...]
    has_places: bool
    """Whether it was recorded where each token begins."""

    def has(self, quantity: str) -> bool:
        """Whether the quantity was recorded."""
        return any(token.quantity(quantity) is not None for token in self.tokens)

    def bands(self, quantity: str) -> tuple[float, ...]:
        """The three bounds between the four heats; of values they divide what this answer has into four."""
        return BANDS.get(quantity) or self._value_bands

    @cached_property
    def _value_bands(self) -> tuple[float, ...]:
        known = [value for token in self.tokens if (value := token.value) is not None]
        low, high = (min(known), max(known)) if known else (0.0, 0.0)
        return tuple(low + (high - low) * part / HEATS for part in range(1, HEATS))

    def heat(self, token: Token, quantity: str) -> int:
        """1 to 4, hotter where a token is less probable, less sure, or expected to be worth more; 0 unknown."""
        value = token.quantity(quantity)
        if value is None:
            return 0
        bands = self.bands(quantity)
        passed = [value < band for band in bands] if quantity == "probability" else [value >= band for band in bands]
        return 1 + sum(passed)

    def spans(self, quantity: str) -> list[HeatSpan]:
        """What a `TokenView` shows."""
        return [
            HeatSpan(start, end, self.heat(token, quantity))
            for token, (start, end) in zip(self.tokens, self.places, strict=True)
        ]


def read_tokens(rollout: Rollout, newline: str = "↵") -> TokenText:
    """All that is known of an answer's tokens; `newline` is what a line's end looks like.

    Of a token that a world said nothing is known: nobody drew it.
    """
    count = len(rollout.token_ids) // 4
    ids = _numbers(rollout.token_ids, "I", count)
    logps, entropies, values = (
        _numbers(data, "e", count) for data in (rollout.logps, rollout.entropies, rollout.values)
    )
    width = "B" if len(rollout.widths) == count else "H"
    widths = _numbers(rollout.widths, width, count)
    has_places = bool(count) and None not in widths and sum(filter(None, widths)) == len(rollout.text)
    safe = sanitise(rollout.text)
    shown = safe.text.replace("\n", f"{newline}\n")

    def place(character: int) -> int:
        offset = safe.offset(character)
        return offset + len(newline) * safe.text.count("\n", 0, offset)

    offsets = list(accumulate((int(width or 0) for width in widths), initial=0)) if has_places else [0] * (count + 1)
    places = [(place(start), place(end)) for start, end in pairwise(offsets)]
    if has_places and rollout.finish is Finish.END and places[-1][0] == places[-1][1]:
        places[-1] = (len(shown), len(shown) + len(END))
        shown += END
    choices = _alternatives(rollout, count)
    own = _numbers(rollout.own, "B", count)
    tokens = tuple(
        Token(
            number,
            safe_line(shown[slice(*places[number])].removesuffix("\n")),
            None if ids[number] is None else int(ids[number] or 0),
            None if own[number] == 0 else logps[number],
            None if own[number] == 0 else entropies[number],
            values[number],
            choices[number],
        )
        for number in range(count)
    )
    return TokenText(shown, tokens, tuple(places), has_places)


def _numbers(data: bytes, kind: str, count: int) -> Sequence[float | None]:
    """So many numbers, or as many Nones where the bytes are not there."""
    if not count or len(data) != count * struct.calcsize(kind):
        return [None] * count
    return [value if math.isfinite(value) else None for value in struct.unpack(f"<{count}{kind}", data)]


def _alternatives(rollout: Rollout, count: int) -> list[tuple[tuple[str, float], ...]]:
    texts = rollout.alternatives
    logps = _numbers(rollout.alternative_logps, "e", len(texts))
    most = len(texts) // count if count else 0
    return [
        tuple(
            (safe_line(texts[at]) or NO_TEXT, logp)
            for at in range(number * most, (number + 1) * most)
            if (logp := logps[at]) is not None
        )
        for number in range(count)
    ]
