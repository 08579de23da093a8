"""Answers or examples cut into pieces that are forwarded together: rows of similar length, within a budget of tokens.

Deliberately left out: what a piece is forwarded through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from trainer.rows import count_positions


class Written(Protocol):
    """A prompt, and what stands behind it."""

    @property
    def prompt_ids(self) -> list[int]: ...

    @property
    def length(self) -> int:
        """Tokens behind the prompt."""


W = TypeVar("W", bound=Written)


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
