"""Llama and its family over a flat row, with a gradient, in few calls: what learning spends its time on.

Legend: N tokens of the row, D width, H heads, K head width, C = K / 2, I inner width.

transformers spends about sixty small calls a layer on a pass and its gradient, and keeps what each of them made.
Here a layer is three pieces, with gradients of our own for two of them:

    _Products   norm, then several products: queries, keys and values           keeps x and 1 / rms
    _Turned     rotary positions
    attention   in blocks (`trainer.attention`)
    _Gated      x + W_down (silu(W_gate n) * W_up n), n = norm(x)               keeps x, 1 / rms, W_gate n and W_up n

What else they need is made again in the backward pass: a few passes over what is small beside the products. RMS norm
(Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4) is n = w x / rms(x), rms(x)^2 = mean(x^2) + epsilon, so with
y = x / rms(x)

    dw = sum of dn y      dx = (w dn - y mean(w dn y)) / rms(x)

Weights are read from the model at every pass. Whether this is the model's own arithmetic is tried for each model
(`agrees`). Where a layer is told to keep nothing (`compute.gradient_checkpointing`), all of it is made again.
Deliberately left out: every other architecture, bfloat16 and adapters: transformers does those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any  # Any: transformers' modules and torch's contexts are untyped

import torch
import torch.nn.functional as F  # noqa: N812  # as everybody calls it
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from ponder.choices import Layout
from trainer.attention import Blocks, attend_in_blocks
from trainer.family import TOLERANCE, small_like
from trainer.rows import lay_out


def read_row(model: PreTrainedModel, ids_N: Tensor, position_N: Tensor, blocks: Blocks) -> Tensor:
    """What the last layer says at every token, (N, D), before any head; the model must be one that the family knows."""
    body: Any = model.base_model
    hidden_ND: Tensor = body.embed_tokens(ids_N)
    turn = _turns(body, hidden_ND, position_N)
    for layer in body.layers:
        is_made_again = layer.training and layer.gradient_checkpointing
        hidden_ND = (
            checkpoint(_read_layer, layer, hidden_ND, turn, blocks, use_reentrant=False)
            if is_made_again
            else _read_layer(layer, hidden_ND, turn, blocks)
        )
    return _normed(hidden_ND, *_norm_of(body.norm))


def _read_layer(layer: Any, hidden_ND: Tensor, turn: tuple[Tensor, Tensor], blocks: Blocks) -> Tensor:
    attention, mlp = layer.self_attn, layer.mlp
    read_NHK = _attend(attention, layer.input_layernorm, hidden_ND, turn, blocks)
    return _gated(
        hidden_ND + attention.o_proj(read_NHK.flatten(1)), *_norm_of(layer.post_attention_layernorm),
        *_matrices(mlp.gate_proj, mlp.up_proj, mlp.down_proj),
    )  # fmt: skip


def _attend(attention: Any, norm: Any, hidden_ND: Tensor, turn: tuple[Tensor, Tensor], blocks: Blocks) -> Tensor:
    flat = _products(hidden_ND, *_norm_of(norm), *_matrices(attention.q_proj, attention.k_proj, attention.v_proj))
    query_NHK, key_NHK, value_NHK = (states.view(len(states), -1, attention.head_dim) for states in flat)
    if hasattr(attention, "q_norm"):
        query_NHK, key_NHK = attention.q_norm(query_NHK), attention.k_norm(key_NHK)
    query_NHK, key_NHK = _turned(query_NHK, *turn), _turned(key_NHK, *turn)
    return attend_in_blocks(query_NHK, key_NHK, value_NHK, blocks, scaling=attention.scaling)


def _norm_of(module: Any) -> tuple[Tensor, float]:
    return module.weight, module.variance_epsilon


def _matrices(*modules: Any) -> list[Tensor | None]:
    """Weight and bias of each."""
    return [part for module in modules for part in (module.weight, module.bias)]


def _turns(body: Any, like: Tensor, position_N: Tensor) -> tuple[Tensor, Tensor]:
    """(cos, sin) of the angle by which each position turns each pair, both (N, 1, C)."""
    cos_1NK, sin_1NK = body.rotary_emb(like[None], position_N[None])
    half = cos_1NK.shape[-1] // 2
    return cos_1NK[0, :, None, :half].contiguous(), sin_1NK[0, :, None, :half].contiguous()


class _Norm(torch.autograd.Function):
    """RMS norm."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
        scale_N1 = _inverse_rms(x_ND, epsilon)
        ctx.save_for_backward(x_ND, scale_N1, weight_D)
        return _norm(x_ND, scale_N1, weight_D)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_ND: Tensor) -> tuple[Tensor | None, ...]:
        x_ND, scale_N1, weight_D = ctx.saved_tensors
        return *_norm_gradient(gradient_ND, x_ND.mul(scale_N1), scale_N1, weight_D), None


