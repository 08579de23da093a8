"""Direct preference optimisation: the policy as its own reward model.

    r_k = beta (log pi(o_k | q) - log ref(o_k | q))        the implicit reward, up to what depends on the prompt alone

arXiv:2305.18290, eq. 5. Between two answers that unknown part cancels, so a loss on rankings of r is a loss of the
policy: eq. 7 for pairs. Log-probs are sums over the answer's tokens, end token included, at temperature 1.

Legend: K answers of one ranking. Deliberately left out: log-probs (`trainer.policy`) and ranking losses
(`trainer.preferences`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.preferences import Ranks, pairwise


def sums_by_answer(logp_N: Tensor, lengths: Sequence[int]) -> Tensor:
    """Each answer's log-probability: the sum over its tokens, (B,)."""
    return torch.stack([part.sum() for part in torch.split(logp_N, list(lengths))])


def implicit_rewards(logp_K: Tensor, reference_K: Tensor, beta: float) -> Tensor:
    """beta (log pi - log ref), (K,), in the unit of rewards."""
    return beta * (logp_K - reference_K)


def dpo_loss(
    logp_K: Tensor, reference_K: Tensor, ranks: Ranks, *, beta: float, label_smoothing: float = 0.0, margin: float = 0.0
) -> Tensor:
    """The loss of one ranking: the mean over the pairs that it decides.

    -(1 - s) log sigmoid(r_w - r_l - m) - s log sigmoid(r_l - r_w + m)

    DPO, arXiv:2305.18290, eq. 7, with s = m = 0. The smoothing makes it cDPO (`trainer.preferences.bradley_terry`). A
    policy that is its reference has the loss ln 2. Raises ValueError if the ranking decides no pair.
    """
    return pairwise(
        implicit_rewards(logp_K, reference_K, beta), ranks, margin=margin, label_smoothing=label_smoothing
    )  # fmt: skip
