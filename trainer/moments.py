"""AdamW's moments of which each process has a share, in a checkpoint: each writes and reads its own, all at once.

    checkpoints/step-000025/moments/shard-00001-model-00001-of-00001.safetensors   what the first process had

These are torch's distributed checkpoints as safetensors, so that nothing is pickled. Any number of processes reads what
any other number has written; one process, and processes that hold all moments, too. Deliberately left out: when a
checkpoint is complete (`trainer.checkpoint`), and the weights, which every process has whole.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from ponder.errors import CheckpointError
from ponder.paths import checkpoint_name
from trainer.checkpoint import Room, is_full_disk
from trainer.parallel import Ranks, together

KINDS = ("exp_avg", "exp_avg_sq")


def write_shares(
    root: Path, step: int, moments: Mapping[str, Tensor], ranks: Ranks, tell_full: Callable[[bool], None]
) -> Path:
    """Write this rank's shares of the moments below `root`, where `tidy` finds them; the folder of those of all.

    All ranks call it, and wait together for room where the disk is full.
    """
    draft = root / f".{checkpoint_name(step)}.moments.tmp"
    room = Room(tell_full)
    while True:
        if ranks.is_first:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
        ranks.wait()
        try:
            with together():
                save(dict(moments), storage_writer=HuggingFaceStorageWriter(str(draft), save_distributed=True))
            break
        except CheckpointException as error:
            _, (reason, _) = min(error.failures.items())
            if not (isinstance(reason, OSError | SafetensorError) and is_full_disk(reason)):
                raise CheckpointError(f"cannot write `{draft}`: {reason}") from error
            room.wait(f"the moments of step {step} wait")
    room.end()
    return draft


def read_shares(folder: Path, optimizer: torch.optim.Optimizer, own: Mapping[str, Tensor]) -> None:
    """The moments in `folder`, or this rank's shares of them, to every weight that has been stepped."""
    stepped = {name: weight for name, weight in own.items() if weight in optimizer.state}
    held = {f"{name}.{key}": torch.zeros_like(weight) for name, weight in stepped.items() for key in KINDS}
    with together(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # one process: so it is meant
        load(held, storage_reader=HuggingFaceStorageReader(str(folder)))
    for name, weight in stepped.items():
        optimizer.state[weight] |= {key: held[f"{name}.{key}"] for key in KINDS}
