"""A reward model behind the heads: a copy of the start model that learns from the rankings, whole or by an adapter.

Legend: K answers of one ranking, B of several.

    heads    linear on frozen features (`trainer.live_reward`): fitted on every ranking, in a moment
    deep     the backbone learns too: sees what the features do not hold, takes its time

It learns from nothing each time, from the rankings that stand and are not held out, in an order that grows from the
seed: what was taken back leaves no trace. A ranking's loss is that of the heads, its weight its age. On disk:

    reward_model/deep-000003.safetensors    what learnt, by name; `head`, `threshold` (1,), `scale` (2,)
                                            in its header: kind, number, the rankings that it learnt from

Deliberately left out: whether it is better than the heads (`trainer.deep_school`), and scoring a batch with it
(`trainer.live_judge`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import torch
from msgspec import Struct
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ponder.errors import StoreError
from ponder.ranking import Ranks, best_rank, tiers
from ponder.recipe import LoraPart
from ponder.rlhf import Deep, Rlhf
from trainer.adapter import add_adapter
from trainer.live_reward import CENTERING, age_weight, is_held_out
from trainer.pieces import cut_groups
from trainer.policy import Policy
from trainer.preferences import centering, plackett_luce
from trainer.reward_model import RewardModel, make_reward_model
from trainer.reward_versions import CARD, load_tensors, sha256_of, write_tensors
from trainer.rows import Text
from trainer.tensors import copy_into

FORMAT = 1
ADAPTER = LoraPart(rank=8, alpha=16.0)
BATCH = 8
"""Rankings of one update."""
MOST_NORM = 1.0
SCALE_RANKINGS = 64
"""So many of the oldest rankings give the scale of scores: the same ones for every reward model of a run."""
HEAD, THRESHOLD, SCALE = "reward_head", "threshold", "scale"


class DeepCard(Struct, frozen=True):
    """What its file says about itself."""

    kind: Deep
    number: int
    learnt: list[int]
    """The numbers of the rankings that it learnt from."""
    format: int = FORMAT


@dataclass(frozen=True)
class Lesson:
    """One ranking in token ids, its answers in the order of step, group and index."""

    number: int
    prompt: str
    step: int
    prompt_ids: list[int]
    answers: list[list[int]]
    """At least one token each."""
    ranks: Ranks
    bad: Sequence[bool]
    is_unbiased: bool = True

    @property
    def is_held_out(self) -> bool:
        return is_held_out(self.prompt)

    @property
    def says_something(self) -> bool:
        return any(self.bad) or len(tiers(self.ranks)) > 1

    @property
    def texts(self) -> list[Text]:
        return [Text(self.prompt_ids, len(answer)) for answer in self.answers]

    @property
    def longest(self) -> int:
        """Tokens of the longest answer with its prompt."""
        return len(self.prompt_ids) + max(map(len, self.answers))


@dataclass
class DeepReward:
    """One that has learnt, with what it learnt from."""

    kind: Deep
    reward_model: RewardModel
    threshold: Tensor
    learnt: frozenset[int]
    seconds: float = 0.0
    """What learning took, of a processor."""
    known: dict[int, list[float] | None] = field(default_factory=dict)
    """Its scores of rankings, by their numbers."""

    def judge(
        self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], budget_tokens: int
    ) -> tuple[list[float], list[float]]:
        """(raw, deviations above the mean) of each answer; not a number where there is no score."""
        raw = [math.nan if score is None else score for score in self.reward_model.raw(prompts, answers, budget_tokens)]
        mean, deviation = self.reward_model.scale.tolist()
        return raw, [(score - mean) / deviation for score in raw]

    def scores(self, lesson: Lesson, budget_tokens: int) -> list[float] | None:
        """Of a ranking's answers; None where one cannot be scored."""
        if lesson.number not in self.known:
            raw = self.reward_model.raw([lesson.prompt_ids] * len(lesson.answers), lesson.answers, budget_tokens)
            found = [score for score in raw if score is not None]
            self.known[lesson.number] = found if len(found) == len(raw) else None
        return self.known[lesson.number]


