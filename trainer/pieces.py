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
    cut: list[list[W]] = []
    lengths: list[int] = []
    for answer in sorted(answers, key=lambda answer: len(answer.prompt_ids) + answer.length):
        lengths.append(len(answer.prompt_ids) + answer.length)
        if not cut or count_positions(lengths, packs=packs) > budget_tokens:
            cut.append([])
            lengths = lengths[-1:]
        cut[-1].append(answer)
    return cut
