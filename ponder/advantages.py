"""Rewards into advantages: how much better an answer, or one of its tokens, is than was to be expected.

Legend: G answers to one prompt, T tokens of an answer. Plain numbers, no tensors. Deliberately left out: where values
and penalties come from, and to whom which estimator applies (`trainer.credit`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ponder.knobs import AdvantageEstimator, AdvantageScale

SMALL = 1e-6
"""Added to a standard deviation before dividing, as in DeepSeekMath's public descendants."""


def group_relative(
    rewards_G: Sequence[float | None], scale: AdvantageScale, *, batch_std: float | None = None
) -> list[float]:
    """Each answer's reward minus the group's mean, over a standard deviation if `scale` says so.

    A_i = (r_i - mean(r)) / std(r);  GRPO, arXiv:2402.03300, section 4.1.2. Without the division: Dr. GRPO,
    arXiv:2503.20783. With the batch's deviation (`batch_std`) in place of the group's: Lite PPO, arXiv:2508.08221.
    The standard deviation is the population's (ddof 0).

    An answer that could not be scored (None) stays out of mean and deviation and has advantage 0. A group without
    spread gives exactly 0 for everyone.

    >>> group_relative([1.0, 0.0, 0.0, None], AdvantageScale.NONE)[3]
    0.0
    """
    scored = [reward for reward in rewards_G if reward is not None]
    if not has_spread(rewards_G):
        return [0.0] * len(rewards_G)
    mean = math.fsum(scored) / len(scored)
    divisor = _divisor(scored, scale, batch_std)
    return [0.0 if reward is None else (reward - mean) / divisor for reward in rewards_G]


def leave_one_out(
    rewards_G: Sequence[float | None], scale: AdvantageScale, *, batch_std: float | None = None
) -> list[float]:
    """Each answer's reward minus the mean of its scored siblings', over a standard deviation if `scale` says so.

    A_i = r_i - sum over j != i of r_j / (G - 1);  RLOO, arXiv:2402.14740, section 2.3, after Kool et al. 2019. It
    equals G / (G - 1) times the centred reward, and unlike that is unbiased at every G.

    >>> leave_one_out([1.0, 0.0, 0.0], AdvantageScale.NONE)
    [1.0, -0.5, -0.5]
    """
    scored = [reward for reward in rewards_G if reward is not None]
    if not has_spread(rewards_G):
        return [0.0] * len(rewards_G)
    total, siblings = math.fsum(scored), len(scored) - 1
    divisor = _divisor(scored, scale, batch_std)
    return [0.0 if reward is None else (reward - (total - reward) / siblings) / divisor for reward in rewards_G]


def uncompared(
    rewards_G: Sequence[float | None], scale: AdvantageScale, *, batch_std: float | None = None
) -> list[float]:
    """Each answer's reward as it is, over the batch's deviation if `scale` says so: REINFORCE, Williams 1992.

    Unbiased, and noisy: where every reward is 1, every answer is pushed up.

    >>> uncompared([1.0, None, 0.5], AdvantageScale.NONE)
    [1.0, 0.0, 0.5]
    """
    scored = [reward for reward in rewards_G if reward is not None]
    divisor = _divisor(scored, scale, batch_std) if scored else 1.0
    return [0.0 if reward is None else reward / divisor for reward in rewards_G]


def generalised(rewards_T: Sequence[float], values_T1: Sequence[float], *, gamma: float, lam: float) -> list[float]:
    """Generalised advantage estimation, one answer; arXiv:1506.02438, eq. 11 and 16.

    delta_t = r_t + gamma V_{t+1} - V_t;   A_t = delta_t + gamma lambda A_{t+1}

    `values_T1` has one value more than there are tokens: V_t is foretold before token t is drawn, and the last is what
    is expected after the last token: 0 when the answer ended there, the critic's word when it was only cut.

    >>> generalised([0.0, 1.0], [0.5, 0.5, 0.0], gamma=1.0, lam=1.0)
    [0.5, 0.5]
    """
    advantages, ahead = [0.0] * len(rewards_T), 0.0
    for place in reversed(range(len(rewards_T))):
        delta = rewards_T[place] + gamma * values_T1[place + 1] - values_T1[place]
        ahead = advantages[place] = delta + gamma * lam * ahead
    return advantages


def normalised(
    rows: Sequence[Sequence[float]], scale: AdvantageScale, *, whole: Sequence[float] | None = None
) -> list[list[float]]:
    """Token advantages minus their mean over all tokens of the batch, over their deviation with `batch`.

    A = (A - mean(A)) / std(A);  REINFORCE++, arXiv:2501.03262, section 3; the same for GAE is PPO's whitening. There is
    no padding to enter mean or deviation. Values that do not differ give exactly 0. `whole` are the batch's values
    where the rows are only a part of it.
    """
    flat = [value for row in rows for value in row] if whole is None else whole
    if not flat or max(flat) == min(flat):
        return [[0.0] * len(row) for row in rows]
    mean = math.fsum(flat) / len(flat)
    divisor = deviation(flat) + SMALL if scale is AdvantageScale.BATCH_STD else 1.0
    return [[(value - mean) / divisor for value in row] for row in rows]


def deviation(values: Sequence[float]) -> float:
    """The standard deviation of the population, ddof 0."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def _divisor(scored: Sequence[float], scale: AdvantageScale, batch_std: float | None) -> float:
    if scale is AdvantageScale.NONE:
        return 1.0
    if scale is AdvantageScale.BATCH_STD:
        if batch_std is None:
            raise ValueError("the batch's deviation is needed to scale by it")
        return batch_std + SMALL
    return deviation(scored) + SMALL


Estimate = Callable[..., list[float]]
"""How the answers of a group are compared: rewards, a scale and `batch_std` into an advantage each."""


def estimate_of(advantage: AdvantageEstimator) -> Estimate | None:
    """What compares whole answers; None where tokens are compared, which takes more than rewards."""
    return {
        AdvantageEstimator.GROUP: group_relative,
        AdvantageEstimator.LEAVE_ONE_OUT: leave_one_out,
        AdvantageEstimator.NONE: uncompared,
    }.get(advantage)


def has_spread(rewards_G: Sequence[float | None]) -> bool:
    """Whether the scored answers of a group differ: only then does it teach."""
    scored = [reward for reward in rewards_G if reward is not None]
    return len(scored) > 1 and max(scored) > min(scored)
