"""What is made smaller: the clipped policy surrogate, the divergence from the reference, and the normalisers.

Legend: N sampled tokens of a micro-batch, one flat axis without padding; each carries its answer's advantage and its
own weight. The weights of a whole batch are made at once (`token_weights`), so that a batch cut into micro-batches in
any way has the same gradient.

Deliberately left out: the value loss, sequence-level ratios, and everything that needs a model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ponder.knobs import KlEstimator, Normaliser


def token_weights(lengths_B: Sequence[int], normaliser: Normaliser, *, max_new_tokens: int) -> list[float]:
    """For each answer, the weight of each of its tokens in the batch's loss.

    token     1 / sum of |o|         DAPO, arXiv:2503.14476, eq. 8
    sequence  1 / (B |o_i|)          GRPO, arXiv:2402.03300, eq. 3
    constant  1 / (B L_max)          Dr. GRPO, arXiv:2503.20783, section 3

    Raises ValueError if there is no token: the mean of nothing is not zero.

    >>> token_weights([1, 3], Normaliser.TOKEN, max_new_tokens=10)
    [0.25, 0.25]
    """
    rows, tokens = len(lengths_B), sum(lengths_B)
    if tokens == 0:
        raise ValueError("no token was sampled")
    if normaliser is Normaliser.TOKEN:
        return [1.0 / tokens] * rows
    if normaliser is Normaliser.SEQUENCE:
        return [1.0 / (rows * length) if length else 0.0 for length in lengths_B]
    return [1.0 / (rows * max_new_tokens)] * rows


def clipped_surrogate(
    new_logp_N: Tensor, old_logp_N: Tensor, advantage_N: Tensor, weight_N: Tensor, *, low: float, high: float
) -> Tensor:
    """The clipped policy objective, negated so that smaller is better.

    ratio = exp(new_logp - old_logp);  -sum of weight * min(ratio * A, clip(ratio, 1 - low, 1 + high) * A)

    PPO, arXiv:1707.06347, eq. 7. `low == high` gives GRPO's term; `high > low` is DAPO's clip-higher,
    arXiv:2503.14476. With `old_logp_N = new_logp_N.detach()` the ratio is exactly 1 and the gradient is REINFORCE's:
    the first update on a fresh batch needs no other old log-probs.
    """
    ratio_N = torch.exp(new_logp_N - old_logp_N)
    clipped_N = ratio_N.clamp(1.0 - low, 1.0 + high)
    return -(weight_N * torch.minimum(ratio_N * advantage_N, clipped_N * advantage_N)).sum()


def kl_values(new_logp_N: Tensor, reference_logp_N: Tensor, estimator: KlEstimator) -> Tensor:
    """One-sample estimates of KL(policy || reference), a token each; Schulman 2020, "Approximating KL divergence".

    d = log ref - log pi;  k1 = -d;  k2 = d^2 / 2;  k3 = exp(d) - d - 1 (DeepSeekMath, arXiv:2402.03300, eq. 4)
    """
    difference_N = reference_logp_N - new_logp_N
    if estimator is KlEstimator.K1:
        return -difference_N
    if estimator is KlEstimator.K2:
        return 0.5 * difference_N**2
    return torch.exp(difference_N) - difference_N - 1.0


def kl_penalty(
    new_logp_N: Tensor, reference_logp_N: Tensor, old_logp_N: Tensor, weight_N: Tensor, estimator: KlEstimator
) -> Tensor:
    """The weighted sum of a KL estimate whose gradient is that of the KL, too.

    Tokens are drawn from the old policy, so an estimate f of E_pi[f] must be weighted by the ratio r = pi/old, and
    the ratio be differentiated: grad E[r f] = E[grad f + f grad log pi] at pi = old. For k1 and k3 that is the true
    gradient; without the ratio, k1's expected gradient is 0 and k3's is that of the *reverse* KL(ref || pi), which is
    why TRL corrects it (`use_bias_correction_kl`). k2's plain gradient, E[-d grad log pi], is the true one already,
    so it takes the ratio's value but not its gradient. tests/trainer/test_losses.py enumerates all three.
    """
    values_N = kl_values(new_logp_N, reference_logp_N, estimator)
    ratio_N = torch.exp(new_logp_N - old_logp_N)
    if estimator is KlEstimator.K2:
        ratio_N = ratio_N.detach()
    return (weight_N * ratio_N * values_N).sum()
