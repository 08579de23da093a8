"""How far the learner's log-probs of sampled tokens are from the sampler's: one policy should have one answer.

    d = log learnt - log sampled;   r = exp(d);   k3 = r - 1 - d        Schulman 2020, "Approximating KL divergence"

Measured before the first update on them, so that all of it is the engines' difference and none of it learning; and
corrected there, by a weight on each token that has no gradient:

    c_t = min(r_t, C)                     truncated importance sampling      IMPALA, arXiv:1802.01561, eq. 1
    c_t = 0 where g > G or g < 1 / G      g = exp(mean of d) of the answer   GSPO's ratio, arXiv:2507.18071, eq. 7

What was drawn from the sampler then counts as the learner would have drawn it, up to the bias of the cut. Legend: N
tokens on one flat axis, those of B answers one after the other. Deliberately left out: the clip, which is between the
learner and itself of later (`trainer.losses`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ponder import metrics
from ponder.engine import Correction
from ponder.knobs import KlEstimator
from trainer.losses import kl_values
from trainer.parallel import Ranks

SUMMED = (
    "tokens", "away", "distance", "ratio", "ratio_squared", "k3", "k3_squared", "truncated", "gated",
    "answers", "weight",
)  # fmt: skip
LARGEST = ("most_distance", "most_k3", "most_ratio")


@dataclass
class Mismatch:
    """Sums over the tokens of a batch, a micro-batch at a time."""

    tokens: float = 0
    away: float = 0.0
    """Sum of d, and below of its size, of r, r^2, k3 and k3^2."""
    distance: float = 0.0
    ratio: float = 0.0
    ratio_squared: float = 0.0
    k3: float = 0.0
    k3_squared: float = 0.0
    most_distance: float = 0.0
    most_k3: float = 0.0
    most_ratio: float = 0.0
    least_ratio: float = math.inf
    truncated: float = 0.0
    """Tokens whose ratio was cut, answers that were gated of so many, and the sum of all weights."""
    gated: float = 0.0
    answers: float = 0.0
    weight: float = 0.0

    def count(self, learnt_N: Tensor, sampled_N: Tensor) -> None:
        """Take these tokens in."""
        away_N, k3_N = learnt_N - sampled_N, kl_values(sampled_N, learnt_N, KlEstimator.K3)
        ratio_N = away_N.exp()
        self.tokens += len(away_N)
        self.away += away_N.sum().item()
        self.distance += away_N.abs().sum().item()
        self.ratio += ratio_N.sum().item()
        self.ratio_squared += (ratio_N**2).sum().item()
        self.k3 += k3_N.sum().item()
        self.k3_squared += (k3_N**2).sum().item()
        self.most_distance = max(self.most_distance, away_N.abs().max().item())
        self.most_k3 = max(self.most_k3, k3_N.max().item())
        self.most_ratio = max(self.most_ratio, ratio_N.max().item())
        self.least_ratio = min(self.least_ratio, ratio_N.min().item())

    def correct(self, learnt_N: Tensor, sampled_N: Tensor, lengths_B: Tensor, knobs: Correction) -> Tensor:
        """The weight of each token of these answers, (N,); what it did is counted."""
        weight_N, is_cut_N, is_gated_B = weigh(learnt_N - sampled_N, lengths_B, knobs)
        self.truncated += is_cut_N.sum().item()
        self.gated += is_gated_B.sum().item()
        self.answers += len(lengths_B)
        self.weight += weight_N.sum().item()
        return weight_N

    def bring_together(self, ranks: Ranks) -> None:
        """Make the sums those of all ranks."""
        if ranks.count == 1:
            return
        for names, reduce in ((SUMMED, ranks.sum), (LARGEST, ranks.largest)):
            for name, value in zip(names, reduce([getattr(self, name) for name in names]), strict=True):
                setattr(self, name, value)
        self.least_ratio = -ranks.largest([-self.least_ratio])[0]

    def corrections(self, knobs: Correction) -> dict[str, float]:
        """What was done about it, under the knobs that are on."""
        told = {}
        if self.answers and knobs.truncate:
            told[metrics.MISMATCH_TRUNCATED] = self.truncated / self.tokens
        if self.answers and knobs.gate:
            told[metrics.MISMATCH_GATED] = self.gated / self.answers
        return {**told, metrics.MISMATCH_WEIGHT: self.weight / self.tokens} if told else {}

    def figures(self) -> dict[str, float]:
        """The metrics `mismatch/*` of all tokens taken in; nothing of none."""
        if not self.tokens:
            return {}
        mean_k3 = self.k3 / self.tokens
        return {
            metrics.MISMATCH: self.distance / self.tokens,
            metrics.MISMATCH_MAX: self.most_distance,
            metrics.MISMATCH_K3: mean_k3,
            metrics.MISMATCH_K3_STD: math.sqrt(max(0.0, self.k3_squared / self.tokens - mean_k3**2)),
            metrics.MISMATCH_K3_MAX: self.most_k3,
            metrics.MISMATCH_RATIO_MEAN: self.ratio / self.tokens,
            metrics.MISMATCH_RATIO_MIN: self.least_ratio,
            metrics.MISMATCH_RATIO_MAX: self.most_ratio,
            metrics.MISMATCH_ESS: self.ratio**2 / (self.tokens * self.ratio_squared) if self.ratio_squared else 0.0,
            metrics.MISMATCH_CHI2: self.ratio_squared / self.tokens - 1.0,
            metrics.MISMATCH_PPL: torch.tensor(-self.away / self.tokens).exp().item(),  # inf, where math.exp raises
        }


@torch.no_grad()
def weigh(away_N: Tensor, lengths_B: Tensor, knobs: Correction) -> tuple[Tensor, Tensor, Tensor]:
    """(the weight of each token, which tokens were cut, which answers were gated) for d of each token.

    Every answer has a token. An answer that is not finite is gated where there is a gate.
    """
    weight_N, is_cut_N = torch.ones_like(away_N), torch.zeros_like(away_N, dtype=torch.bool)
    is_gated_B = torch.zeros_like(lengths_B, dtype=torch.bool)
    if knobs.truncate:
        ratio_N = away_N.exp()
        weight_N, is_cut_N = ratio_N.clamp(max=knobs.truncate), ratio_N > knobs.truncate
    if knobs.gate:
        mean_B = torch.segment_reduce(away_N, "mean", lengths=lengths_B)
        is_gated_B = ~(mean_B.abs() <= math.log(knobs.gate))  # not a number is not within
        weight_N = weight_N.masked_fill(is_gated_B.repeat_interleave(lengths_B), 0.0)
    return weight_N, is_cut_N, is_gated_B
