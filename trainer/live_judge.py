"""The live reward model at the trainer's side: one version at a time, taken at a step boundary, and what it says.

    boundary ── take(version) ──► the next batch, whole, is scored with it
    features ──► preference_raw     the mean of the heads, or the deep reward model's word where a version acts by one
                 preference         deviations above the mean of a fixed sample, less `rlhf.penalty` times the next
                 preference_spread  how far the heads disagree
                 preference_before  of an audit: what the same version says, raw, of the answer `rlhf.lag` steps before

A deep reward model (`trainer.deep_reward`) reads the answers' tokens, a pass more; the spread stays the heads'.
While the version's gate is closed it scores in shadow: everything is measured and weighs nothing. From the step at
which the gate opened `reward.preference` comes into force over `rlhf.ramp_steps`. All of it is in the checkpoint, so
that a resumed run scores with what it scored with. Deliberately left out: how versions come to be
(`daemon.rm_worker`), and what the parts make together (`trainer.rewards.combine`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
from torch import Tensor

from ponder import metrics
from ponder.choices import LearntFor
from ponder.errors import StoreError
from ponder.knobs import Knobs
from ponder.rlhf import PREFERENCE, PREFERENCE_BEFORE, PREFERENCE_RAW, PREFERENCE_SPREAD
from trainer.answers import Answer
from trainer.audits import BEFORE, Before
from trainer.deep_reward import DeepReward
from trainer.features import is_finite
from trainer.reward_versions import Version, aligned, load_version
from trainer.rewards.combine import combine

TENSORS = "live_reward"
"""The file in a checkpoint."""
UNSCORED = "live reward model: longer than its context, or what is not finite"
LoadDeep = Callable[[Path, int, str], DeepReward]
"""Loads a deep reward model of a folder, by its number and its file's SHA-256."""


class Facts(msgspec.Struct, frozen=True):
    """The part of the state that is no tensor."""

    version: int = 0
    is_open: bool = False
    labels: int = 0
    taken_step: int = 0
    opened_step: int | None = None
    before: dict[str, int] = {}
    deep: int = 0
    deep_sha256: str = ""


