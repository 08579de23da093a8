"""One layer of Llama and its family over a flat row, in two pieces with gradients of our own.

Legend: N tokens of the row, M places of a trail, D width, I inner width; H key heads, G query heads to each,
S = G + 2 with its key and its value, K head width, C = 2 K, a key and its value.

    attended   what each token reads: norm, queries, keys and values, rotary positions, attention
    fed        y = m + W_down (silu(W_gate n) * W_up n),  n = norm(m),  m = x + W_out read

All but attention goes over a few hundred tokens at a time, whose states stay in the processor's cache. Kept for the
backward pass are x, queries, keys and values, what was read, m, W_gate n and W_up n; the rest is made again. RMS norm
(Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4) is n = w x / rms(x), rms(x)^2 = mean(x^2) + epsilon, so with
y = x / rms(x)

    dw = sum of dn y      dx = (w dn - y mean(w dn y)) / rms(x)

Deliberately left out: which models are built so (`trainer.family`), and how layers follow each other (`trainer.body`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any  # Any: torch's contexts are untyped, and what they are given with them

import torch
import torch.nn.functional as F  # noqa: N812  # as everybody calls it
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainer.block_attention import Route, attend, attend_back
from trainer.matrices import Matrix, apart, interleaved, pairs, unwoven, woven
from trainer.trail import Recalled

PIECE_TOKENS = 1024

Part = Tensor | None
"""A bias, or the norm of queries or of keys: some models have none."""


@dataclass(frozen=True)
class Look:
    """How all layers attend to a row."""

    turn_N11C: Tensor  # noqa: N815  # shapes ride in names
    """By what complex number each position turns each pair."""
    route: Route
    width: int
    """Of a head."""
    scaling: float
    epsilon: float
    """Of the norms of queries and keys, where there are some."""


class _Norm(torch.autograd.Function):
    """RMS norm."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
        ctx.save_for_backward(x_ND, weight_D)
        ctx.epsilon = epsilon
        return _norm(x_ND, weight_D, epsilon)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_ND: Tensor) -> tuple[Part, ...]:
        x_ND, weight_D = ctx.saved_tensors
        of_x_ND, of_weight_D, _ = _norm_gradient(gradient_ND, x_ND, weight_D, ctx.epsilon)
        return of_x_ND, of_weight_D, None


def ask(
    x_ND: Tensor, look: Look, norm_D: Tensor, epsilon: float, query: Tensor, query_bias: Part, key: Tensor,
    key_bias: Part, value: Tensor, value_bias: Part, query_norm: Part, key_norm: Part,
) -> tuple[Tensor, Part]:  # fmt: skip
    """Queries, keys and values (N, H, S, K), turned; and as they were before, if norms followed."""
    everything = Matrix(woven(query, key, value, look.width), _woven_biases(query_bias, key_bias, value_bias, look))
    all_NHSK = x_ND.new_empty(len(x_ND), look.route.key_heads, look.route.groups + 2, look.width)
    plain_NHSK = None if query_norm is None else torch.empty_like(all_NHSK)
    for part in _pieces(x_ND):
        some_NHSK = all_NHSK[part]
        everything.times(_norm(x_ND[part], norm_D, epsilon), some_NHSK.flatten(1))
        if plain_NHSK is not None:
            plain_NHSK[part] = some_NHSK
            for states, weight in _of_heads(some_NHSK, query_norm, key_norm):
                states.copy_(_norm(states, interleaved(weight, look.width), look.epsilon))
        _turn(some_NHSK, look.turn_N11C[part])
    return all_NHSK, plain_NHSK


def feed(
    x_ND: Tensor, read_NE: Tensor, out: Tensor, out_bias: Part, norm_D: Tensor, epsilon: float, gate: Tensor,
    gate_bias: Part, up: Tensor, up_bias: Part, down: Tensor, down_bias: Part,
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor, Tensor]]:  # fmt: skip
    """Piece by piece: m, W_gate n, W_up n and y."""
    to_out, to_gate, to_up = Matrix(out, out_bias), Matrix(gate, gate_bias), Matrix(up, up_bias)
    to_down = Matrix(down, down_bias)
    for part in _pieces(x_ND):
        middle_ND = to_out.added(read_NE[part], x_ND[part])
        normed_ND = _norm(middle_ND, norm_D, epsilon)
        gate_NI, up_NI = to_gate.times(normed_ND), to_up.times(normed_ND)
        yield part, middle_ND, gate_NI, up_NI, to_down.added(F.silu(gate_NI).mul_(up_NI), middle_ND)


