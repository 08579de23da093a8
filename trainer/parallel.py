"""Several processes that learn one policy: each from answers of its own, all by the gradient of the whole batch.

    sum, largest     counts and figures over all ranks
    gather           plain numbers of all ranks, in rank order
    bring, of_first  any plain message of all ranks, in rank order, and that of rank 0
    add_gradients    every parameter's gradient becomes the sum over all ranks
    share            which of so many things are ours

Each call waits until every rank has made the same call, and the last one wakes the others: all ranks make the same
calls in the same order, a rank without an answer too. Token weights know the whole batch (`trainer.learn.cut`), so
gradients are summed and never averaged: the average over ranks of unequal token counts is another loss. A rank that
waits for one that is gone raises RankLost. One process asks nobody: torch.distributed is not touched, and no bit
changes.

Deliberately left out: starting the processes (`daemon.launch`) and joining them (`trainer.joining`), and what they
share (`trainer.sharing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import msgspec
import torch
import torch.distributed as dist

from ponder.errors import RankLost

M = TypeVar("M")


@dataclass(frozen=True)
class Ranks:
    """Who we are among the processes of torch.distributed's default group, which somebody else has joined."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"
    """Where the group's messages lie: `cpu` for gloo, the rank's GPU for nccl."""

    @property
    def is_first(self) -> bool:
        """Whether this is the one that speaks and writes for all."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Which of `count` things in a row are this rank's; none has more than one above another.

        >>> [Ranks(rank, 3).share(7) for rank in range(3)]
        [slice(0, 2, None), slice(2, 4, None), slice(4, 7, None)]
        """
        return slice(count * self.rank // self.count, count * (self.rank + 1) // self.count)

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
        parts = self._gather(torch.tensor(values, dtype=torch.float64))
        return [value for part in parts for value in part.tolist()]

    def bring(self, own: M, kind: type[M]) -> list[M]:
        """What each rank brings, in rank order; `kind` is what msgspec reads it as."""
        if self.count == 1:
            return [own]
        parts = self._gather(_to_tensor(msgspec.msgpack.encode(own)))
        return [msgspec.msgpack.decode(part.numpy().tobytes(), type=kind) for part in parts]

    def of_first(self, own: M, kind: type[M]) -> M:
        """What rank 0 brings, to all; what the others bring is not looked at."""
        if self.count == 1:
            return own
        message = _to_tensor(msgspec.msgpack.encode(own) if self.is_first else b"")
        (size,) = self.sum([len(message)])
        told = message.to(self.device) if self.is_first else torch.empty(int(size), dtype=torch.uint8).to(self.device)
        with together():
            dist.broadcast(told, src=0)
        return msgspec.msgpack.decode(told.cpu().numpy().tobytes(), type=kind)

    def wait(self) -> None:
        """Return when every rank is here."""
        self.sum([0.0])

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Sum each gradient over all ranks.

        One that no rank has stays None, so that the optimizer leaves its weight alone.
        """
        if self.count == 1:
            return
        learning = [parameter for parameter in parameters if parameter.requires_grad]
        wanted = self.largest([float(parameter.grad is not None) for parameter in learning])
        under_way = []
        with together():
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
        with together():
            dist.all_reduce(told, op=how)
        return [float(value) for value in told.tolist()]

    def _gather(self, own_N: torch.Tensor) -> list[torch.Tensor]:
        """What each rank has, on the CPU; each may have another length."""
        counts = [0.0] * self.count
        counts[self.rank] = float(len(own_N))
        counts = self.sum(counts)
        mine = torch.zeros(int(max(counts)), dtype=own_N.dtype, device=self.device)
        mine[: len(own_N)] = own_N
        everyone = [torch.empty_like(mine) for _ in range(self.count)]
        with together():
            dist.all_gather(everyone, mine)
        return [part[: int(count)].cpu() for part, count in zip(everyone, counts, strict=True)]


ALONE = Ranks()
"""One process."""


def _to_tensor(message: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(message), dtype=torch.uint8) if message else torch.empty(0, dtype=torch.uint8)


@contextmanager
def together() -> Iterator[None]:
    """Inside, what the group's own library says when another rank is gone is RankLost."""
    try:
        yield
    except RuntimeError as error:
        raise RankLost("another process of this run is gone", str(error).strip().splitlines()[0]) from error
