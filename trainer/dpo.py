"""Direct preference optimisation: the policy as its own reward model.

    r_k = beta (log pi(o_k | q) - log ref(o_k | q))        the implicit reward, up to what depends on the prompt alone

arXiv:2305.18290, eq. 5. Between two answers that unknown part cancels, so `trainer.preferences.pairwise` of r is a
loss of the policy: eq. 7 for two answers, cDPO with smoothing, and ln 2 while the policy is its reference. Log-probs
are sums over the answer's tokens, end token included, at temperature 1.

Legend: K answers of one ranking, B answers of several, N their tokens. Deliberately left out: log-probs
(`trainer.policy`) and the loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def sums_by_answer(logp_N: Tensor, lengths: Sequence[int]) -> Tensor:
    """Each answer's log-probability: the sum over its tokens, (B,)."""
    return torch.stack([part.sum() for part in torch.split(logp_N, list(lengths))])


def implicit_rewards(logp_B: Tensor, reference_B: Tensor, beta: float) -> Tensor:
    """beta (log pi - log ref), (B,), in the unit of rewards."""
    return beta * (logp_B - reference_B)
