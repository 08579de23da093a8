"""A policy of which each process holds a share: FSDP2, `torch.distributed.fsdp.fully_shard`.

    between updates   all weights on every rank: the sampler and all that measures read them as they are
    in an update      a share of the weights; each layer's are gathered when its turn comes, forwards and backwards,
                      and let go; its gradient is summed over the ranks, and each keeps a share of that
    the optimizer     a share of AdamW's moments, always
    a checkpoint      whole tensors, gathered one after the other: the same files as without

So sampling needs as much memory for weights as one process does, and learning a share of the weights, gradients and
moments: of 16 bytes a weight, 4 + 12 / N at most. Every rank runs as many passes as the one with most
(`trainer.learn`), since each of them is waited for by all. Deliberately left out: a critic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, TypeVar  # Any: what FSDP makes of a module is known at run time only

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from trainer.parallel import Ranks, together

T = TypeVar("T")
PASS = "_ponder_pass"


class Shards:
    """The shares of a model, which is changed in its place; whole from then on, but in `apart`."""

    def __init__(self, model: PreTrainedModel, ranks: Ranks) -> None:
        mesh = init_device_mesh(torch.device(ranks.device).type, (ranks.count,))
        layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
        for part in [*layers, model]:
            fully_shard(part, mesh=mesh)
        self._model: Any = model
        self._count = ranks.count
        setattr(model, PASS, lambda compute: compute())
        register_fsdp_forward_method(model, PASS)
        self._parts = [part for part in [*layers, model] if isinstance(part, FSDPModule)]
        for before, part in pairwise([self._parts[0], *self._parts]):
            part.set_modules_to_backward_prefetch([before])  # or it goes by what was forwarded while whole
        with torch.no_grad():
            self.run(lambda: None)  # FSDP takes the module that runs first for the outermost
        self._gather()

    def run(self, compute: Callable[[], T]) -> T:
        """A pass through the model, with the weights that are no layer's gathered.

        What it computes is copied where it is part of something else: FSDP's own work in the backward pass hangs on it.
        """
        with together():
            found: T = getattr(self._model, PASS)(lambda: tree_map_only(Tensor, Tensor.clone, compute()))
        return found

    def backward(self, loss: Tensor) -> None:
        """The gradient of the loss that all ranks have a part of: FSDP divides by their number, and must not."""
        with together():
            torch.autograd.backward(loss * self._count)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Inside, the model's parameters are this rank's shares, as the optimizer knows them."""
        for part in self._parts:
            part.reshard()
            part.set_reshard_after_forward(True, recurse=False)
        yield
        self._gather()

    def _gather(self) -> None:
        with together():
            for part in self._parts:
                part.reshard()
                part.set_reshard_after_forward(False, recurse=False)
                part.unshard()


def whole(value: Tensor) -> Tensor:
    """The tensor of which this may be a share; all ranks ask."""
    if not isinstance(value, DTensor):
        return value
    with together():
        found: Tensor = value.full_tensor()
    return found


def share_of(value: Tensor, like: Tensor) -> Tensor:
    """What of a whole tensor belongs where `like` is: all of it, or this rank's share."""
    if not isinstance(like, DTensor):
        return value.to(like.device)
    with together():
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
