"""Texts that others wrote, scored as the trainer scores its own answers.

    FolderJudge     what a stage `reward_model` has left: the reward part `model`
    LiveTextJudge   a version of a run's live reward model, on the features of the start model: the part `preference`

A text is a whole one, prompt and answer; nothing is put around it, so that a chat template's marks are in it already.
A reward model reads it to its last token and does not care where the answer begins; a live one does. Deliberately left
out: who asks (`daemon.rm_server`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from ponder.errors import NotFound, UsageError
from ponder.recipe import Recipe
from ponder.rlhf import PREFERENCE_RAW, PREFERENCE_SPREAD
from trainer.deep_reward import DeepReward
from trainer.features import features_of, is_finite
from trainer.live_judge import LoadDeep
from trainer.policy import Policy
from trainer.precision import pick_dtype
from trainer.reward_model import RewardModel, load_reward_model
from trainer.reward_versions import Version, load_version, newest_version
from trainer.rewards.judge import MODEL_TOKENS
from trainer.start_model import deep_loader, load_start

NO_ANSWER = "it has no answer behind its prompt"
NOT_FINITE = "its score is not finite"


class Whole(NamedTuple):
    """A text, and the prompt that it begins with where that is known."""

    text: str
    prompt: str | None


@dataclass
class Judged:
    """What was made of some texts, in their order."""

    rewards: list[float | None]
    """In deviations above the mean; None where there is no score, which is not zero."""
    logs: dict[str, list[float | None]]
    """What is known besides."""
    reasons: dict[int, str] = field(default_factory=dict)
    """Why a text has no score, by its place."""


class TextJudge(Protocol):
    """Who scores texts."""

    @property
    def facts(self) -> dict[str, str | int | bool]:
        """What it is, in words and numbers."""

    def judge(self, texts: Sequence[Whole]) -> Judged:
        """Raises UsageError where a text is none that it could read."""


@dataclass
class FolderJudge:
    """A reward model that learns no more."""

    folder: Path
    reward_model: RewardModel

    @property
    def facts(self) -> dict[str, str | int | bool]:
        return {"kind": "reward model", "model": str(self.folder)}

    def judge(self, texts: Sequence[Whole]) -> Judged:
        policy = self.reward_model.policy
        split = [_split(policy, whole) for whole in texts]
        prompts, answers = [prompt for prompt, _ in split], [answer for _, answer in split]
        raw = self.reward_model.raw(prompts, answers, MODEL_TOKENS)
        mean, deviation = self.reward_model.scale.tolist()
        rewards = [None if score is None else (score - mean) / deviation for score in raw]
        reasons = {
            place: _too_long(policy, split[place]) or (NO_ANSWER if not answers[place] else NOT_FINITE)
            for place, score in enumerate(raw) if score is None
        }  # fmt: skip
        return Judged(rewards, {"raw": raw}, reasons)


@dataclass
class LiveTextJudge:
    """The newest version of a run's live reward model, or the one that was asked for."""

    run: str
    folder: Path
    policy: Policy
    """The model that the run's policy began as."""
    budget_tokens: int
    pinned: int | None = None
    load_deep: LoadDeep | None = None
    version: Version | None = None
    deep: DeepReward | None = None
    """What the version acts by, where that is not the heads."""

    def __post_init__(self) -> None:
        self._take()

    @property
    def facts(self) -> dict[str, str | int | bool]:
        version = self._take()
        return {
            "kind": "live reward model", "model": self.run, "version": version.number, "labels": version.labels,
            "is_open": version.is_open,
        }  # fmt: skip

    def judge(self, texts: Sequence[Whole]) -> Judged:
        version = self._take()
        split = [_split(self.policy, whole, place) for place, whole in enumerate(texts)]
        reasons = {
            place: reason for place, one in enumerate(split)
            if (reason := _too_long(self.policy, one) or ("" if one[1] else NO_ANSWER))
        }  # fmt: skip
        rewards: list[float | None] = [None] * len(texts)
        raw, spread = [*rewards], [*rewards]
        number: list[float | None] = [float(version.number)] * len(texts)
        logs = {PREFERENCE_RAW: raw, PREFERENCE_SPREAD: spread, "version": number}
        places = [place for place in range(len(texts)) if place not in reasons]
        if not places:
            return Judged(rewards, logs, reasons)
        prompts, answers = [split[place][0] for place in places], [split[place][1] for place in places]
        features_AF = features_of(self.policy, prompts, answers, self.budget_tokens)
        raw_AH = version.raw(features_AF)
        above_A, spread_A = version.judge(raw_AH)
        of_raw, of_above = raw_AH.mean(1).tolist(), above_A.tolist()
        if self.deep:
            of_raw, of_above = self.deep.judge(prompts, answers, self.budget_tokens)
        for row, place in enumerate(places):
            if not is_finite(features_AF[row]) or math.isnan(of_raw[row]):
                reasons[place] = NOT_FINITE
            else:
                rewards[place], raw[place], spread[place] = of_above[row], of_raw[row], spread_A[row].item()
        return Judged(rewards, logs, reasons)

    def _take(self) -> Version:
        """The version that is meant now; NotFound before the first."""
        wanted = self.pinned or newest_version(self.folder)
        if not wanted:
            raise NotFound(f"`{self.run}` has no version of a reward model yet", f"`ponder rank {self.run}` makes one")
        if self.version is None or self.version.number != wanted:
            version = load_version(self.folder, wanted)
            if version.deep_sha256 != (self.version.deep_sha256 if self.version else ""):
                load, number = self.load_deep, version.deep
                self.deep = load(self.folder, number, version.deep_sha256) if load and number else None
            self.version = version
        return self.version


