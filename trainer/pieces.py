"""Answers or examples cut into pieces that are forwarded together, within a budget of tokens.

Rows of similar length make a piece; where prompts are shared, the answers to one prompt stay together as far as the
budget allows. Deliberately left out: what a piece is forwarded through.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from ponder.choices import Layout
from trainer.rows import Written, count_positions

W = TypeVar("W", bound=Written)


class Placed(NamedTuple):
    """An answer by its number among others."""

    place: int
    prompt_ids: list[int]
    length: int


def pieces(answers: Sequence[W], budget_tokens: int, layout: Layout = Layout.PADDED) -> list[list[W]]:
    """The answers in pieces of at most `budget_tokens` positions, padding and all (or of one answer)."""
    groups = [[answer] for answer in answers] if layout is not Layout.SHARED else _by_prompt(answers, budget_tokens)
    return [
        [answer for place in piece for answer in groups[place]] for piece in cut_groups(groups, budget_tokens, layout)
    ]


def _by_prompt(answers: Sequence[W], budget_tokens: int) -> list[list[W]]:
    """Answers to one prompt together; such as would not fit the budget are cut, those of like length together."""
    together: defaultdict[tuple[int, ...], list[W]] = defaultdict(list)
    for answer in sorted(answers, key=lambda answer: answer.length):
        together[tuple(answer.prompt_ids)].append(answer)
    groups: list[list[W]] = []
    for prompt, sharing in together.items():
        tokens = budget_tokens
        for answer in sharing:
            if tokens + answer.length > budget_tokens:
                groups.append([])
                tokens = len(prompt)
            groups[-1].append(answer)
            tokens += answer.length
    return groups


def cut_groups(
    groups: Sequence[Sequence[Written]], budget_tokens: int, layout: Layout = Layout.PADDED
) -> list[list[int]]:
    """Which groups make a piece of at most so many positions, those of short rows first; none is cut.

    >>> from trainer.rows import Text
    >>> groups = [[Text([1] * 20, 10), Text([1] * 20, 20)], [Text([1], 4)], [Text([1], 8), Text([1], 9)]]
    >>> cut_groups(groups, 50), cut_groups(groups, 50, Layout.SHARED)
    ([[1, 2], [0]], [[1, 2], [0]])
    """
    cut: list[list[int]] = []
    within: list[Written] = []
    positions = 0
    for place in sorted(range(len(groups)), key=lambda place: max(len(t.prompt_ids) + t.length for t in groups[place])):
        within += groups[place]
        positions = (
            positions + count_positions(groups[place], layout)[0]
            if layout is Layout.SHARED
            else count_positions(within, layout)[0]
        )
        if not cut or positions > budget_tokens:
            cut.append([])
            within = list(groups[place])
            positions = count_positions(within, layout)[0]
        cut[-1].append(place)
    return cut