@dataclass
class LiveJudge:
    """Scores batches with the newest version that was taken."""

    folder: Path
    """Where the versions lie."""
    version: Version | None = None
    taken_step: int = 0
    """The step after which it was taken."""
    opened_step: int | None = None
    """The step after which the gate opened; None while it is closed."""
    before: Before = field(default_factory=Before)
    load_deep: LoadDeep | None = None
    """None where heads alone learn."""
    deep: DeepReward | None = None
    """What the version acts by, where that is not the heads."""
    seconds: float = 0.0
    """Spent on the deep reward model since the step began."""
    _deep_sha256: str = ""

    @property
    def number(self) -> int:
        """The version's; 0 where none was taken."""
        return self.version.number if self.version else 0

    def take(self, version: int, sha256: str, step: int) -> int:
        """Score with this version from the next step on; the number of the one before.

        Raises StoreError, and stays with the one before, when it cannot be read or is another than was told of.
        """
        taken, old = load_version(self.folder, version, sha256), self.number
        self._take_deep(taken)
        self.version, self.taken_step = taken, step
        self.opened_step = (step if self.opened_step is None else self.opened_step) if taken.is_open else None
        return old

    def weight(self, knobs: Knobs, step: int) -> float:
        """What `preference` weighs in this step."""
        if self.opened_step is None:
            return 0.0
        ramp = knobs.rlhf.ramp_steps
        share = min(1.0, (step - self.opened_step) / ramp) if ramp else 1.0
        return share * knobs.reward.preference

    def judge(self, answers: Sequence[Answer], features_AF: Tensor, knobs: Knobs, step: int) -> None:
        """Write what the version says into the answers' parts, and what it weighs."""
        if self.version is None or not answers:
            return
        raw_AH = self.version.raw(features_AF)
        above_A, spread_A = self.version.judge(raw_AH)
        weight = self.weight(knobs, step)
        columns = (raw_AH.mean(1).tolist(), above_A.tolist(), spread_A.tolist())
        if self.deep:
            columns = (*self._ask_deep(self.deep, answers, knobs), columns[2])
        for answer, features_F, raw, above, spread in zip(answers, features_AF, *columns, strict=True):
            scored = answer.scored
            judged = above - knobs.rlhf.penalty * spread
            if not answer.length or not is_finite(features_F) or math.isnan(raw):
                error = "; ".join(filter(None, (scored.error, UNSCORED)))
                answer.scored = replace(scored, reward=None, error=error) if weight else scored
                continue
            parts = {**scored.parts, PREFERENCE: judged, PREFERENCE_RAW: raw, PREFERENCE_SPREAD: spread}
            is_only_measured = knobs.reward.learnt_for is LearntFor.UNVERIFIED and scored.is_correct is not None
            weights = {**scored.weights, PREFERENCE: weight} if weight and not is_only_measured else scored.weights
            answer.scored = replace(scored, parts=parts, weights=weights)

    def judge_audits(self, answers: Sequence[Answer], features_AF: Tensor, knobs: Knobs, step: int) -> None:
        """The same for answers to audits; each is told what the version says of the one before, too."""
        self.judge(answers, features_AF, knobs, step)
        older = self.before.look_up(step, knobs.rlhf.lag, len(answers))
        texts = self.before.look_up_texts(step, knobs.rlhf.lag, len(answers))
        for answer, features_F, text in zip(answers, older, texts, strict=True):
            if self.version is None or features_F is None or not is_finite(features_F):
                continue
            raw: float | None = self.version.raw(features_F[None]).mean().item()
            if self.deep:
                budget = knobs.optim.micro_batch_tokens
                raw = self.deep.reward_model.raw([text[0]], [text[1]], budget)[0] if text else None
            if raw is not None:
                answer.scored = replace(answer.scored, parts={**answer.scored.parts, PREFERENCE_BEFORE: raw})
        own = [(list(answer.prompt_ids), list(answer.sampled.ids)) for answer in answers] if self.load_deep else []
        self.before.remember(features_AF, step, knobs.rlhf.lag, own)

    def _take_deep(self, version: Version) -> None:
        """Have what the version acts by; raises StoreError, and changes nothing, where it cannot be had."""
        if version.deep_sha256 == self._deep_sha256:
            return
        if not version.deep:
            self.deep, self._deep_sha256 = None, ""
            return
        if self.load_deep is None:
            raise StoreError(f"version {version.number} acts by a deep reward model", "set `rlhf.deep` in the recipe")
        self.deep = self.load_deep(self.folder, version.deep, version.deep_sha256)
        self._deep_sha256 = version.deep_sha256

    def _ask_deep(self, deep: DeepReward, answers: Sequence[Answer], knobs: Knobs) -> tuple[list[float], list[float]]:
        began_s = time.perf_counter()
        prompts, ids = [answer.prompt_ids for answer in answers], [answer.sampled.ids for answer in answers]
        found = deep.judge(prompts, ids, knobs.optim.micro_batch_tokens)
        self.seconds += time.perf_counter() - began_s
        return found

    def figures(self, knobs: Knobs, step: int) -> dict[str, float]:
        """How it stands in this step."""
        version = self.version
        deep = {metrics.DEEP_S: self.seconds} if self.deep else {}
        self.seconds = 0.0
        return {
            **deep,
            metrics.RM_VERSION: float(self.number),
            metrics.RM_LABELS: float(version.labels if version else 0),
            metrics.RM_AGE: float(step - self.taken_step) if version else 0.0,
            metrics.RM_WEIGHT: self.weight(knobs, step),
        }

    # ---- checkpoints

    @property
    def facts(self) -> Facts:
        known = self.version or Version(0, False, 0, {})
        return Facts(
            known.number, known.is_open, known.labels, self.taken_step, self.opened_step, self.before.steps,
            known.deep, known.deep_sha256,
        )  # fmt: skip

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it."""
        return {**(self.version.tensors if self.version else {}), **self.before.tensors()}

    def restore(self, facts: Facts, tensors: Mapping[str, Tensor]) -> None:
        """Become what was saved; StoreError where the deep reward model's file is gone."""
        own = aligned({name: tensor for name, tensor in tensors.items() if name not in BEFORE})
        version = Version(facts.version, facts.is_open, facts.labels, own, facts.deep, facts.deep_sha256)
        self.version = version if own else None
        self._take_deep(version)
        self.taken_step, self.opened_step = facts.taken_step, facts.opened_step
        self.before = Before.restored(facts.before, tensors)


def combine_groups(answers: Sequence[Answer], knobs: Knobs) -> None:
    """Make each answer's reward anew from its parts, group by group; groups stand together."""
    size = knobs.sampling.group_size
    for start in range(0, len(answers), size):
        group = answers[start : start + size]
        for answer, scored in zip(group, combine([a.scored for a in group], knobs.reward.combine), strict=True):
            answer.scored = scored
