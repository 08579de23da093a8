"""What a run consists of between two steps, into a checkpoint and back.

Weights, AdamW's moments, the critic with its own, the reference where it is no longer the start model, the steered KL
weight, knobs, the cursor into the problems, what the watchdog remembers, the version of the live reward model, prompts
in quarantine, the pool of older selves, and the state of every random generator: a run that goes on from here is
bit-identical, on a CPU, to one that never ended. The problems themselves are a function of seed and cursor.
Deliberately left out: files (`trainer.checkpoint`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ponder.errors import CheckpointError
from ponder.events import CheckpointSaved
from ponder.knobs import Knobs
from ponder.paths import checkpoint_name
from trainer.checkpoint import Restored, load_checkpoint, save_checkpoint
from trainer.kl_control import KlControl
from trainer.learn import Learner
from trainer.live_judge import TENSORS as LIVE
from trainer.live_judge import Facts as LiveFacts
from trainer.live_judge import LiveJudge
from trainer.moments import read_shares, write_shares
from trainer.policy import Policy
from trainer.reference import Reference, freeze
from trainer.selfplay import TENSORS as POOL
from trainer.selfplay import Pool
from trainer.tensors import (
    copy_into,
    from_hex,
    optimizer_tensors,
    restore_optimizer,
    restore_weights,
    to_hex,
    whole_weights,
)  # fmt: skip
from trainer.watchdog import Memory, Watchdog

NOTHING_SAVED = CheckpointSaved(0, "", 0, "")


class Facts(msgspec.Struct, frozen=True):
    """The part of a run's state that is no tensor: state.json."""

    step: int
    policy_version: int
    cursor: int
    """Problems drawn so far."""
    reference_step: int
    knobs: Knobs
    sampler_rng: str
    """Hex of the sampler's generator state, as the next two."""
    torch_rng: str
    python_rng: list[object]
    watchdog: Memory = msgspec.field(default_factory=Memory)
    kl_coef: float | None = None
    """The steered weight of the divergence, and the knob's value that it was steered from."""
    kl_begun_from: float | None = None
    data: str = ""
    set_bytes: int = 0
    """How long the set of a `reject` stage is."""
    live: LiveFacts | None = None
    quarantined: list[str] = []
    """Ids of prompts that are asked no more."""


