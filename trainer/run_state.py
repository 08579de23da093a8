"""What a run consists of between two steps, into a checkpoint and back.

Weights, AdamW's moments, the reference where it is no longer the start model, knobs, the cursor into the problems, what
the watchdog remembers, and the state of every random generator: a run that goes on from here is bit-identical, on a
CPU, to one that never ended. The problems themselves are a function of seed and cursor. Deliberately left out: files
(`trainer.checkpoint`).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ponder.events import CheckpointSaved
from ponder.knobs import Knobs
from trainer.adapter import in_model_names
from trainer.checkpoint import Restored, folder_name, load_checkpoint, save_checkpoint
from trainer.learn import Learner
from trainer.policy import Policy
from trainer.reference import Reference, freeze
from trainer.watchdog import Memory, Watchdog


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
    watchdog: Watchdog = field(default_factory=Watchdog)

    def save(self, root: Path) -> CheckpointSaved:
        """Write all of it below `root`."""
        if self.watchdog.is_calm:
            self.watchdog.memory.good_step = self.step
        tensors: dict[str, Mapping[str, Tensor]] = {"optimizer": _optimizer_tensors(self.learner)}
        if isinstance(self.reference.model, PreTrainedModel) and self.reference.step > 0:
            tensors["reference"] = dict(self.reference.model.named_parameters())
        facts = Facts(
            step=self.step,
            policy_version=self.learner.version,
            cursor=self.cursor,
            reference_step=self.reference.step,
            knobs=self.knobs,
            sampler_rng=_to_hex(self.generator.get_state()),
            torch_rng=_to_hex(torch.get_rng_state()),
            python_rng=list(random.getstate()),
            watchdog=self.watchdog.memory,
        )
        saved = save_checkpoint(
            root,
            self.step,
            model=self.policy.model,
            tokenizer=self.policy.tokenizer,
            tensors=tensors,
            state=msgspec.to_builtins(facts),
            keep=self.knobs.saving.keep,
            spare=self.watchdog.memory.good_step,
        )
        return CheckpointSaved(self.step, saved.folder, saved.size_bytes, saved.sha256)

    def restore(self, restored: Restored) -> None:
        """Become what was saved."""
        facts = msgspec.convert(restored.state, Facts)
        self._restore_learnt(restored, facts)
        self.learner.version = facts.policy_version
        self.step, self.cursor, self.knobs = facts.step, facts.cursor, facts.knobs
        self.watchdog = Watchdog(facts.watchdog)
        self.generator.set_state(_from_hex(facts.sampler_rng))
        torch.set_rng_state(_from_hex(facts.torch_rng))
        version, words, gauss = facts.python_rng
        random.setstate((version, tuple(words), gauss))  # type: ignore[arg-type]  # JSON knows no tuples

    def roll_back(self, root: Path) -> None:
        """Learn on from the last good checkpoint below `root`, or from the start where there is none.

        Weights, optimizer and reference go back; the step, the cursor, random generators and knobs go on. Raises
        CheckpointError when the checkpoint is not whole.
        """
        good = self.watchdog.memory.good_step
        if good:
            restored = load_checkpoint(root / folder_name(good))
            self._restore_learnt(restored, msgspec.convert(restored.state, Facts))
        else:
            with torch.no_grad():
                _copy(dict(self.reference.load_start().named_parameters()), self.policy.model)
            self.learner.optimizer.state.clear()
            self.reference.model, self.reference.step = None, 0
        self.learner.version += 1  # other weights are another policy
        self.watchdog.forget_trouble()

    def _restore_learnt(self, restored: Restored, facts: Facts) -> None:
        """Weights (of the adapter, where one learns), reference and optimizer."""
        with torch.no_grad():
            if "model" in restored.tensors:
                _copy(restored.tensors["model"], self.policy.model)
            else:
                _copy(in_model_names(restored.tensors["adapter_model"]), self.policy.model)
            if "reference" in restored.tensors:
                reference = freeze(self.reference.load_start())
                _copy(restored.tensors["reference"], reference)
                self.reference.model = reference
        self.reference.step = facts.reference_step
        _restore_optimizer(self.learner, restored.tensors["optimizer"])


def _copy(tensors: Mapping[str, Tensor], model: torch.nn.Module) -> None:
    """Saved tensors into a model; tied weights are saved once."""
    own = dict(model.named_parameters())
    for name, tensor in tensors.items():
        own[name].copy_(tensor)


def _optimizer_tensors(learner: Learner) -> dict[str, Tensor]:
    names: dict[Tensor, str] = {parameter: name for name, parameter in learner.policy.model.named_parameters()}
    return {
        f"{names[parameter]}.{key}": value
        for parameter, moments in learner.optimizer.state.items()
        for key, value in moments.items()
    }


def _restore_optimizer(learner: Learner, tensors: Mapping[str, Tensor]) -> None:
    parameters = dict(learner.policy.model.named_parameters())
    learner.optimizer.state.clear()
    for full, value in tensors.items():
        name, _, key = full.rpartition(".")
        learner.optimizer.state[parameters[name]][key] = value.to(parameters[name].device).clone()


def _to_hex(state: Tensor) -> str:
    return bytes(state.tolist()).hex()


def _from_hex(text: str) -> Tensor:
    return torch.tensor(list(bytes.fromhex(text)), dtype=torch.uint8)
