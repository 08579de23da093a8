"""A reward model: a policy's backbone and a linear head, which gives an answer one number.

Legend: B answers, N their tokens on one flat axis, T positions of a row, D width.

    score(q, o) = w . h(q, o),   h the last hidden state at the answer's last token (its end token, where it has ended)

A score means something only beside another one to the same prompt. So that rewards of several models can be weighed
alike, a model also knows mean and deviation of its scores on the answers that it was measured on, and `judge` gives
(score - mean) / deviation. On disk it is a model folder like any other, with two files more:

    model.safetensors, config.json, tokenizer...     the backbone, as part of a causal language model
    reward_head.safetensors                          w, as `weight` (1, D)
    reward_model.json                                what this is, mean and deviation

Deliberately left out: how it learns (`trainer.lessons`), and the losses (`trainer.preferences`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgspec
import torch
from msgspec import Struct
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ponder.errors import NotFound, RecipeError
from ponder.recipe import ModelPart
from trainer.pieces import cut_groups
from trainer.policy import Policy, last_hidden, load_policy
from trainer.rows import lay_out

FORMAT = 1
HEAD, CARD = "reward_head.safetensors", "reward_model.json"
HEAD_NAME = "reward_head.weight"


class Card(Struct, frozen=True):
    """What a reward model's folder says about itself."""

    mean: float = 0.0
    """Of its scores on the answers that it was measured on, as is the next."""
    deviation: float = 1.0
    format: int = FORMAT
    is_a: str = "reward model: a linear head on the last hidden state at the answer's last token"


@dataclass
class RewardModel:
    """A backbone with its tokenizer, the head, and the scale of its scores."""

    policy: Policy
    head: torch.nn.Linear
    card: Card

    def named_parameters(self) -> dict[str, Tensor]:
        """What learns, by name: the backbone's weights and the head's."""
        own: dict[str, Tensor] = dict(self.policy.model.named_parameters())
        return {name: weight for name, weight in own.items() if weight.requires_grad} | {HEAD_NAME: self.head.weight}

    def scores(self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> Tensor:
        """Raw scores (B,), float32, with gradients; every answer has a token and fits into the context."""
        rows = lay_out(
            prompts, answers, pad_id=self.policy.pad_id, device=self.policy.device, packs=self.policy.packs
        )  # fmt: skip
        last_B = rows.place_N[torch.tensor([len(answer) for answer in answers]).cumsum(0) - 1] + 1
        hidden_BD = last_hidden(self.policy, self.policy.model, rows).flatten(0, 1)[last_B]
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
        lengths = [[len(prompts[place]) + len(answers[place])] for place in fitting]
        for piece in cut_groups(lengths, budget_tokens, packs=self.policy.packs):
            places = [fitting[number] for number in piece]
            scores = self.scores([prompts[place] for place in places], [answers[place] for place in places]).tolist()
            for place, score in zip(places, scores, strict=True):
                found[place] = score if math.isfinite(score) else None
        return found

    def judge(
        self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], budget_tokens: int
    ) -> list[float | None]:
        """Each answer's reward: its score on the scale of the card; None as in `raw`."""
        raw = self.raw(prompts, answers, budget_tokens)
        return [None if score is None else (score - self.card.mean) / self.card.deviation for score in raw]

    def measured(self, scores: Sequence[float]) -> Card:
        """The card after these scores, of the population (ddof 0); scores that are all equal have the deviation 1."""
        mean = math.fsum(scores) / len(scores)
        deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / len(scores))
        return Card(mean, deviation if deviation > 0 else 1.0)


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
    return RewardModel(policy, head, Card())


def save_reward_model(reward_model: RewardModel, folder: Path) -> None:
    """Write it into `folder`."""
    reward_model.policy.model.save_pretrained(folder)
    reward_model.policy.tokenizer.save_pretrained(folder)
    save_file({"weight": reward_model.head.weight.detach().contiguous()}, folder / HEAD)
    (folder / CARD).write_bytes(msgspec.json.format(msgspec.json.encode(reward_model.card)))


def check_reward_model(folder: Path) -> Card:
    """The card of the reward model in `folder`; NotFound when there is none, before anything heavy is loaded."""
    missing = next((name for name in (CARD, HEAD, "config.json") if not (folder / name).is_file()), None)
    if missing:
        what = f"it lacks `{missing}`" if folder.is_dir() else "there is no such folder"
        raise NotFound(f"`{folder}` is no reward model: {what}", "a stage of kind `reward_model` makes one")
    try:
        card = msgspec.json.decode((folder / CARD).read_bytes(), type=Card)
    except msgspec.MsgspecError as error:
        raise NotFound(f"`{folder / CARD}` cannot be read: {error}", "make the reward model anew") from None
    if card.format != FORMAT:
        raise NotFound(f"`{folder}` is a reward model of format {card.format}", f"this ponder reads format {FORMAT}")
    return card


def load_reward_model(folder: Path, *, device: str, models_folder: Path) -> RewardModel:
    """The reward model in `folder`; NotFound when it is not there or not whole."""
    card = check_reward_model(folder)
    policy = load_policy(ModelPart(str(folder)), device=device, models_folder=models_folder)
    reward_model = make_reward_model(policy, seed=0)
    try:
        weight = load_file(folder / HEAD)["weight"]
        with torch.no_grad():
            reward_model.head.weight.copy_(weight)
    except (OSError, KeyError, RuntimeError, SafetensorError) as error:
        raise NotFound(f"`{folder / HEAD}` cannot be read: {error}", "make the reward model anew") from error
    reward_model.card = card
    return reward_model
