"""How much memory a run has taken at the most, what of it goes back, and what to lower when it was more than there is.

Deliberately left out: how much there is.
"""

from __future__ import annotations

import ctypes
import re
import resource
import sys

import torch

from ponder.errors import OutOfMemoryError

_BATCH = "`optim.micro_batch_tokens` or `optim.head_chunk_tokens`, or set `compute.gradient_checkpointing = true`"
LOWER = {
    "sample": "`sampling.group_size`, `sampling.prompts_per_step` or `sampling.max_new_tokens`",
    "score": "`sampling.group_size`, `sampling.prompts_per_step` or `sampling.max_new_tokens`",
    "learn": _BATCH,
    "evaluate": "`evaluation.problems`, `evaluation.final_problems` or `sampling.max_new_tokens`",
}
"""What makes a phase need less memory; for all others a smaller model is left."""

GIVE_BACK_EVERY_STEPS = 20

ASKED = re.compile(r"tried to allocate ([\d.]+ \w+)", re.IGNORECASE)
"""How much was asked for, in torch's words."""

NO_ROOM_ON_CPU = "DefaultCPUAllocator"
"""In torch's words when the system has refused memory; there is no class for it."""


def peak_bytes(device: torch.device) -> int:
    """Of the tensors on the GPU, where the run is on one, else of the whole process; since it began."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # others count in KiB


def give_back() -> None:
    """Give what is free back to the system; where the C library cannot, nothing happens.

    Batches of every shape leave holes in the heap: with 640 MB in use, 450 MB lay free after a minute and more each
    hour. Taken back they cost the next steps some page faults, so that it is done every `GIVE_BACK_EVERY_STEPS` only.
    """
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def is_want_of_memory(error: Exception) -> bool:
    """Whether torch or Python says that there is no more memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or NO_ROOM_ON_CPU in str(error)


def explain_want_of_memory(error: Exception, phase: str) -> OutOfMemoryError:
    """What was asked for in which phase, and which knobs to lower."""
    asked, less = ASKED.search(str(error)), LOWER.get(phase)
    return OutOfMemoryError(
        f"out of memory in `{phase}`" + (f": no room for {asked[1]} more" if asked else ""),
        f"lower {less}" if less else 'choose a smaller model, or `compute.dtype = "bfloat16"`',
    )
