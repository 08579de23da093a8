"""The critic: how much reward is to be expected, foretold before every token.

Legend: B answers, N their drawn tokens on one flat axis, M = N + B places: before each token, and after each answer's
last. D width.

A linear head on the last hidden state: of the policy's own backbone, which then learns from both losses, or of a
separate model that begins as a copy of the start model. The head begins at 0, so that an untrained critic foretells
nothing. Its weights have an AdamW of their own. Deliberately left out: advantages (`ponder.advantages`), and sharing
one forward pass with the policy's log-probs: the backbone is read a second time.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ponder import metrics
from ponder.knobs import CriticModel, Knobs
from trainer.answers import Answer
from trainer.parallel import ALONE, Ranks
from trainer.pieces import pieces
from trainer.policy import Policy, last_hidden
from trainer.rows import lay_out


@dataclass
class Critic:
    """A value head, what it stands on, and their optimizer."""

    policy: Policy
    backbone: PreTrainedModel
    head: torch.nn.Linear
    optimizer: torch.optim.AdamW

    def named_parameters(self) -> dict[str, torch.nn.Parameter]:
        """The critic's own weights by name: the head's, and those of a separate model."""
        return _own_weights(self.policy, self.backbone, self.head)

    def values(self, answers: Sequence[Answer]) -> Tensor:
        """The value before each token and after each answer's last, (M,): an answer's block is one longer than it."""
        policy = self.policy
        rows = lay_out(
            [answer.prompt_ids for answer in answers], [answer.sampled.ids for answer in answers],
            pad_id=policy.pad_id, device=policy.device, layout=policy.layout_for(self.backbone), keeps_last=True,
        )  # fmt: skip
        lengths_B = torch.tensor([answer.drawn for answer in answers], device=policy.device)
        is_own = [flag for answer in answers for flag in answer.sampled.own or [True] * answer.length]
        place_N = rows.place_N[torch.tensor(is_own, device=policy.device)]
        place_M = place_N.new_empty(len(place_N) + len(answers))
        before_M = _before_tokens(lengths_B)
        place_M[before_M], place_M[~before_M] = place_N, rows.last_A
        hidden_MD = last_hidden(policy, self.backbone, rows).flatten(0, 1)[place_M]
        value_M1 = self.head(hidden_MD.float())
        return cast(Tensor, value_M1[:, 0])

    @torch.no_grad()
    def foretell(self, answers: Sequence[Answer], budget_tokens: int) -> None:
        """Write into each answer what is expected before each of its tokens and after the last."""
        for piece in pieces([answer for answer in answers if answer.length], budget_tokens, self.policy.layout):
            values, at = self.values(piece).tolist(), 0
            for answer in piece:
                answer.values = values[at : at + answer.drawn + 1]
                at += answer.drawn + 1

    def set_lr(self, knobs: Knobs) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = knobs.critic.lr


def before_tokens(value_M: Tensor, lengths_B: Tensor) -> Tensor:
    """Of the values (M,) those before a token, (N,)."""
    return value_M[_before_tokens(lengths_B)]


def _before_tokens(lengths_B: Tensor) -> Tensor:
    """Which of the values of answers of these lengths are before a token, (M,)."""
    before_M = torch.ones(int((lengths_B + 1).sum()), dtype=torch.bool, device=lengths_B.device)
    before_M[(lengths_B + 1).cumsum(0) - 1] = False
    return before_M


def make_critic(policy: Policy, knobs: Knobs, load_start: Callable[[], PreTrainedModel]) -> Critic:
    """A critic that knows nothing yet."""
    backbone = policy.model if knobs.critic.model is CriticModel.HEAD else load_start()
    width = int(backbone.config.get_text_config().hidden_size)
    head = torch.nn.Linear(width, 1, device="meta").to_empty(device=policy.device)  # draws no random number
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    backbone.eval()
    own = _own_weights(policy, backbone, head)
    for parameter in own.values():
        parameter.requires_grad_(True)
    betas = (knobs.optim.beta1, knobs.optim.beta2)
    return Critic(policy, backbone, head, torch.optim.AdamW(own.values(), knobs.critic.lr, betas, weight_decay=0.0))


def _own_weights(policy: Policy, backbone: PreTrainedModel, head: torch.nn.Linear) -> dict[str, torch.nn.Parameter]:
    named = {f"head.{name}": parameter for name, parameter in head.named_parameters()}
    if backbone is not policy.model:
        named |= {f"model.{name}": parameter for name, parameter in backbone.named_parameters()}
    return named


def critic_figures(answers: Sequence[Answer], ranks: Ranks = ALONE) -> Mapping[str, float]:
    """How well the values foretold the returns, over the tokens of all ranks' scored answers; nothing without any.

    1 - Var(R - V) / Var(R), both of the population.
    """
    known = [(answer.values, answer.returns) for answer in answers if answer.values and answer.returns]
    values = ranks.gather([value for values, returns in known for value in values[: len(returns)]])
    returns = ranks.gather([value for _, returns in known for value in returns])
    if not returns:
        return {}
    figures = {
        metrics.VALUE_MEAN: statistics.fmean(values),
        metrics.VALUE_MIN: min(values),
        metrics.VALUE_MAX: max(values),
    }
    spread = statistics.pvariance(returns)
    if spread > 0:
        left = statistics.pvariance([got - foretold for got, foretold in zip(returns, values, strict=True)])
        figures[metrics.VALUE_EXPLAINED] = 1.0 - left / spread
    return figures