class _Attended(torch.autograd.Function):
    """What each token reads, (N, E)."""

    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, look: Look, recalled: Recalled | None, norm_D: Tensor, epsilon: float, *parts: Any
    ) -> Tensor:
        """`parts` are the weights, biases and norms that `ask` takes."""
        ctx.look, ctx.epsilon, ctx.recalled = look, epsilon, recalled
        if recalled:
            ctx.save_for_backward(x_ND, None, None, norm_D, *parts)
            return recalled.take("read_ME")
        all_NHSK, plain_NHSK = ask(x_ND, look, norm_D, epsilon, *parts)
        ctx.save_for_backward(x_ND, all_NHSK, plain_NHSK, norm_D, *parts)
        return attend(all_NHSK, look.route, look.scaling)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_NE: Tensor) -> tuple[Part, ...]:
        x_ND, all_MHSK, plain_NHSK, norm_D, *parts = ctx.saved_tensors
        query, query_bias, key, _, value, _, query_norm, key_norm = parts
        look, sizes, has_bias = ctx.look, [len(query), len(key), len(value)], query_bias is not None
        place_N = None
        if ctx.recalled:
            all_MHSK = ctx.recalled.states.all_MX.unflatten(1, (look.route.key_heads, -1, look.width))
            place_N = ctx.recalled.place_N
        of_query_NHGK, of_pair_NHC = attend_back(gradient_NE, all_MHSK, place_N, look.route, look.scaling)
        whole = woven(query, key, value, look.width)
        back, of_whole, of_bias = Matrix(whole.t(), None), torch.zeros_like(whole), whole.new_zeros(len(whole))
        of_norm_D, of_x_ND = torch.zeros_like(norm_D), torch.empty_like(x_ND)
        of_norms = [None if weight is None else torch.zeros_like(weight) for weight in (query_norm, key_norm)]
        for part in _pieces(x_ND):
            of_all_NHSK = _turn_back(of_query_NHGK[part], of_pair_NHC[part], look.turn_N11C[part])
            if plain_NHSK is not None:
                both = (_of_heads(states, query_norm, key_norm) for states in (of_all_NHSK, plain_NHSK[part]))
                for (of_states, weight), (states, _), of_weight in zip(*both, of_norms, strict=True):
                    of_weight += _norm_heads_back(of_states, states, weight, look)
            of_all_NX = of_all_NHSK.flatten(1)
            of_x_ND[part], of_weight_D, normed_ND = _norm_gradient(
                back.times(of_all_NX), x_ND[part], norm_D, ctx.epsilon
            )
            of_norm_D += of_weight_D
            of_whole.addmm_(of_all_NX.t(), normed_ND)
            if has_bias:
                of_bias += of_all_NX.sum(0)
        of_matrices = unwoven(of_whole, look.width, sizes)
        of_biases = unwoven(of_bias, look.width, sizes) if has_bias else (None, None, None)
        of_parts = (part for pair in zip(of_matrices, of_biases, strict=True) for part in pair)
        return of_x_ND, None, None, of_norm_D, None, *of_parts, *of_norms


class _Fed(torch.autograd.Function):
    """m + W_down (silu(W_gate n) * W_up n), n = norm(m), m = x + W_out read: SwiGLU, arXiv:2002.05202, eq. 6."""

    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, read_NE: Tensor, recalled: Recalled | None, out: Tensor, out_bias: Part, norm_D: Tensor,
        epsilon: float, gate: Tensor, gate_bias: Part, up: Tensor, up_bias: Part, down: Tensor, down_bias: Part,
    ) -> Tensor:  # fmt: skip
        kept: list[Tensor] = []
        if recalled:
            y_ND = recalled.take("end_MD")
        else:
            y_ND = torch.empty_like(x_ND)
            weights = (out, out_bias, norm_D, epsilon, gate, gate_bias, up, up_bias, down, down_bias)
            for part, middle_ND, gate_NI, up_NI, end_ND in feed(x_ND, read_NE, *weights):
                y_ND[part] = end_ND
                kept += [middle_ND, gate_NI, up_NI]
        ctx.save_for_backward(read_NE, out, norm_D, gate, up, down, *kept)
        ctx.epsilon, ctx.recalled = epsilon, recalled
        ctx.has_bias = [bias is not None for bias in (out_bias, gate_bias, up_bias, down_bias)]
        return y_ND

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_ND: Tensor) -> tuple[Part, ...]:
        read_NE, out, norm_D, gate, up, down, *kept = ctx.saved_tensors
        matrices = (out, gate, up, down)
        of_out, of_gate, of_up, of_down = (torch.zeros_like(weight) for weight in matrices)
        from_out, from_gate, from_up, from_down = (Matrix(weight.t(), None) for weight in matrices)
        of_biases = [
            weight.new_zeros(len(weight)) if has else None for weight, has in zip(matrices, ctx.has_bias, strict=True)
        ]
        of_norm_D, of_x_ND, of_read_NE = (torch.zeros_like(norm_D), *map(torch.empty_like, (gradient_ND, read_NE)))
        for place, part in enumerate(_pieces(gradient_ND)):
            of_y_ND = gradient_ND[part]
            middle_ND, gate_NI, up_NI = (
                (ctx.recalled.take(name, part) for name in ("middle_MD", "gate_MI", "up_MI"))
                if ctx.recalled
                else kept[3 * place : 3 * place + 3]
            )
            open_NI = F.silu(gate_NI)
            of_down.addmm_(of_y_ND.t(), open_NI * up_NI)
            of_inner_NI = from_down.times(of_y_ND)
            of_up_NI = open_NI.mul_(of_inner_NI)
            of_gate_NI = torch.ops.aten.silu_backward(of_inner_NI.mul_(up_NI), gate_NI)
            back_ND = from_up.added(of_up_NI, from_gate.times(of_gate_NI))
            of_middle_ND, of_weight_D, normed_ND = _norm_gradient(back_ND, middle_ND, norm_D, ctx.epsilon)
            of_norm_D += of_weight_D
            of_gate.addmm_(of_gate_NI.t(), normed_ND)
            of_up.addmm_(of_up_NI.t(), normed_ND)
            of_x_ND[part] = of_middle_ND.add_(of_y_ND)
            of_out.addmm_(of_middle_ND.t(), read_NE[part])
            of_read_NE[part] = from_out.times(of_middle_ND)
            for of_bias, gradient in zip(of_biases, (of_middle_ND, of_gate_NI, of_up_NI, of_y_ND), strict=True):
                if of_bias is not None:
                    of_bias += gradient.sum(0)
        of_out_bias, of_gate_bias, of_up_bias, of_down_bias = of_biases
        return (
            of_x_ND, of_read_NE, None, of_out, of_out_bias, of_norm_D, None, of_gate, of_gate_bias, of_up, of_up_bias,
            of_down, of_down_bias,
        )  # fmt: skip


