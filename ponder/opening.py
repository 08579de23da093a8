"""What a live reward model still lacks before it may act: rankings, or accuracy that is sure enough.

It acts once it has `rlhf.min_rankings` and the lower end of its accuracy on held-out prompts is above `rlhf.gate`. How
many rankings that takes is told as if it went on being right as often as now; one that is right too seldom needs to be
taught otherwise, and more of the same may never do. Deliberately left out: the decision (`trainer.live_reward`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import Struct

from ponder.rlhf import Rlhf
from ponder.shares import wilson_interval

MOST_MORE = 10_000
"""More than so many rankings are as good as never."""


class Opening(Struct, frozen=True):
    """How a closed gate stands."""

    rankings: int
    """That say something, learnt or held out."""
    least: int
    """`rlhf.min_rankings`"""
    above: float
    """`rlhf.gate`"""
    right: float | None
    """The share of held-out pairs in the reward model's order; None while none was ranked."""
    low: float
    high: float
    pairs: int
    more: int | None
    """About so many rankings more; None: more of the same do not open it."""


def opening_of(figures: Mapping[str, float], knobs: Rlhf, labels: int = 0) -> Opening:
    """Of what the newest fit to so many `labels` measured; without a fit nothing was ranked.

    >>> opening_of({"rankings": 60, "held_out_right": 60, "held_out_pairs": 100}, Rlhf()).more
    172
    >>> opening_of({"rankings": 60, "held_out_right": 54, "held_out_pairs": 100}, Rlhf()).more
    """
    rankings, pairs = int(figures.get("rankings", 0)), int(figures.get("held_out_pairs", 0))
    right = figures.get("held_out_right", 0.0) / pairs if pairs else None
    low, high = wilson_interval(figures.get("held_out_right", 0.0), pairs)
    more = max(0, knobs.min_rankings - rankings)
    needed = _needed_pairs(right, pairs, knobs.gate)
    if right is not None and needed is not None:
        more = max(more, math.ceil((needed - pairs) * rankings / pairs))
    is_never = needed is None or more > MOST_MORE or 0 < knobs.max_rankings < labels + more
    return Opening(
        rankings, knobs.min_rankings, knobs.gate, right, low, high, pairs, None if is_never else more
    )  # fmt: skip


def _needed_pairs(right: float | None, pairs: int, gate: float) -> int | None:
    """So many held-out pairs make the interval clear the gate; None: none do."""
    if right is None:
        return pairs
    if right <= gate:
        return None
    needed = max(pairs, 1)
    while wilson_interval(right * needed, needed)[0] <= gate and needed < 1_000_000:
        needed += max(1, needed // 50)
    return needed


def opening_words(opening: Opening) -> str:
    """Why it is closed, and what opens it.

    >>> opening_words(opening_of({"rankings": 12}, Rlhf()))
    '12 of 100 rankings, no held-out pair yet; about 88 rankings more'
    >>> opening_words(opening_of({"rankings": 160, "held_out_right": 60, "held_out_pairs": 100}, Rlhf()))
    'right on held-out 60.0% (50.2..69.1, n 100), and 50.2 must be above 55; about 458 rankings more at this rate'
    >>> opening_words(opening_of({"rankings": 160, "held_out_right": 54, "held_out_pairs": 100}, Rlhf()))[-62:]
    '55; more rankings alone do not open it, it is right too seldom'
    """
    lacks = [] if opening.rankings >= opening.least else [f"{opening.rankings:,} of {opening.least:,} rankings"]
    if opening.right is None:
        lacks.append("no held-out pair yet")
    elif opening.low <= opening.above:
        share, low = f"{opening.right * 100:.1f}%", f"{opening.low * 100:.1f}"
        interval = f"({low}..{opening.high * 100:.1f}, n {opening.pairs:,})"
        lacks.append(f"right on held-out {share} {interval}, and {low} must be above {opening.above * 100:g}")
    if opening.more is None:
        is_wrong = opening.right is not None and opening.right <= opening.above
        hint = "it is right too seldom" if is_wrong else "`rlhf.max_rankings` comes before"
        then = f"more rankings alone do not open it, {hint}"
    else:
        rate = " at this rate" if opening.rankings >= opening.least else ""
        then = f"about {opening.more:,} rankings more{rate}" if opening.more else "the next fit opens it"
    return "; ".join(filter(None, (", ".join(lacks), then)))
