"""A reward model: a policy's backbone and a linear head, which gives an answer one number.

Legend: B answers, N their tokens on one flat axis, T positions of a row, D width.

    score(q, o) = w . h(q, o),   h the last hidden state at the answer's last token (its end token, where it has ended)

A score means something only beside another one to the same prompt. So that rewards of several models can be weighed
alike, a model also knows mean and deviation of its scores on the answers that it was measured on, and `judge` gives
(score - mean) / deviation. On disk it is a model folder like any other, with two files more:

    model.safetensors, config.json, tokenizer...     the backbone, as part of a causal language model
    reward_head.safetensors                          w as `weight` (1, D); `scale` (2,), mean and deviation
    reward_model.json                                what this is

Deliberately left out: how it learns (`trainer.ranking_lesson`), and the losses (`trainer.preferences`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import msgspec
import torch
from msgspec import Struct
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ponder.errors import NotFound, RecipeError
from ponder.recipe import ModelPart
from ponder.stage import REWARD_MODEL_CARD
from trainer.pieces import Placed, pieces
from trainer.policy import Policy, last_hidden, load_policy
from trainer.rows import lay_out
from trainer.tensors import copy_into

FORMAT = 1
HEAD = "reward_head"


class Card(Struct, frozen=True):
    """What a reward model's folder says about itself."""

    format: int = FORMAT
    is_a: str = "reward model: a linear head on the last hidden state at the answer's last token"


@dataclass
class RewardModel:
    """A backbone with its tokenizer, the head, and the scale of its scores."""

    policy: Policy
    head: torch.nn.Linear
    scale: Tensor = field(default_factory=lambda: torch.tensor([0.0, 1.0], dtype=torch.float64))
    """(2,): mean and deviation of the scores that it was measured by."""

    def parameters(self) -> dict[str, Tensor]:
        """What learns, by name: the backbone's weights and the head's."""
        return {**self.policy.learning, f"{HEAD}.weight": self.head.weight}

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """What is saved beside the backbone, a file each."""
        return {HEAD: {"weight": self.head.weight, "scale": self.scale}}

    @staticmethod
    def files() -> dict[str, bytes]:
        """What is saved besides."""
        return {REWARD_MODEL_CARD: msgspec.json.format(msgspec.json.encode(Card()))}

    def scores(self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> Tensor:
        """Raw scores (B,), float32, with gradients; every answer has a token and fits into the context."""
        policy = self.policy
        rows = lay_out(
            prompts, answers, pad_id=policy.pad_id, device=policy.device, layout=policy.layout, keeps_last=True
        )  # fmt: skip
        hidden_BD = last_hidden(policy, policy.model, rows).flatten(0, 1)[rows.last_A]
        return cast(Tensor, self.head(hidden_BD.float())[:, 0])

    @torch.no_grad()
    def raw(
        self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], budget_tokens: int
    ) -> list[float | None]:
        """Each answer's score; None where it could not be scored: longer than the context, or not finite."""
        context = self.policy.context_tokens or math.inf
        found: list[float | None] = [None] * len(answers)
        fitting = [
            place for place, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
            if answer and len(prompt) + len(answer) <= context
        ]  # fmt: skip
        texts = [Placed(place, list(prompts[place]), len(answers[place])) for place in fitting]
        for piece in pieces(texts, budget_tokens, self.policy.layout):
            places = [text.place for text in piece]
            scores = self.scores([prompts[place] for place in places], [answers[place] for place in places]).tolist()
            for place, score in zip(places, scores, strict=True):
                found[place] = score if math.isfinite(score) else None
        return found

    def judge(
        self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], budget_tokens: int
    ) -> list[float | None]:
        """Each answer's reward: how many deviations its score lies above the mean; None as in `raw`."""
        mean, deviation = self.scale.tolist()
        raw = self.raw(prompts, answers, budget_tokens)
        return [None if score is None else (score - mean) / deviation for score in raw]

    def measure(self, scores: Sequence[float]) -> None:
        """Take the scale from these scores, ddof 0; scores that are all equal have the deviation 1."""
        found = torch.tensor(scores, dtype=torch.float64)
        mean = found.mean()
        deviation = (found - mean).square().mean().sqrt()
        self.scale.copy_(torch.stack([mean, deviation if deviation > 0 else torch.ones_like(mean)]))


def make_reward_model(policy: Policy, seed: int) -> RewardModel:
    """An untaught one on the policy's backbone, which then learns with it; RecipeError where it has none of its own.

    The head is drawn from N(0, 1 / (D + 1)): Stiennon et al., arXiv:2009.01325.
    """
    model = policy.model
    if model.base_model is model:
        raise RecipeError(
            f"the model is a `{type(model).__name__}`, which has no backbone apart from its output",
            "choose another model for the reward model",
        )
    width = int(model.config.get_text_config().hidden_size)
    generator = torch.Generator().manual_seed(seed)
    head = torch.nn.Linear(width, 1, bias=False, device="meta").to_empty(device=policy.device)
    with torch.no_grad():
        head.weight.copy_(torch.randn(1, width, generator=generator) / math.sqrt(width + 1))
    return RewardModel(policy, head)


def check_reward_model(folder: Path) -> None:
    """NotFound when no reward model lies in `folder`; nothing heavy is loaded."""
    names = (REWARD_MODEL_CARD, f"{HEAD}.safetensors")
    missing = next((name for name in names if not (folder / name).is_file()), None)
    if missing:
        what = f"it lacks `{missing}`" if folder.is_dir() else "there is no such folder"
        raise NotFound(f"`{folder}` is no reward model: {what}", "a stage of kind `reward_model` leaves one")
    try:
        card = msgspec.json.decode((folder / REWARD_MODEL_CARD).read_bytes(), type=Card)
    except msgspec.MsgspecError as error:
        raise NotFound(f"`{folder / REWARD_MODEL_CARD}` cannot be read: {error}", "make it anew") from None
    if card.format != FORMAT:
        raise NotFound(f"`{folder}` is a reward model of format {card.format}", f"this ponder reads format {FORMAT}")


def load_reward_model(folder: Path, *, device: str, models_folder: Path) -> RewardModel:
    """The reward model in `folder`; NotFound when it is not there or not whole."""
    check_reward_model(folder)
    policy = load_policy(ModelPart(str(folder)), device=device, models_folder=models_folder)
    reward_model = make_reward_model(policy, seed=0)
    try:
        copy_into(reward_model.tensors()[HEAD], load_file(folder / f"{HEAD}.safetensors"))
    except (OSError, KeyError, RuntimeError, SafetensorError) as error:
        raise NotFound(f"the head of the reward model `{folder}` cannot be read: {error}", "make it anew") from error
    return reward_model
