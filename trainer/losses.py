"""What is made smaller: one policy loss with switches, the value loss, the divergence from the reference.

    normaliser   what a token weighs                    token_weights
    ratio        per token, or per answer (GSPO)        ratios
    clip         PPO's, CISPO's or none                 policy_terms
    advantage    is data here, made by `trainer.credit`

Legend: N sampled tokens of a micro-batch, one flat axis without padding; B its answers, one after the other, each of
`lengths_B` tokens. Each token carries its advantage and its own weight. The weights of a whole batch are made at once
(`token_weights`), so that a batch cut into micro-batches in any way has the same gradient.

Deliberately left out: everything that needs a model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ponder.knobs import Clip, KlEstimator, Normaliser, Ratio
from ponder.knobs import Policy as PolicyKnobs


def token_weights(
    lengths_B: Sequence[int],
    normaliser: Normaliser,
    *,
    max_new_tokens: int,
    whole: tuple[float, float] | None = None,
) -> list[float]:
    """For each answer, the weight of each of its tokens in the batch's loss.

    token     1 / sum of |o|         DAPO, arXiv:2503.14476, eq. 8
    sequence  1 / (B |o_i|)          GRPO, arXiv:2402.03300, eq. 3
    constant  1 / (B L_max)          Dr. GRPO, arXiv:2503.20783, section 3

    `whole` is (answers, tokens) of the batch that these answers are a part of, where they are not all of it.

    Raises ValueError if there is no token: the mean of nothing is not zero.

    >>> token_weights([1, 3], Normaliser.TOKEN, max_new_tokens=10)
    [0.25, 0.25]
    """
    rows, tokens = whole or (len(lengths_B), sum(lengths_B))
    if tokens == 0:
        raise ValueError("no token was sampled")
    if normaliser is Normaliser.TOKEN:
        return [1.0 / tokens] * len(lengths_B)
    if normaliser is Normaliser.SEQUENCE:
        return [1.0 / (rows * length) if length else 0.0 for length in lengths_B]
    return [1.0 / (rows * max_new_tokens)] * len(lengths_B)


def ratios(new_logp_N: Tensor, old_logp_N: Tensor, lengths_B: Tensor, level: Ratio) -> Tensor:
    """New over old probability, a token each.

    token      r_t = exp(new_t - old_t)                                            PPO, arXiv:1707.06347, eq. 6
    sequence   s = exp(mean over t of (new_t - old_t)), for all of an answer       GSPO, arXiv:2507.18071, eq. 7

    The answer's ratio is written as GSPO-token does (eq. 14), sg(s) pi_t / sg(pi_t): the same value, and the same
    gradient where all tokens of an answer share one advantage, but right for token advantages, too.
    """
    if level is Ratio.TOKEN:
        return torch.exp(new_logp_N - old_logp_N)
    row_N = torch.arange(len(lengths_B), device=lengths_B.device).repeat_interleave(lengths_B)
    difference_N = (new_logp_N - old_logp_N).detach()
    sum_B = difference_N.new_zeros(len(lengths_B)).index_add(0, row_N, difference_N)
    mean_B = sum_B / lengths_B.clamp(min=1)
    return torch.exp(mean_B)[row_N] * torch.exp(new_logp_N - new_logp_N.detach())


def policy_terms(
    new_logp_N: Tensor,
    old_logp_N: Tensor,
    advantage_N: Tensor,
    weight_N: Tensor,
    lengths_B: Tensor,
    knobs: PolicyKnobs,
) -> Tensor:
    """Each token's term of the loss under the switches `ratio` and `clip`; the weights already know the normaliser.

    ppo     -w min(r A, clip(r, 1 - low, 1 + high) A)              PPO, arXiv:1707.06347, eq. 7
    cispo   -w sg(clip(r, 1 - low, 1 + high)) A log pi             CISPO, arXiv:2506.13585, eq. 4
    none    -w r A                                                 importance-weighted REINFORCE

    `low == high` in PPO's gives GRPO's term; `high > low` is DAPO's clip-higher, arXiv:2503.14476. With
    `old_logp_N = new_logp_N.detach()` the ratio is exactly 1 and the gradient is REINFORCE's: the first update on a
    fresh batch needs no other old log-probs. A value means little with `cispo`; gradients are what these are for.
    """
    ratio_N = ratios(new_logp_N, old_logp_N, lengths_B, knobs.ratio)
    if knobs.clip is Clip.NONE:
        return -(weight_N * ratio_N * advantage_N)
    clipped_N = ratio_N.clamp(1.0 - knobs.clip_low, 1.0 + knobs.clip_high)
    if knobs.clip is Clip.CISPO:
        return -(weight_N * clipped_N.detach() * advantage_N * new_logp_N)
    return -(weight_N * torch.minimum(ratio_N * advantage_N, clipped_N * advantage_N))


def clipped_share(ratio_N: Tensor, advantage_N: Tensor, knobs: PolicyKnobs) -> tuple[Tensor, Tensor]:
    """Which tokens (low, high) the clip acts on: with PPO's only where the advantage pushes on; with CISPO's
    everywhere; never without one."""
    low_N, high_N = ratio_N < 1 - knobs.clip_low, ratio_N > 1 + knobs.clip_high
    if knobs.clip is Clip.CISPO:
        return low_N, high_N
    if knobs.clip is Clip.NONE:
        return torch.zeros_like(low_N), torch.zeros_like(high_N)
    return low_N & (advantage_N < 0), high_N & (advantage_N > 0)


def value_loss(
    new_value_N: Tensor, old_value_N: Tensor, return_N: Tensor, weight_N: Tensor, *, clip: float
) -> tuple[Tensor, Tensor]:
    """(the critic's loss, which tokens were clipped).

    1/2 sum of w max((V - R)^2, (clip(V, V_old - c, V_old + c) - R)^2);  OpenAI baselines' PPO, kept by InstructGPT,
    arXiv:2203.02155. `clip` 0 leaves the plain squared error.
    """
    error_N = (new_value_N - return_N) ** 2
    if clip == 0:
        return 0.5 * (weight_N * error_N).sum(), torch.zeros_like(error_N, dtype=torch.bool)
    held_N = torch.minimum(torch.maximum(new_value_N, old_value_N - clip), old_value_N + clip)
    held_error_N = (held_N - return_N) ** 2
    loss = 0.5 * (weight_N * torch.maximum(error_N, held_error_N)).sum()
    return loss, (held_error_N > error_N).detach()


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