def start_deep(policy: Policy, kind: Deep, seed: int) -> RewardModel:
    """An untaught one on this policy's backbone, which learns with it, or an adapter in its place."""
    policy.model.requires_grad_(requires_grad=True)
    if kind is Deep.LORA:
        add_adapter(policy.model, ADAPTER, seed=seed)
    return make_reward_model(policy, seed)


def learn_deep(
    policy: Policy, kind: Deep, lessons: Sequence[Lesson], knobs: Rlhf, step: int, seed: int, *, budget_tokens: int,
    rest: Callable[[], None] = lambda: None,
) -> DeepReward:  # fmt: skip
    """Learn from these rankings, as they are seen after `step`; the policy's own weights change.

    `rest` is called between two updates; what it raises ends the learning.
    """
    context = policy.context_tokens or math.inf
    fitting = [lesson for lesson in lessons if lesson.says_something and lesson.longest <= context]
    learnt = [lesson for lesson in fitting if not lesson.is_held_out]
    reward_model = start_deep(policy, kind, seed)
    threshold = torch.zeros(1, requires_grad=True, device=policy.device)
    has_bad = any(any(lesson.bad) for lesson in learnt)
    weights = {lesson.number: age_weight(step - lesson.step, knobs) for lesson in learnt}
    learning = [*reward_model.parameters().values(), threshold]
    optimizer = torch.optim.AdamW(learning, lr=knobs.deep_lr, weight_decay=0.0)
    batches = list(_batches(learnt, knobs.deep_epochs, seed))
    for place, batch in enumerate(batches):
        rest()
        for group in optimizer.param_groups:
            group["lr"] = knobs.deep_lr * (1.0 - place / len(batches))
        whole = sum(weights[lesson.number] for lesson in batch)
        for piece in _pieces(batch, policy, budget_tokens):
            scores = _scores(reward_model, piece)
            losses = [
                weights[lesson.number] * ranking_loss(score_K, threshold, lesson.ranks, lesson.bad, has_bad=has_bad)
                for lesson, score_K in zip(piece, scores, strict=True)
            ]
            torch.autograd.backward(torch.stack(losses).sum() / whole)
        torch.nn.utils.clip_grad_norm_(learning, MOST_NORM)
        optimizer.step()
        optimizer.zero_grad()
    found = DeepReward(kind, reward_model, threshold.detach(), frozenset(lesson.number for lesson in learnt))
    scale = [
        found.scores(lesson, budget_tokens)
        for lesson in sorted(fitting, key=lambda lesson: lesson.number)[:SCALE_RANKINGS]
    ]
    known = [score for scores in scale if scores for score in scores]
    if known:
        reward_model.measure(known)
    return found


def ranking_loss(score_K: Tensor, threshold: Tensor, ranks: Ranks, bad: Sequence[bool], *, has_bad: bool) -> Tensor:
    """The heads' loss of one ranking (`trainer.live_reward`), of scores that have gradients."""
    loss = CENTERING * centering(score_K)
    if len(tiers(ranks)) > 1:
        loss = loss + plackett_luce(score_K, ranks)
    is_bad = torch.tensor(bad, device=score_K.device)
    loss = loss + (torch.nn.functional.softplus(score_K - threshold) * is_bad).sum()
    best = best_rank(ranks) if has_bad else None
    if best is not None:
        is_best = torch.tensor([rank == best for rank in ranks], device=score_K.device) & ~is_bad
        loss = loss + (torch.nn.functional.softplus(threshold - score_K) * is_best).sum()
    return loss