def load_folder_judge(folder: Path, *, device: str, dtype: str, models_folder: Path) -> FolderJudge:
    """NotFound where no reward model lies in the folder."""
    reward_model = load_reward_model(folder, device=device, models_folder=models_folder)
    reward_model.policy.dtype = pick_dtype(dtype, reward_model.policy.device)
    return FolderJudge(folder, reward_model)


def load_live_judge(
    run: str, folder: Path, recipe: Recipe, version: int | None, *, device: str, models_folder: Path
) -> LiveTextJudge:
    """Of the stage `recipe` in which people rank, its versions in `folder`; NotFound where there is none."""
    policy = load_start(recipe, device=device, models_folder=models_folder)
    recipe = msgspec.structs.replace(recipe, compute=msgspec.structs.replace(recipe.compute, device=device))
    load_deep = deep_loader(recipe, models_folder)
    return LiveTextJudge(run, folder, policy, recipe.optim.micro_batch_tokens, version, load_deep)


# ---- tokens


def _split(policy: Policy, whole: Whole, place: int | None = None) -> tuple[list[int], list[int]]:
    """(prompt, answer) in token ids. With a `place` UsageError where nobody can say where the answer begins."""
    ids = policy.inner_ids(whole.text)
    if whole.prompt is not None:
        prompt = policy.inner_ids(whole.prompt)
        if ids[: len(prompt)] == prompt:
            return prompt, ids[len(prompt) :]
        if whole.text.startswith(whole.prompt):
            return _split_at(policy, whole.text, ids, len(whole.prompt))
    if place is not None:
        what = "has no prompt" if whole.prompt is None else "does not begin with its prompt"
        raise UsageError(
            f"`query` {place} {what}, and a live reward model must know where an answer begins",
            "send `prompts`, each the beginning of its `query`",
        )
    return ids[:-1], ids[-1:]


def _split_at(policy: Policy, text: str, ids: list[int], characters: int) -> tuple[list[int], list[int]]:
    """Where a token holds the end of the prompt and the beginning of the answer, it is the prompt's."""
    encoded = policy.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    first = next((place for place, (begin, _) in enumerate(encoded["offset_mapping"]) if begin >= characters), len(ids))
    return ids[:first], ids[first:]


def _too_long(policy: Policy, split: tuple[list[int], list[int]]) -> str:
    tokens, context = sum(map(len, split)), policy.context_tokens or math.inf
    return f"it has {tokens} tokens, and the model's context {context}" if tokens > context else ""
