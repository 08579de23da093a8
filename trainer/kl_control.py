"""The weight of the divergence, steered towards a target.

    e = clip(KL / target - 1, -0.2, 0.2);   coef <- coef (1 + e n / horizon)

Ziegler et al., arXiv:1909.08593, section 2.2; `n` answers of a step, KL the sum of k1 over an answer's tokens, its mean
over the answers. Deliberately left out: estimating the divergence (`trainer.losses`).
"""

from __future__ import annotations

from dataclasses import dataclass

from ponder.knobs import Kl

LIMIT = 0.2
"""How much of an error counts at once, as a share of the target."""


@dataclass
class KlControl:
    """Remembers the steered weight; without a target it is the knob's, always."""

    coef: float | None = None
    begun_from: float | None = None
    """The knob that it was steered from: whoever turns the knob begins anew from there."""

    def weight(self, kl: Kl) -> float:
        """What the divergence weighs now."""
        if kl.target == 0:
            self.coef = self.begun_from = None
            return kl.coef
        if self.coef is None or self.begun_from != kl.coef:
            self.coef = self.begun_from = kl.coef
        return self.coef

    def steer(self, kl: Kl, measured_nats: float, answers: int) -> None:
        """Move the weight after a step of so many answers that diverged so far on average."""
        if kl.target > 0 and self.coef is not None:
            error = max(-LIMIT, min(LIMIT, measured_nats / kl.target - 1.0))
            self.coef *= 1.0 + error * answers / kl.horizon
