"""Who gives the scores that a ranking lesson compares: a reward model, or a policy that is its own.

    RewardScorer      the head's score at the answer's last token         `reward_model`
    ImplicitScorer    beta (log pi - log ref) of the whole answer         `dpo`, arXiv:2305.18290

Deliberately left out: drawing rankings and counting agreement (`trainer.ranking_lesson`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ponder.knobs import Knobs
from trainer.adapter import WithoutAdapter
from trainer.dpo import implicit_rewards, sums_by_answer
from trainer.policy import Policy, token_logps
from trainer.preferences import centering, pairwise, ranking_loss
from trainer.ranking_tokens import Ranked
from trainer.reward_model import RewardModel

Ids = Sequence[Sequence[int]]


class Scorer(Protocol):
    """Scores with gradients, and what a ranking makes of them."""

    policy: Policy

    @property
    def speaks(self) -> bool:
        """Whether its policy answers prompts."""

    def parameters(self) -> Mapping[str, Tensor]:
        """What learns, by name."""

    def extra_tensors(self) -> Mapping[str, Mapping[str, Tensor]]:
        """What a checkpoint holds beside the model, a file each."""

    def extra_files(self) -> Mapping[str, bytes]:
        """What it holds besides."""

    def scores(self, prompts: Ids, answers: Ids, knobs: Knobs) -> Tensor:
        """A score an answer, (B,)."""

    def loss(self, score_K: Tensor, ranked: Ranked, knobs: Knobs) -> tuple[Tensor, Tensor]:
        """(the ranking's own loss, what is added to it)."""

    def measure(self, scores: Sequence[float]) -> None:
        """Take note of the scores of held-out answers."""


@dataclass
class RewardScorer:
    """The reward model that learns."""

    reward_model: RewardModel

    speaks = False

    def __post_init__(self) -> None:
        self.policy = self.reward_model.policy

    def parameters(self) -> Mapping[str, Tensor]:
        return self.reward_model.parameters()

    def extra_tensors(self) -> Mapping[str, Mapping[str, Tensor]]:
        return self.reward_model.tensors()

    def extra_files(self) -> Mapping[str, bytes]:
        return self.reward_model.files()

    def scores(self, prompts: Ids, answers: Ids, knobs: Knobs) -> Tensor:  # noqa: ARG002  # nothing of it is a knob
        return self.reward_model.scores(prompts, answers)

    def loss(self, score_K: Tensor, ranked: Ranked, knobs: Knobs) -> tuple[Tensor, Tensor]:
        own = ranking_loss(score_K, ranked.ranks, knobs.preference.loss, margin=ranked.margin)
        return own, knobs.preference.centering * centering(score_K)

    def measure(self, scores: Sequence[float]) -> None:
        self.reward_model.measure(scores)


@dataclass
class ImplicitScorer:
    """The policy that learns beside its frozen reference."""

    policy: Policy
    reference: PreTrainedModel | WithoutAdapter

    speaks = True

    def parameters(self) -> Mapping[str, Tensor]:
        return self.policy.learning

    def extra_tensors(self) -> Mapping[str, Mapping[str, Tensor]]:
        return {}

    def extra_files(self) -> Mapping[str, bytes]:
        return {}

    def scores(self, prompts: Ids, answers: Ids, knobs: Knobs) -> Tensor:
        lengths = [len(answer) for answer in answers]
        with torch.no_grad():
            reference_N, _ = token_logps(self.policy, self.reference, prompts, answers, 1.0)
        logp_N, _ = token_logps(self.policy, self.policy.model, prompts, answers, 1.0)
        return implicit_rewards(
            sums_by_answer(logp_N, lengths), sums_by_answer(reference_N, lengths), knobs.preference.beta
        )

    def loss(self, score_K: Tensor, ranked: Ranked, knobs: Knobs) -> tuple[Tensor, Tensor]:
        smoothing = knobs.preference.label_smoothing
        own = pairwise(score_K, ranked.ranks, margin=ranked.margin, label_smoothing=smoothing)
        return own, torch.zeros_like(own)

    def measure(self, scores: Sequence[float]) -> None:
        """Implicit rewards have the reference for their zero."""
