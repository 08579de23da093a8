"""In what numbers a model computes: float32 weights always, bfloat16 arithmetic where it pays.

    float32     everything
    bfloat16    matrix products and attention in bfloat16 (autocast); weights, their gradients, AdamW's moments, the
                output head, log-probs and losses in float32
    auto        bfloat16 on a GPU, float32 on a CPU

An update of AdamW is about as large as the learning rate; next to a weight of 0.02, bfloat16 cannot even write down a
change of 1e-6 (its step there is 1.2e-4). So the weights that learn are never bfloat16. Deliberately left out: float16,
which needs loss scaling, and 8-bit weights.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def pick_dtype(word: str, device: torch.device) -> torch.dtype:
    """What `compute.dtype` means on this device."""
    if word == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[word]


def computing(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Inside, the model computes in `dtype`."""
    if dtype is torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def computing_exactly(device: torch.device) -> AbstractContextManager[object]:
    """Inside, nothing is rounded to bfloat16, whatever is said outside."""
    return torch.autocast(device.type, enabled=False)
