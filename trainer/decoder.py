"""One token for every row in few calls: the decode step of Llama and its family, for `trainer.sampler`.

Legend: P prompts, B rows forked from them, A rows still being written, T positions, D width, V vocabulary; H key heads,
G query heads to each, S = G + 2 with its key and its value, K head width, C = K / 2; X = A H; Z keys and values.

transformers spends about forty small calls a layer on a token; here they are eleven. Weights are read from the model
at the start of each call of the sampler, so an update is never missed; what is copied (query, key and value as one
matrix; on a CPU every matrix, in the order in which oneDNN multiplies few rows fastest) is dropped at its end.
Rotary positions turn neighbouring pairs as complex numbers,

    (x_i + j x_{i + K/2}) e^{j t theta_i}

so the query and key matrices are copied with their halves interleaved. Whether all this is the model's own arithmetic
is tried for every model (`agrees`). Deliberately left out: prompts (the model reads them itself), bfloat16, sliding
windows, and every other architecture: `trainer.reading` reads those.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any  # Any: transformers' own modules are untyped

import torch
import torch.nn.functional as F  # noqa: N812  # as everybody calls it
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from trainer.family import TOLERANCE, small_like
from trainer.reading import Moves, Prompts, read_prompts

ROOM = 16
"""Positions by which the cache grows. All of it is read at every step: keys and values without gaps between the rows
come from memory twice as fast, which pays for a few that are hidden, and for the copy."""


class _Matrix:
    """x -> x W^T + b, and what follows it in a layer."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.transposed, self.bias = weight.t(), bias

    def times(self, x: Tensor) -> Tensor:
        return torch.mm(x, self.transposed) if self.bias is None else torch.addmm(self.bias, x, self.transposed)

    def silu(self, x: Tensor) -> Tensor:
        """silu(x W^T + b)"""
        return F.silu(self.times(x), inplace=True)

    def gated(self, x: Tensor, gate: Tensor) -> Tensor:
        """(x W^T + b) gate"""
        return self.times(x).mul_(gate)

    def added(self, x: Tensor, to: Tensor) -> Tensor:
        """x W^T + b + to"""
        return torch.addmm(to, x, self.transposed) if self.bias is None else self.times(x).add_(to)


