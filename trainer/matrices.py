"""Products with a model's matrices, in the order in which the machine multiplies fastest.

Legend: N rows, D width, H key heads, G query heads to each, S = G + 2 with its key and its value, K head width.

On a CPU oneDNN multiplies a few dozen rows up to twice as fast as MKL once it has put the matrix into an order of its
own; that costs a copy, so it pays where a matrix is used again and again. Queries,
keys and values are one product. Rotary positions turn neighbouring pairs as complex numbers,

    (x_i + j x_{i + K/2}) e^{j t theta_i}

so in that product the halves of a query and of a key are interleaved; their own product is the same in any order.
Deliberately left out: other arithmetic than float32, and where weights come from.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Matrix:
    """x -> x W^T + b, and what follows it in a layer; `out`, where it is given, is where the result is written."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.transposed, self.bias = weight.t(), bias

    def times(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        if self.bias is None:
            return torch.mm(x, self.transposed, out=out)
        return torch.addmm(self.bias, x, self.transposed, out=out)

    def added(self, x: Tensor, to: Tensor, out: Tensor | None = None) -> Tensor:
        """x W^T + b + to"""
        if self.bias is None:
            return torch.addmm(to, x, self.transposed, out=out)
        return self.times(x, out).add_(to)


class _OneDnnMatrix(Matrix):
    """The same by oneDNN."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias

    def times(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return product if out is None else out.copy_(product)

    def added(self, x: Tensor, to: Tensor, out: Tensor | None = None) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, to, self.weight, self.bias, "add")
        return product if out is None else out.copy_(product)


SMALL = 1 << 17
"""Numbers of a matrix that stays in the cache in any order."""


def packed(weight: Tensor, bias: Tensor | None = None) -> Matrix:
    """For many products with few rows; the matrix as it now is, copied into oneDNN's order where that is and pays."""
    if weight.numel() <= SMALL or not _has_onednn(weight):
        return Matrix(weight, bias)
    return _OneDnnMatrix(torch.ops.mkldnn._reorder_linear_weight(weight), bias)


def _has_onednn(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


def interleaved(heads: Tensor, width: int) -> Tensor:
    """Along the first axis, of heads of this width: the second half of each between the first, pair by pair.

    >>> interleaved(torch.arange(8), 4).tolist()
    [0, 2, 1, 3, 4, 6, 5, 7]
    """
    return heads.reshape(-1, 2, width // 2, *heads.shape[1:]).transpose(1, 2).flatten(0, 2)


def apart(heads: Tensor, width: int) -> Tensor:
    """What `interleaved` was given.

    >>> apart(torch.tensor([0, 2, 1, 3, 4, 6, 5, 7]), 4).tolist()
    [0, 1, 2, 3, 4, 5, 6, 7]
    """
    return heads.reshape(-1, width // 2, 2, *heads.shape[1:]).transpose(1, 2).flatten(0, 2)


def woven(query: Tensor, key: Tensor, value: Tensor, width: int) -> Tensor:
    """Weights or biases of the three as one (H S K, ...): for each key head its queries, itself and its values."""
    heads = len(key) // width
    turned = (interleaved(query, width), interleaved(key, width), value)
    return torch.cat([part.reshape(heads, -1, *part.shape[1:]) for part in turned], dim=1).flatten(0, 1)


def unwoven(whole: Tensor, width: int, sizes: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """What `woven` was given, of the same sizes."""
    heads = sizes[1] // width
    parts = torch.split(whole.view(heads, -1, *whole.shape[1:]), [size // heads for size in sizes], dim=1)
    query, key, value = (part.flatten(0, 1) for part in parts)
    return apart(query, width), apart(key, width), value


def pairs(x: Tensor) -> Tensor:
    """Neighbours along the last axis as complex numbers; the same memory."""
    return torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))
