"""Rewards into advantages: how much better an answer is than its siblings.

Legend: P prompts, G answers to each. Deliberately left out: critics and GAE; a group is its own baseline here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ponder.knobs import AdvantageScale

SMALL = 1e-6
"""Added to a standard deviation before dividing, as in DeepSeekMath's public descendants."""


def group_relative(rewards_G: Sequence[float | None], scale: AdvantageScale) -> list[float]:
    """Each answer's reward minus the group's mean, over the group's standard deviation if `scale` says so.

    A_i = (r_i - mean(r)) / std(r);  GRPO, arXiv:2402.03300, section 4.1.2. Without the division: Dr. GRPO,
    arXiv:2503.20783. The standard deviation is the population's (ddof 0).

    An answer that could not be scored (None) stays out of mean and deviation and has advantage 0. A group without
    spread gives exactly 0 for everyone.

    >>> group_relative([1.0, 0.0, 0.0, None], AdvantageScale.NONE)[3]
    0.0
    """
    scored = [reward for reward in rewards_G if reward is not None]
    if not has_spread(rewards_G):
        return [0.0] * len(rewards_G)
    mean = math.fsum(scored) / len(scored)
    deviation = math.sqrt(math.fsum((reward - mean) ** 2 for reward in scored) / len(scored))
    divisor = deviation + SMALL if scale is AdvantageScale.GROUP_STD else 1.0
    return [0.0 if reward is None else (reward - mean) / divisor for reward in rewards_G]


def has_spread(rewards_G: Sequence[float | None]) -> bool:
    """Whether the scored answers of a group differ: only then does it teach."""
    scored = [reward for reward in rewards_G if reward is not None]
    return len(scored) > 1 and max(scored) > min(scored)