def _batches(lessons: Sequence[Lesson], epochs: int, seed: int) -> Iterator[list[Lesson]]:
    """Every ranking once an epoch, in an order of its own."""
    for epoch in range(epochs):
        order = sorted(lessons, key=lambda lesson: lesson.number)
        random.Random(f"deep {seed} {epoch}").shuffle(order)
        for start in range(0, len(order), BATCH):
            yield order[start : start + BATCH]


def _pieces(batch: Sequence[Lesson], policy: Policy, budget_tokens: int) -> Iterator[list[Lesson]]:
    for places in cut_groups([lesson.texts for lesson in batch], budget_tokens, policy.layout):
        yield [batch[place] for place in places]


def _scores(reward_model: RewardModel, piece: Sequence[Lesson]) -> Sequence[Tensor]:
    prompts = [lesson.prompt_ids for lesson in piece for _ in lesson.answers]
    answers = [answer for lesson in piece for answer in lesson.answers]
    return torch.split(reward_model.scores(prompts, answers), [len(lesson.answers) for lesson in piece])


# ---- on disk


def deep_path(folder: Path, number: int) -> Path:
    """The file of a deep reward model."""
    return folder / f"deep-{number:06d}.safetensors"


def newest_deep(folder: Path) -> int:
    """The number of the newest one in the folder; 0 where there is none."""
    return max((int(path.stem.partition("-")[2]) for path in folder.glob("deep-*.safetensors")), default=0)


def write_deep(folder: Path, number: int, deep: DeepReward) -> str:
    """Put it on disk; its SHA-256. What no ranking could move (an output head of its own) is left out."""
    started = deep.reward_model.parameters()
    tensors: dict[str, Tensor] = {
        name: tensor.detach().cpu() for name, tensor in started.items() if not _is_idle(deep.reward_model.policy, name)
    }
    tensors |= {THRESHOLD: deep.threshold.cpu(), SCALE: deep.reward_model.scale}
    card = DeepCard(deep.kind, number, sorted(deep.learnt))
    return write_tensors(deep_path(folder, number), tensors, {CARD: msgspec.json.encode(card).decode()})


def load_deep(policy: Policy, folder: Path, number: int, sha256: str, seed: int) -> DeepReward:
    """On a fresh start model; StoreError where it is not there, not whole, or not the one that is meant."""
    path = deep_path(folder, number)
    if not path.is_file() or sha256_of(path) != sha256:
        raise StoreError(f"`{path}` is not the one that was told of", "the run's folder must stay as it is")
    card, tensors = read_deep_card(path), load_tensors(path)
    reward_model = start_deep(policy, card.kind, seed)
    own: Mapping[str, Tensor] = {**reward_model.parameters(), THRESHOLD: torch.zeros(1), SCALE: reward_model.scale}
    try:
        copy_into(own, tensors)
    except (KeyError, RuntimeError) as error:
        raise StoreError(f"`{path}` is of another model: {error}", "the run's folder must stay as it is") from error
    policy.model.requires_grad_(requires_grad=False)
    return DeepReward(card.kind, reward_model, own[THRESHOLD], frozenset(card.learnt))


def read_deep_card(path: Path) -> DeepCard:
    """What the file says about itself."""
    try:
        with safe_open(path, "pt") as file:
            card = msgspec.json.decode(file.metadata()[CARD], type=DeepCard)
    except (OSError, KeyError, TypeError, SafetensorError, msgspec.MsgspecError) as error:
        raise StoreError(f"`{path}` cannot be read: {error}", "the run's folder must stay as it is") from error
    if card.format != FORMAT:
        raise StoreError(f"`{path}` has the format {card.format}", f"this ponder reads format {FORMAT}")
    return card


def _is_idle(policy: Policy, name: str) -> bool:
    """Whether this is the output head's own weight, which a score does not pass."""
    head = policy.model.get_output_embeddings()
    own = dict(policy.model.named_parameters()).get(name)
    base = {id(weight) for weight in policy.model.base_model.parameters()}
    return own is not None and head is not None and own is head.weight and id(own) not in base
