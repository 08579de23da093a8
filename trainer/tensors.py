"""A model's and an optimizer's tensors by name: out of them into a checkpoint, and back.

Deliberately left out: files (`trainer.checkpoint`), and what else a run consists of (`trainer.run_state`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trainer.adapter import has_adapter, in_model_names
from trainer.policy import Policy
from trainer.shards import share_of, whole


@torch.no_grad()
def copy_into(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Saved tensors into those of the same names; tied weights are saved once."""
    for name, tensor in tensors.items():
        own[name].copy_(share_of(tensor, own[name]))


def restore_weights(model: PreTrainedModel, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    """A checkpoint's weights into the model: all of them, or its adapter's where one learns."""
    own = dict(model.named_parameters())
    copy_into(own, tensors["model"] if "model" in tensors else in_model_names(tensors["adapter_model"]))


def whole_weights(policy: Policy) -> dict[str, Tensor] | None:
    """The weights (its adapter's, where one learns) of a policy of which each process has a share, on the CPU.

    None where this one has them all.
    """
    if policy.shards is None:
        return None
    own = policy.learning if has_adapter(policy.model) else dict(policy.model.named_parameters())
    return {name: whole(weight.detach()).cpu() for name, weight in own.items()}


def optimizer_tensors(optimizer: torch.optim.Optimizer, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """AdamW's moments as `parameter.moment`, and how often each parameter was stepped, a scalar, as `parameter.step`.

    Where weights are shared out the moments are shares.
    """
    names = {parameter: name for name, parameter in own.items()}
    return {
        f"{names[parameter]}.{key}": value
        for parameter, moments in optimizer.state.items()
        for key, value in moments.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> None:
    """The moments of `optimizer_tensors`, in place of what it has."""
    optimizer.state.clear()
    for full, value in tensors.items():
        name, _, key = full.rpartition(".")
        is_moment = value.dim() > 0
        optimizer.state[own[name]][key] = share_of(value, own[name]).clone() if is_moment else value.clone()


def to_hex(state: Tensor) -> str:
    """A generator's state as text."""
    return bytes(state.tolist()).hex()


def from_hex(text: str) -> Tensor:
    """What `to_hex` was given."""
    return torch.tensor(list(bytes.fromhex(text)), dtype=torch.uint8)