# torch leaves `apply` untyped
normed: Callable[..., Tensor] = _Norm.apply
attended: Callable[..., Tensor] = _Attended.apply
fed: Callable[..., Tensor] = _Fed.apply


def _pieces(x_ND: Tensor) -> list[slice]:
    size = PIECE_TOKENS if x_ND.device.type == "cpu" else len(x_ND)
    return [slice(start, start + size) for start in range(0, len(x_ND), size)]


def _norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return x.mul(_inverse_rms(x, epsilon)).mul_(weight)


def _inverse_rms(x: Tensor, epsilon: float) -> Tensor:
    """1 / sqrt(mean(x^2) + epsilon), over the last axis."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return length.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()


def _norm_gradient(
    gradient_ND: Tensor, x_ND: Tensor, weight_D: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(dx, dw, n) of an RMS norm."""
    scale_N1 = _inverse_rms(x_ND, epsilon)
    unit_ND = x_ND.mul(scale_N1)
    product_ND = gradient_ND * unit_ND
    mean_N1 = torch.mv(product_ND, weight_D)[:, None].div_(-x_ND.shape[-1])
    of_x_ND = torch.mul(gradient_ND, weight_D).addcmul_(unit_ND, mean_N1).mul_(scale_N1)
    return of_x_ND, product_ND.sum(0), unit_ND.mul_(weight_D)


def _of_heads(all_NHSK: Tensor, query_norm: Part, key_norm: Part) -> list[tuple[Tensor, Tensor]]:
    """Queries and keys, each with the weight of its norm."""
    if query_norm is None or key_norm is None:
        raise AssertionError("a model norms both or none")
    return [(all_NHSK[:, :, :-2], query_norm), (all_NHSK[:, :, -2:-1], key_norm)]


def _norm_heads_back(of_states: Tensor, states: Tensor, weight: Tensor, look: Look) -> Tensor:
    """The gradient of the norm's weight; that of the states becomes, in place, that of the states before the norm."""
    of_flat, flat = of_states.reshape(-1, look.width), states.reshape(-1, look.width)
    before, of_weight, _ = _norm_gradient(of_flat, flat, interleaved(weight, look.width), look.epsilon)
    of_states.copy_(before.view_as(of_states))
    return apart(of_weight, look.width)


def _turn(all_NHSK: Tensor, turn_N11C: Tensor) -> None:
    """Rotary positions, arXiv:2104.09864, eq. 34: queries and keys, in place."""
    pairs(all_NHSK[:, :, :-1]).mul_(turn_N11C)


def _turn_back(of_query_NHGK: Tensor, of_pair_NHC: Tensor, turn_N11C: Tensor) -> Tensor:
    """The gradient of what `_turn` was given."""
    tokens, heads, groups, width = of_query_NHGK.shape
    of_all_NHSK = of_query_NHGK.new_empty(tokens, heads, groups + 2, width)
    back_N11C = turn_N11C.conj().resolve_conj()
    torch.mul(pairs(of_query_NHGK), back_N11C, out=pairs(of_all_NHSK[:, :, :-2]))
    torch.mul(pairs(of_pair_NHC[..., :width]), back_N11C[:, 0], out=pairs(of_all_NHSK[:, :, -2]))
    of_all_NHSK[:, :, -1] = of_pair_NHC[..., width:]
    return of_all_NHSK


def _woven_biases(query: Part, key: Part, value: Part, look: Look) -> Part:
    if query is None or key is None or value is None:
        return None
    return woven(query, key, value, look.width)
