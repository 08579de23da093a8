"""Several processes that learn one policy: each from answers of its own, all by the gradient of the whole batch.

    sum, largest     counts and figures over all ranks
    gather           plain numbers of all ranks, in rank order
    add_gradients    every parameter's gradient becomes the sum over all ranks

Each call waits until every rank has made the same call, and the last one wakes the others: all ranks make the same
calls in the same order, a rank without an answer too. Token weights know the whole batch (`trainer.learn.cut`), so
gradients are summed and never averaged: the average over ranks of unequal token counts is another loss. One process
asks nobody: torch.distributed is not touched, and no bit changes.

Deliberately left out: starting the processes, what each of them samples, and orders and checkpoints on several ranks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Ranks:
    """Who we are among the processes of torch.distributed's default group, which somebody else has joined."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"
    """Where the group's messages lie: `cpu` for gloo, the rank's GPU for nccl."""

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value added up over all ranks, in float64."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def largest(self, values: Sequence[float]) -> list[float]:
        """The largest of each value over all ranks."""
        return self._reduce(values, dist.ReduceOp.MAX)

    def gather(self, values: Sequence[float]) -> list[float]:
        """The values of rank 0, then those of rank 1, and so on; each rank may have another number of them."""
        if self.count == 1:
            return list(values)
        counts = [0.0] * self.count
        counts[self.rank] = float(len(values))
        counts = self.sum(counts)
        mine = torch.zeros(int(max(counts)), dtype=torch.float64, device=self.device)
        mine[: len(values)] = torch.tensor(values, dtype=torch.float64)
        everyone = [torch.empty_like(mine) for _ in range(self.count)]
        dist.all_gather(everyone, mine)
        return [value for own, count in zip(everyone, counts, strict=True) for value in own[: int(count)].tolist()]

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Sum each gradient over all ranks.

        One that no rank has stays None, so that the optimizer leaves its weight alone.
        """
        if self.count == 1:
            return
        learning = [parameter for parameter in parameters if parameter.requires_grad]
        wanted = self.largest([float(parameter.grad is not None) for parameter in learning])
        under_way = []
        for parameter, is_wanted in zip(learning, wanted, strict=True):
            if is_wanted:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                under_way.append(dist.all_reduce(parameter.grad, async_op=True))
        for work in under_way:
            work.wait()

    def _reduce(self, values: Sequence[float], how: dist.ReduceOp.RedOpType) -> list[float]:
        if self.count == 1:
            return list(values)
        told = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(told, op=how)
        return [float(value) for value in told.tolist()]


ALONE = Ranks()
"""One process."""