@dataclass
class RunState:
    """A run between two steps."""

    policy: Policy
    learner: Learner
    reference: Reference
    generator: torch.Generator
    knobs: Knobs
    step: int = 0
    cursor: int = 0
    data: str = ""
    """The fingerprint of the data set that the cursor counts in."""
    spare: Collection[int] = ()
    """Steps whose checkpoints are kept however old: what earlier stages left."""
    start_step: int = 0
    """The step after which its stage began; before it there is nothing to roll back to."""
    set_bytes: int = 0
    watchdog: Watchdog = field(default_factory=Watchdog)
    live: LiveJudge | None = None
    """There where people rank while it learns."""
    quarantined: set[str] = field(default_factory=set)
    pool: Pool | None = None
    """There where the policy plays a game."""

    def __post_init__(self) -> None:
        """Begin Python's generator, too, from the seed: a run that dies before its first checkpoint has no other."""
        random.seed(self.generator.initial_seed())

    def save(
        self, root: Path, *, is_regular: bool, stage: str, scores: Mapping[str, float],
        tell_full: Callable[[bool], None],
    ) -> CheckpointSaved:  # fmt: skip
        """Write all of it below `root`; `scores` say how good the policy is after this step.

        Of several processes all call it, and the first writes.

        Only regular checkpoints are rolled back to: a run that was stopped, or saved by hand, goes on like one that was
        not.
        """
        if is_regular and self.watchdog.is_calm:
            self.watchdog.memory.good_step = self.step
        ranks, shares = self.learner.ranks, None
        with self.policy.apart():
            weights = whole_weights(self.policy)
            moments = optimizer_tensors(self.learner.optimizer, dict(self.policy.model.named_parameters()))
            if self.policy.shards and moments:
                shared = {name: tensor for name, tensor in moments.items() if tensor.dim()}
                shares = write_shares(root, self.step, shared, ranks, tell_full)
                moments = {name: tensor for name, tensor in moments.items() if name not in shared}
        saved = NOTHING_SAVED
        if ranks.is_first:
            saved = self._write(root, stage, scores, tell_full, moments, weights, shares)
        return ranks.of_first(saved, CheckpointSaved)

    def _write(
        self, root: Path, stage: str, scores: Mapping[str, float], tell_full: Callable[[bool], None],
        moments: Mapping[str, Tensor], weights: Mapping[str, Tensor] | None, shares: Path | None,
    ) -> CheckpointSaved:  # fmt: skip
        tensors: dict[str, Mapping[str, Tensor]] = {"optimizer": moments}
        critic = self.learner.critic
        if critic is not None:
            own = critic.named_parameters()
            tensors |= {"critic": own, "critic_optimizer": optimizer_tensors(critic.optimizer, own)}
        if isinstance(self.reference.model, PreTrainedModel) and self.reference.step > 0:
            tensors["reference"] = dict(self.reference.model.named_parameters())
        if self.live and (judging := self.live.tensors()):
            tensors[LIVE] = judging
        if self.pool:
            tensors[POOL] = self.pool.tensors()
        facts = Facts(
            step=self.step,
            policy_version=self.learner.version,
            cursor=self.cursor,
            reference_step=self.reference.step,
            knobs=self.knobs,
            sampler_rng=to_hex(self.generator.get_state()),
            torch_rng=to_hex(torch.get_rng_state()),
            python_rng=list(random.getstate()),
            kl_coef=self.learner.kl.coef,
            kl_begun_from=self.learner.kl.begun_from,
            data=self.data,
            set_bytes=self.set_bytes,
            watchdog=self.watchdog.memory,
            live=self.live.facts if self.live else None,
            quarantined=sorted(self.quarantined),
        )
        saved = save_checkpoint(
            root,
            self.step,
            model=self.policy.model,
            weights=weights,
            tokenizer=self.policy.tokenizer,
            tensors=tensors,
            state=msgspec.to_builtins(facts),
            keep=self.knobs.saving.keep,
            shares=shares,
            spare={self.watchdog.memory.good_step, *self.spare},
            stage=stage,
            scores=scores,
            tell_full=tell_full,
        )
        return CheckpointSaved(self.step, saved.folder, saved.size_bytes, saved.sha256)

    def restore(self, restored: Restored) -> None:
        """Become what was saved."""
        facts = msgspec.convert(restored.state, Facts)
        if facts.data != self.data:
            raise CheckpointError(
                "the data set is not the one that the checkpoint was made with",
                "put the old file back, or start a new run from the checkpoint's folder as `model.path`",
            )
        self._restore_learnt(restored, facts)
        self.learner.version = facts.policy_version
        self.step, self.cursor, self.knobs = facts.step, facts.cursor, facts.knobs
        self.set_bytes = facts.set_bytes
        self.watchdog = Watchdog(facts.watchdog)
        if self.live and facts.live:
            self.live.restore(facts.live, restored.tensors.get(LIVE, {}))
        self.quarantined = set(facts.quarantined)
        if self.pool and POOL in restored.tensors:
            self.pool.restore(restored.tensors[POOL])
        self.generator.set_state(from_hex(facts.sampler_rng))
        torch.set_rng_state(from_hex(facts.torch_rng))
        version, words, gauss = facts.python_rng
        random.setstate((version, tuple(words), gauss))  # type: ignore[arg-type]  # JSON knows no tuples

    def roll_back(self, root: Path) -> None:
        """Learn on from the last good checkpoint below `root`, or from the start where there is none.

        Weights, optimizers, critic, KL weight and reference go back; the step, the cursor, random generators and knobs
        go on. Raises CheckpointError when the checkpoint is not whole.
        """
        good = self.watchdog.memory.good_step
        if good > self.start_step:
            restored = load_checkpoint(root / checkpoint_name(good))
            self._restore_learnt(restored, msgspec.convert(restored.state, Facts))
        else:
            start = dict(self.reference.load_start().named_parameters())
            with self.policy.apart():
                copy_into(dict(self.policy.model.named_parameters()), start)
            self.learner.optimizer.state.clear()
            self.learner.critic, self.learner.kl = None, KlControl()
            self.reference.model, self.reference.step = None, 0
        self.learner.version += 1  # other weights are another policy
        self.watchdog.forget_trouble()

    def _restore_learnt(self, restored: Restored, facts: Facts) -> None:
        """Weights (of the adapter, where one learns), reference, critic, KL weight and optimizers."""
        with self.policy.apart():
            own = dict(self.policy.model.named_parameters())
            restore_weights(self.policy.model, restored.tensors)
            restore_optimizer(self.learner.optimizer, own, restored.tensors["optimizer"])
            if restored.shares:
                read_shares(restored.shares, self.learner.optimizer, own)
        if "reference" in restored.tensors:
            reference = freeze(self.reference.load_start())
            copy_into(dict(reference.named_parameters()), restored.tensors["reference"])
            self.reference.model = reference
        self.reference.step = facts.reference_step
        if "critic" in restored.tensors:
            self._restore_critic(facts.knobs, restored)
        self.learner.kl = KlControl(facts.kl_coef, facts.kl_begun_from)

    def _restore_critic(self, knobs: Knobs, restored: Restored) -> None:
        self.learner.prepare(knobs, self.reference.load_start)
        critic = self.learner.critic
        if critic is not None:
            own = critic.named_parameters()
            copy_into(own, restored.tensors["critic"])
            restore_optimizer(critic.optimizer, own, restored.tensors["critic_optimizer"])
