"""Answers cut into pieces that are forwarded together: rows of similar length within a budget of positions.

Deliberately left out: what a piece is forwarded through.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainer.answers import Answer
from trainer.rows import count_positions


def pieces(answers: Sequence[Answer], budget_tokens: int, *, packs: bool = False) -> list[list[Answer]]:
    """The answers by length, in pieces of at most `budget_tokens` positions, padding and all (or of one row)."""
    cut: list[list[Answer]] = []
    lengths: list[int] = []
    for answer in sorted(answers, key=lambda answer: len(answer.prompt_ids) + answer.length):
        lengths.append(len(answer.prompt_ids) + answer.length)
        if not cut or count_positions(lengths, packs=packs) > budget_tokens:
            cut.append([])
            lengths = lengths[-1:]
        cut[-1].append(answer)
    return cut
