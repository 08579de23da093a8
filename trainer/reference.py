"""The reference: the frozen policy from which the divergence is measured.

It is the model that the run started with, or the policy as it was at the last refresh (R1-Zero: every 400 steps). It
is loaded only when something asks for it: with KL coefficient 0 and no refresh it costs nothing. Where an adapter
learns, the start model is the policy with its adapter off, and costs nothing either. Deliberately left out: the old
policy of the ratio, which is another thing with another clock.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

from transformers import PreTrainedModel

from ponder.knobs import Knobs
from trainer.adapter import WithoutAdapter


@dataclass
class Reference:
    """`model` is None while nothing asks for it; `step` tells since when it has been what it is."""

    load_start: Callable[[], PreTrainedModel]
    """Loads the model that the run started with."""
    model: PreTrainedModel | WithoutAdapter | None = None
    step: int = 0
    start: WithoutAdapter | None = None
    """The start model, where the policy still contains it."""

    def prepare(self, knobs: Knobs) -> None:
        """Load the start model when the knobs ask for a reference and there is none."""
        if self.model is None and (knobs.kl.coef > 0 or knobs.kl.refresh_steps > 0):
            self.model = self.start or freeze(self.load_start())

    def refresh(self, policy: PreTrainedModel, step: int, knobs: Knobs) -> None:
        """Become the present policy when its time has come."""
        if self.model is not None and knobs.kl.refresh_steps > 0 and step % knobs.kl.refresh_steps == 0:
            self.model = freeze(copy.deepcopy(policy))
            self.step = step


def freeze(model: PreTrainedModel) -> PreTrainedModel:
    """The model without gradients and without dropout."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.eval()
    return model
