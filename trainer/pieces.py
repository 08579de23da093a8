"""Answers or examples taken up to a budget of tokens, and cut into pieces that are forwarded together.

Deliberately left out: what a piece is forwarded through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from trainer.rows import count_positions


class Written(Protocol):
    """A prompt, and what stands behind it."""

    @property
    def prompt_ids(self) -> list[int]: ...

    @property
    def length(self) -> int:
        """Tokens behind the prompt."""


class Counted(Protocol):
    """Something that has tokens."""

    @property
    def total(self) -> int: ...


W = TypeVar("W", bound=Written)
C = TypeVar("C", bound=Counted)


def take_until(stream: Iterable[C], budget_tokens: int) -> Iterator[C]:
    """What comes from the stream, up to the one with which they have the tokens."""
    for one in stream:
        yield one
        budget_tokens -= one.total
        if budget_tokens <= 0:
            return


def pieces(answers: Sequence[W], budget_tokens: int, *, packs: bool = False) -> list[list[W]]:
    """The answers by length, in pieces of at most `budget_tokens` positions, padding and all (or of one row)."""
    cut = cut_groups([[len(answer.prompt_ids) + answer.length] for answer in answers], budget_tokens, packs=packs)
    return [[answers[place] for place in piece] for piece in cut]


def cut_groups(lengths: Sequence[Sequence[int]], budget_tokens: int, *, packs: bool = False) -> list[list[int]]:
    """Which groups of rows make a piece of at most so many positions, those of short rows first; none is cut.

    >>> cut_groups([[30, 40], [5, 5], [20, 9]], 100)
    [[1, 2], [0]]
    """
    cut: list[list[int]] = []
    within: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: max(lengths[place])):
        within += lengths[place]
        if not cut or count_positions(within, packs=packs) > budget_tokens:
            cut.append([])
            within = list(lengths[place])
        cut[-1].append(place)
    return cut
