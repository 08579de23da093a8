"""Answers cut into pieces that are forwarded together: rows of similar length within a budget of positions.

Deliberately left out: what a piece is forwarded through.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainer.answers import Answer


def pieces(answers: Sequence[Answer], budget_tokens: int) -> list[list[Answer]]:
    """The answers by length, in pieces of at most `budget_tokens` positions with padding (or of one row)."""
    cut: list[list[Answer]] = []
    for answer in sorted(answers, key=lambda answer: len(answer.prompt_ids) + answer.length):
        row = len(answer.prompt_ids) + answer.length
        if not cut or (len(cut[-1]) + 1) * row > budget_tokens:
            cut.append([])
        cut[-1].append(answer)
    return cut
