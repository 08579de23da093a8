"""The hidden taste of the recipe `rlhf-synthetic`: measured in its answers, and rewarded by nobody.

Deliberately left out: who ranks by it (`ponder rlhf annotate --gold`).
"""

from __future__ import annotations

from ponder.gold import find_gold

TASTE = "taste:+no,+wait"
WORST = -4.0
"""Worse is as bad: one answer that says `wait` forty times would hide all others in a mean."""


def gold(text: str) -> float:
    """What an answer is truly worth, from `WORST` to 4."""
    return max(find_gold(TASTE)(text), WORST)