class _Products(torch.autograd.Function):
    """norm(x) W^T + b for several W and b."""

    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, weight_D: Tensor, epsilon: float, *matrices: Tensor | None
    ) -> tuple[Tensor, ...]:
        scale_N1 = _inverse_rms(x_ND, epsilon)
        ctx.save_for_backward(x_ND, scale_N1, weight_D, *matrices)
        normed_ND = _norm(x_ND, scale_N1, weight_D)
        products: list[Tensor] = []
        for weight, bias in zip(matrices[::2], matrices[1::2], strict=True):
            if weight is None:
                raise AssertionError("biases may be None, weights not")
            products.append(F.linear(normed_ND, weight, bias))
        return tuple(products)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_ND, scale_N1, weight_D, *matrices = ctx.saved_tensors
        unit_ND = x_ND.mul(scale_N1)
        normed_ND = unit_ND.mul(weight_D)
        back_ND = torch.mm(gradients[0], matrices[0])
        of_matrices: list[Tensor | None] = []
        for number, (gradient, bias) in enumerate(zip(gradients, matrices[1::2], strict=True)):
            if number:
                back_ND.addmm_(gradient, matrices[2 * number])
            of_matrices += [torch.mm(gradient.t(), normed_ND), None if bias is None else gradient.sum(0)]
        return *_norm_gradient(back_ND, unit_ND, scale_N1, weight_D), None, *of_matrices


class _Turned(torch.autograd.Function):
    """Rotary positions: the pairs (x_i, x_{i + K/2}) turned by each position's angles; arXiv:2104.09864, eq. 34."""

    @staticmethod
    def forward(ctx: Any, x_NHK: Tensor, cos_N1C: Tensor, sin_N1C: Tensor) -> Tensor:
        ctx.save_for_backward(cos_N1C, sin_N1C)
        return _turn(x_NHK, cos_N1C, sin_N1C)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_NHK: Tensor) -> tuple[Tensor | None, ...]:
        cos_N1C, sin_N1C = ctx.saved_tensors
        return _turn(gradient_NHK, cos_N1C, -sin_N1C), None, None


class _Gated(torch.autograd.Function):
    """x + W_down (silu(W_gate n) * W_up n), n = norm(x): SwiGLU, arXiv:2002.05202, eq. 6, with its residual."""

    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, weight_D: Tensor, epsilon: float, gate: Tensor, gate_bias: Tensor | None, up: Tensor,
        up_bias: Tensor | None, down: Tensor, down_bias: Tensor | None,
    ) -> Tensor:  # fmt: skip
        scale_N1 = _inverse_rms(x_ND, epsilon)
        normed_ND = _norm(x_ND, scale_N1, weight_D)
        gate_NI, up_NI = F.linear(normed_ND, gate, gate_bias), F.linear(normed_ND, up, up_bias)
        ctx.save_for_backward(x_ND, scale_N1, weight_D, gate_NI, up_NI, gate, up, down)
        ctx.has_bias = [bias is not None for bias in (gate_bias, up_bias, down_bias)]
        start_ND = x_ND if down_bias is None else x_ND + down_bias
        return torch.addmm(start_ND, F.silu(gate_NI).mul_(up_NI), down.t())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_ND: Tensor) -> tuple[Tensor | None, ...]:
        x_ND, scale_N1, weight_D, gate_NI, up_NI, gate, up, down = ctx.saved_tensors
        open_NI = F.silu(gate_NI)
        of_down = torch.mm(gradient_ND.t(), open_NI * up_NI)
        of_inner_NI = torch.mm(gradient_ND, down)
        of_up_NI = open_NI.mul_(of_inner_NI)
        of_gate_NI = torch.ops.aten.silu_backward(of_inner_NI.mul_(up_NI), gate_NI)
        back_ND = torch.mm(of_gate_NI, gate).addmm_(of_up_NI, up)
        unit_ND = x_ND.mul(scale_N1)
        of_x_ND, of_weight_D = _norm_gradient(back_ND, unit_ND, scale_N1, weight_D)
        normed_ND = unit_ND.mul_(weight_D)
        of_biases = [
            gradient.sum(0) if has_bias else None
            for gradient, has_bias in zip((of_gate_NI, of_up_NI, gradient_ND), ctx.has_bias, strict=True)
        ]
        of_matrices = (torch.mm(of_gate_NI.t(), normed_ND), torch.mm(of_up_NI.t(), normed_ND), of_down)
        both = (part for pair in zip(of_matrices, of_biases, strict=True) for part in pair)
        return of_x_ND.add_(gradient_ND), of_weight_D, None, *both


