"""The output head: hidden states into the log-probability and the entropy of tokens, a chunk of positions at a time.

Legend: N answer tokens on one flat axis, D width, V vocabulary.

The logits of all positions are the largest tensor of learning by far (2,048 positions of a 49,152-word vocabulary are
384 MiB, and a softmax and its gradient hold several). Here they exist for one chunk at a time: forward keeps only the
hidden states, and backward makes each chunk's logits again (`torch.utils.checkpoint`). Log-probs and entropies are
float32, whatever the model computed in. Deliberately left out: models that change their logits after the head.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

LOGITS_AT_ONCE = 2**26
"""Left to choose, a chunk has so many logits at the most: 256 MiB of float32. With several chunks the
product with the head is made twice."""

Head = Callable[[Tensor], Tensor]
"""Hidden states (N, D) into logits (N, V)."""


def chunk_size(asked: int, vocabulary: int) -> int:
    """Positions in a chunk: as asked, or as `LOGITS_AT_ONCE` allows when 0 is asked.

    >>> chunk_size(0, 49152), chunk_size(256, 49152)
    (1365, 256)
    """
    return asked or max(1, LOGITS_AT_ONCE // vocabulary)


def score_tokens(
    hidden_ND: Tensor, head: Head, target_N: Tensor, temperature: float, *, chunk_tokens: int, with_entropy: bool
) -> tuple[Tensor, Tensor | None]:
    """(log-probability, entropy) of each target token, in nats, float32; the entropy only when it is wanted.

    logp = log softmax(z)[target];  H = -sum softmax(z) log softmax(z);  z = head(hidden) / temperature

    More than `chunk_tokens` positions are scored in chunks. That changes no number by more than rounding.
    """
    if len(target_N) <= chunk_tokens:
        return _score(hidden_ND, head, target_N, temperature, with_entropy)
    logps: list[Tensor] = []
    entropies: list[Tensor] = []
    for start in range(0, len(target_N), chunk_tokens):
        place = slice(start, start + chunk_tokens)
        part = (hidden_ND[place], head, target_N[place], temperature, with_entropy)
        logp, entropy = checkpoint(_score, *part, use_reentrant=False) if torch.is_grad_enabled() else _score(*part)
        logps.append(logp)
        if entropy is not None:
            entropies.append(entropy)
    return torch.cat(logps), torch.cat(entropies) if entropies else None


def _score(
    hidden_ND: Tensor, head: Head, target_N: Tensor, temperature: float, with_entropy: bool
) -> tuple[Tensor, Tensor | None]:
    logits_NV = head(hidden_ND).float()
    logp_NV = torch.log_softmax(logits_NV if temperature == 1.0 else logits_NV / temperature, dim=-1)
    logp_N = logp_NV.gather(1, target_N[:, None])[:, 0]
    if not with_entropy:
        return logp_N, None
    least = torch.finfo(
        logp_NV.dtype
    ).min  # a token of no probability has no share: 0 times minus infinity is no number
    return logp_N, -(logp_NV.exp() * logp_NV.clamp(min=least)).sum(-1)