class _PackedMatrix(_Matrix):
    """The same in oneDNN's own order of the weights: up to twice as fast for a few dozen rows."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = torch.ops.mkldnn._reorder_linear_weight(weight), bias

    def times(self, x: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return product

    def silu(self, x: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "swish", [], "")
        return product

    def gated(self, x: Tensor, gate: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, gate, self.weight, self.bias, "mul")
        return product

    def added(self, x: Tensor, to: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, to, self.weight, self.bias, "add")
        return product


@dataclass(frozen=True)
class _Layer:
    attention_norm: Callable[[Tensor], Tensor]
    qkv: _Matrix
    query_norm: Callable[[Tensor], Tensor] | None
    key_norm: Callable[[Tensor], Tensor] | None
    out: _Matrix
    mlp_norm: Callable[[Tensor], Tensor]
    gate: _Matrix
    up: _Matrix
    down: _Matrix


class Weights:
    """A model's weights as they are now, ready for decode steps."""

    def __init__(self, model: PreTrainedModel) -> None:
        body: Any = model.base_model
        first = body.layers[0].self_attn
        self.head_width: int = first.head_dim
        self.key_heads = first.k_proj.out_features // self.head_width
        self.scaling: float = first.scaling
        self.embedding: Tensor = body.embed_tokens.weight
        self.rotation = body.rotary_emb
        matrix = _PackedMatrix if _can_pack_matrices(self.embedding) else _Matrix
        self.layers = [self._layer(layer, matrix) for layer in body.layers]
        self.norm = _norm(body.norm)
        head: Any = model.get_output_embeddings()
        self.head = matrix(head.weight, head.bias)

    def _layer(self, layer: Any, matrix: type[_Matrix]) -> _Layer:  # Any: untyped in transformers
        attention, mlp = layer.self_attn, layer.mlp
        query_norm, key_norm = getattr(attention, "q_norm", None), getattr(attention, "k_norm", None)
        return _Layer(
            _norm(layer.input_layernorm),
            matrix(*self._joined(attention)),
            query_norm and _norm(query_norm, interleave=True),
            key_norm and _norm(key_norm, interleave=True),
            matrix(attention.o_proj.weight, attention.o_proj.bias),
            _norm(layer.post_attention_layernorm),
            *(matrix(part.weight, part.bias) for part in (mlp.gate_proj, mlp.up_proj, mlp.down_proj)),
        )

    def _joined(self, attention: Any) -> tuple[Tensor, Tensor | None]:  # Any: untyped in transformers
        """Query, key and value as one matrix: for each key head its queries, itself and its values."""
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        weight = self._woven(*(part.weight for part in parts))
        return weight, None if parts[0].bias is None else self._woven(*(part.bias for part in parts))

    def _woven(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        width, heads = self.head_width, self.key_heads
        turned = (_interleaved(query, width), _interleaved(key, width), value)
        return torch.cat([part.reshape(heads, -1, *part.shape[1:]) for part in turned], dim=1).flatten(0, 1)

    def turns(self, positions: int) -> Tensor:
        """(T, 1, 1, C): by what complex number each position turns each pair."""
        place_T = torch.arange(positions, device=self.embedding.device)
        cos_1TK, sin_1TK = self.rotation(self.embedding, place_T[None])
        half = self.head_width // 2
        return torch.complex(cos_1TK[0, :, None, None, :half], sin_1TK[0, :, None, None, :half])


class Decoder:
    """Reads a batch on: a `trainer.reading.Reader`."""

    def __init__(self, weights: Weights, cache: DynamicCache, prompts: Prompts, fork_B: Tensor, capacity: int) -> None:
        """`cache` has read the prompts; `fork_B` is each row's prompt; `capacity` is all positions there will be."""
        self.weights = weights
        self.used = prompts.ids_PT.shape[1]
        self.turn_T11C = weights.turns(capacity)
        layers: Any = cache.layers  # Any: transformers leaves open what a layer keeps
        self.held = [self._fork(layer.keys, layer.values, fork_B) for layer in layers]
        self.bias_AH1T = self.held[0].new_zeros(len(fork_B), weights.key_heads, 1, self.used)
        if prompts.mask_PT is not None:
            self.bias_AH1T.masked_fill_((prompts.mask_PT == 0)[fork_B, None, None], -math.inf)

    def read(self, token_A: Tensor, position_A: Tensor) -> Tensor:
        weights = self.weights
        turn_A11C = self.turn_T11C[position_A]
        hidden_AD = F.embedding(token_A, weights.embedding)
        if self.used == self.bias_AH1T.shape[-1]:
            self._take_room()
        self.bias_AH1T[..., self.used] = 0.0
        bias_X1T = self.bias_AH1T.flatten(0, 1)
        for layer, held_ZAHTK in zip(weights.layers, self.held, strict=True):
            mixed_AD = self._attend(layer, layer.attention_norm(hidden_AD), turn_A11C, held_ZAHTK, bias_X1T)
            hidden_AD = layer.out.added(mixed_AD, hidden_AD)
            normed_AD = layer.mlp_norm(hidden_AD)
            hidden_AD = layer.down.added(layer.up.gated(normed_AD, layer.gate.silu(normed_AD)), hidden_AD)
        self.used += 1
        return weights.head.times(weights.norm(hidden_AD))

    def keep(self, moves: Moves) -> None:
        self.bias_AH1T = moves(self.bias_AH1T)
        for at, held_ZAHTK in enumerate(self.held):
            moves(held_ZAHTK.transpose(0, 1))
            self.held[at] = held_ZAHTK[:, : moves.rows]

    def _take_room(self) -> None:
        """Room for `ROOM` more positions, hidden until they are written."""
        _, rows, heads, _, width = self.held[0].shape
        room_ZAHTK = self.held[0].new_zeros(2, rows, heads, ROOM, width)
        self.held = [torch.cat([held_ZAHTK, room_ZAHTK], dim=3) for held_ZAHTK in self.held]
        self.bias_AH1T = F.pad(self.bias_AH1T, (0, ROOM), value=-math.inf)

    def _attend(
        self, layer: _Layer, normed_AD: Tensor, turn_A11C: Tensor, held_ZAHTK: Tensor, bias_X1T: Tensor
    ) -> Tensor:
        _, rows, key_heads, _, width = held_ZAHTK.shape
        all_AHSK = layer.qkv.times(normed_AD).view(rows, key_heads, -1, width)
        if layer.query_norm and layer.key_norm:
            query_AHGK, key_AHK = all_AHSK[:, :, :-2], all_AHSK[:, :, -2]
            query_AHGK.copy_(layer.query_norm(query_AHGK))
            key_AHK.copy_(layer.key_norm(key_AHK))
        pair_AHSC2 = all_AHSK.view(rows, key_heads, -1, width // 2, 2)
        torch.view_as_complex(pair_AHSC2[:, :, :-1]).mul_(turn_A11C)
        held_ZAHTK[..., self.used, :] = all_AHSK[:, :, -2:].permute(2, 0, 1, 3)
        query_XGK = all_AHSK.flatten(0, 1)[:, :-2]
        keys_XTK, values_XTK = held_ZAHTK.flatten(1, 2)
        score_XGT = torch.baddbmm(bias_X1T, query_XGK, keys_XTK.transpose(1, 2), alpha=self.weights.scaling)
        return torch.bmm(torch.softmax(score_XGT, dim=-1), values_XTK).view(rows, -1)

    def _fork(self, keys_PHTK: Tensor, values_PHTK: Tensor, fork_B: Tensor) -> Tensor:
        """Keys and values (2, B, H, T, K) of all rows."""
        _, heads, used, width = keys_PHTK.shape
        turned_PHTK = keys_PHTK.reshape(-1, heads, used, 2, width // 2).transpose(-1, -2).flatten(-2)
        return torch.stack([turned_PHTK[fork_B], values_PHTK[fork_B]])


@torch.inference_mode()
def agrees(model: PreTrainedModel) -> bool:
    """Tried, not guessed: whether decode steps give the logits of the model's own forward pass.

    Tried with other weights, the same for every model of the kind: a run that is resumed must sample as before, even
    if its weights have exploded since.
    """
    trial = small_like(model)
    device = model.device
    ids_BT = torch.arange(3, 3 + 2 * 7, device=device).view(2, 7)
    start, fork_B = 4, torch.arange(2, device=device)
    for pads in (0, 2):
        length_B = torch.tensor([start, start - pads], device=device)
        mask_BT = torch.ones_like(ids_BT)
        mask_BT[1, :pads] = 0
        position_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
        prompts = Prompts(ids_BT[:, :start], mask_BT[:, :start] if pads else None, length_B)
        cache = DynamicCache(config=trial.config)
        read_prompts(trial, prompts, cache)
        decoder = Decoder(Weights(trial), cache, prompts, fork_B, ids_BT.shape[1])
        whole_BTV = trial(ids_BT, attention_mask=mask_BT, position_ids=position_BT, use_cache=False).logits
        for at in range(start, ids_BT.shape[1]):
            if not torch.allclose(decoder.read(ids_BT[:, at], position_BT[:, at]), whole_BTV[:, at], atol=TOLERANCE):
                return False
    return True


def _can_pack_matrices(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


def _norm(module: Any, *, interleave: bool = False) -> Callable[[Tensor], Tensor]:  # Any: untyped in transformers
    """x / sqrt(mean(x^2) + epsilon) weight, in four calls: the root is the length of (x, sqrt(D epsilon))."""
    width = len(module.weight)
    weight = _interleaved(module.weight, width) if interleave else module.weight
    scaled_D = weight * math.sqrt(width)
    floor = scaled_D.new_tensor(math.sqrt(width * module.variance_epsilon))
    return lambda x: x.div(torch.linalg.vector_norm(x, dim=-1, keepdim=True).hypot_(floor)).mul_(scaled_D)


def _interleaved(heads: Tensor, width: int) -> Tensor:
    """Along the first axis, of heads of this width: the second half of each between the first, pair by pair.

    >>> _interleaved(torch.arange(8), 4).tolist()
    [0, 2, 1, 3, 4, 6, 5, 7]
    """
    return heads.reshape(-1, 2, width // 2, *heads.shape[1:]).transpose(1, 2).flatten(0, 2)
