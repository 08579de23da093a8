"""The reference: the frozen policy from which the divergence is measured.

It is the model that the run started with, or the policy as it was at the last refresh (R1-Zero: every 400 steps). It
is loaded only when something asks for it: with KL coefficient 0 and no refresh only the lift of turns does
(`trainer.lifts`). Where an adapter learns, the start model is the policy with its adapter off, and costs nothing.
Deliberately left out: the old policy of the ratio, which is another thing with another clock.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ponder.knobs import Knobs
from trainer.adapter import WithoutAdapter
from trainer.policy import Policy, token_logps


@dataclass
class Reference:
    """`model` is None while nothing asks for it; `step` tells since when it has been what it is."""

    load_start: Callable[[], PreTrainedModel]
    """Loads the model that the run started with."""
    model: PreTrainedModel | WithoutAdapter | None = None
    step: int = 0
    start: WithoutAdapter | None = None
    """The start model, where the policy still contains it."""
    seconds: float = 0.0
    """Spent on log-probs since the step began."""
    _frozen: PreTrainedModel | WithoutAdapter | None = None

    @property
    def frozen_start(self) -> PreTrainedModel | WithoutAdapter:
        """The model that the run started with, for ever; the reference itself while that is what it is."""
        if self._frozen is None:
            is_start = self.model is not None and self.step == 0
            with torch.random.fork_rng(devices=[]):  # it may be loaded in the middle of a run
                self._frozen = self.model if is_start else self.start or freeze(self.load_start())
        if self._frozen is None:
            raise AssertionError("made above")
        return self._frozen

    def forget_start(self) -> None:
        """Give the start model's memory back; whoever asks again loads it again."""
        self._frozen = None

    def prepare(self, knobs: Knobs) -> None:
        """Begin a step: load the start model when the knobs ask for a reference and there is none."""
        self.seconds = 0.0
        if self.model is None and (knobs.kl.coef > 0 or knobs.kl.refresh_steps > 0):
            self.model = self._frozen or self.start or freeze(self.load_start())

    @torch.no_grad()
    def logps(
        self, policy: Policy, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], temperature: float,
        own: Sequence[Sequence[bool] | None] = (),
    ) -> Tensor:  # fmt: skip
        """The log-prob of each answer token under the reference, (N,); `policy` says how rows are laid out.

        Where answers say which tokens are the policy's `own`, of these alone.

        Raises ValueError when there is no reference.
        """
        if self.model is None:
            raise ValueError("nothing has asked for a reference")
        began_s = time.perf_counter()
        logp_N, _ = token_logps(policy, self.model, prompts, answers, temperature, own=own)
        self.seconds += time.perf_counter() - began_s
        return logp_N

    def refresh(self, policy: Policy, step: int, knobs: Knobs) -> None:
        """Become the present policy when its time has come."""
        if self.model is not None and knobs.kl.refresh_steps > 0 and step % knobs.kl.refresh_steps == 0:
            self.model = freeze(self._copy_of(policy))
            self.step = step

    def _copy_of(self, policy: Policy) -> PreTrainedModel:
        """The policy as it now is, whole; of what several processes share each has one."""
        if policy.shards is None:
            return copy.deepcopy(policy.model)
        own = self.load_start()
        with torch.no_grad():
            for (_, weight), present in zip(own.named_parameters(), policy.model.parameters(), strict=True):
                weight.copy_(present)
        return own


def freeze(model: PreTrainedModel) -> PreTrainedModel:
    """The model without gradients and without dropout."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.eval()
    return model
