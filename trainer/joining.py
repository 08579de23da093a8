"""Into the group of processes that learn one policy: who we are among them, and on which device.

A launcher has started us (`daemon.launch`, through torch's elastic agent); its environment says RANK, WORLD_SIZE and
LOCAL_RANK. The group meets in a file, and speaks over the loopback device, or between GPUs over NCCL. Deliberately left
out: starting processes, and several machines.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from datetime import timedelta
from pathlib import Path

import msgspec
import torch
import torch.distributed as dist

from ponder.errors import RecipeError
from ponder.events import CommandApplied, Ending
from ponder.recipe import Recipe
from trainer.link import Link
from trainer.parallel import Ranks
from trainer.shared_link import SharedLink
from trainer.stages import run

PATIENCE = timedelta(minutes=30)
"""So long a rank waits for the others, which may sample or score for longer than it does."""


def run_together(
    recipe: Recipe,
    checkpoints: Path,
    link: Link | None,
    *,
    meeting: Path,
    models_folder: Path,
    replay: Sequence[CommandApplied] = (),
    told: Collection[int] | None = None,
) -> Ending:
    """`trainer.stages.run` as one of several processes, which meet in the file `meeting`.

    Only rank 0 has a link. Raises RecipeError where the machine has fewer GPUs than there are processes, and RankLost
    when another of them is gone.
    """
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = pick_device(recipe.compute.device, count, int(os.environ["LOCAL_RANK"]), torch.cuda.device_count())
    is_gpu = device != "cpu"
    if is_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if is_gpu else "gloo", init_method=f"file://{meeting}", rank=rank, world_size=count, timeout=PATIENCE
    )
    ranks = Ranks(rank, count, device)
    ending = run(
        with_device(recipe, device), checkpoints, SharedLink(link, ranks), models_folder=models_folder, replay=replay,
        told=told, ranks=ranks,
    )  # fmt: skip
    dist.destroy_process_group()  # where something was raised the others may be gone, and the process ends
    return ending


def pick_device(word: str, count: int, place: int, gpus: int) -> str:
    """The device of the process at `place` on a machine with so many `gpus`.

    >>> pick_device("auto", 2, 1, gpus=0), pick_device("auto", 2, 1, gpus=2), pick_device("cpu", 2, 1, gpus=8)
    ('cpu', 'cuda:1', 'cpu')
    """
    if word == "cpu" or (word == "auto" and not gpus):
        return "cpu"
    if gpus < count:
        raise RecipeError(
            f"`compute.processes` is {count}, and this machine has {gpus or 'no'} GPU{'s' if gpus != 1 else ''}",
            f"set `compute.processes` to {gpus}"
            if gpus > 1
            else "set `compute.device` to `cpu`, or learn in 1 process",
        )
    return f"cuda:{place}"


def with_device(recipe: Recipe, device: str) -> Recipe:
    """The recipe with all of its stages on that device."""
    return recipe.with_stages(
        msgspec.structs.replace(part, compute=msgspec.structs.replace(part.compute, device=device))
        for part in recipe.stages
    )