# torch leaves `apply` untyped
_normed: Callable[..., Tensor] = _Norm.apply
_products: Callable[..., tuple[Tensor, ...]] = _Products.apply
_turned: Callable[..., Tensor] = _Turned.apply
_gated: Callable[..., Tensor] = _Gated.apply


def _inverse_rms(x_ND: Tensor, epsilon: float) -> Tensor:
    """1 / sqrt(mean(x^2) + epsilon), (N, 1)."""
    length_N1: Tensor = torch.linalg.vector_norm(x_ND, dim=-1, keepdim=True)
    return length_N1.square_().div_(x_ND.shape[-1]).add_(epsilon).rsqrt_()


def _norm(x_ND: Tensor, scale_N1: Tensor, weight_D: Tensor) -> Tensor:
    return x_ND.mul(scale_N1).mul_(weight_D)


def _norm_gradient(gradient_ND: Tensor, unit_ND: Tensor, scale_N1: Tensor, weight_D: Tensor) -> tuple[Tensor, Tensor]:
    """(dx, dw) of an RMS norm; `unit_ND` is x / rms(x)."""
    product_ND = gradient_ND * unit_ND
    mean_N1 = torch.mv(product_ND, weight_D)[:, None].div_(-unit_ND.shape[-1])
    return torch.mul(gradient_ND, weight_D).addcmul_(unit_ND, mean_N1).mul_(scale_N1), product_ND.sum(0)


def _turn(x_NHK: Tensor, cos_N1C: Tensor, sin_N1C: Tensor) -> Tensor:
    half = cos_N1C.shape[-1]
    first, second = x_NHK[..., :half], x_NHK[..., half:]
    turned_NHK = torch.empty_like(x_NHK)
    torch.mul(first, cos_N1C, out=turned_NHK[..., :half])
    turned_NHK[..., :half].addcmul_(second, sin_N1C, value=-1)
    torch.mul(second, cos_N1C, out=turned_NHK[..., half:])
    turned_NHK[..., half:].addcmul_(first, sin_N1C)
    return turned_NHK


@torch.enable_grad()
def agrees(model: PreTrainedModel) -> bool:
    """Tried, not guessed: whether states and gradients are those of the model's own pass over each answer alone.

    Tried with other weights, the same for every model of the kind, as the decode step is.
    """
    trial = small_like(model)
    prompts, answers = [[3, 4, 5], [6, 7], [3, 4, 5]], [[8, 9, 10, 11], [12, 13], [14]]
    rows = lay_out(prompts, answers, pad_id=0, device=model.device, layout=Layout.SHARED)
    if rows.blocks is None or rows.position_BT is None:
        raise AssertionError("shared prompts have blocks")
    shared_ND = read_row(trial, rows.ids_BT[0], rows.position_BT[0], rows.blocks)[rows.place_N]
    apart = [
        trial.base_model(input_ids=torch.tensor([prompt + answer], device=model.device), use_cache=False)
        .last_hidden_state[0, len(prompt) - 1 : -1]
        for prompt, answer in zip(prompts, answers, strict=True)
    ]  # fmt: skip
    return _are_same(
        [shared_ND, *_gradients(trial, shared_ND)], [torch.cat(apart), *_gradients(trial, torch.cat(apart))]
    )


def _gradients(model: PreTrainedModel, states_ND: Tensor) -> list[Tensor]:
    """Of all weights of the model's body, for a loss that tells states apart."""
    wanted_ND = torch.linspace(-1.0, 1.0, states_ND.numel(), device=states_ND.device).view_as(states_ND)
    return list(
        torch.autograd.grad((states_ND * wanted_ND).sum(), list(model.base_model.parameters()), retain_graph=True)
    )


def _are_same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(
        bool((own - other).abs().max() <= TOLERANCE * other.abs().max())
        for own, other in zip(ours, theirs, strict=True)
    )
