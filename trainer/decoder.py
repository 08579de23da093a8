"""One token for every row in few calls: the decode step of Llama and its family, for `trainer.sampler`.

Legend: P prompts, B rows forked from them, A rows still being written, T positions, D width, V vocabulary; H key heads,
G query heads to each, S = G + 2 with its key and its value, K head width, C = K / 2; X = A H; Z keys and values; N
tokens of all prompts.

transformers spends about forty small calls a layer on a token; here they are eleven. Weights are read from the model
at the start of each call of the sampler, so an update is never missed; what is copied (query, key and value as one
matrix; on a CPU every large one, in the order in which oneDNN multiplies few rows fastest) is dropped at its end.
Prompts are read by our own pass, all on one row. With a trail, each token's states are kept for learning
(`trainer.trail`): products are written there and nowhere else. Whether all this is the model's own arithmetic is tried
for every model (`agrees`). Deliberately left out: bfloat16, sliding windows, and every other architecture:
`trainer.reading` reads those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple  # Any: transformers' own modules are untyped

import torch
import torch.nn.functional as F  # noqa: N812  # as everybody calls it
from torch import Tensor
from transformers import PreTrainedModel

from trainer.body import read_row_alone
from trainer.family import TOLERANCE, small_like
from trainer.matrices import Matrix, interleaved, packed, pairs, woven
from trainer.reading import Moves, Prompts
from trainer.rows import lay_out_prompts
from trainer.trail import Nowhere, States, Steps, Trail

ROOM = 16
"""Positions by which the cache grows. All of it is read at every step: keys and values without gaps between the rows
come from memory twice as fast, which pays for a few that are hidden, and for the copy."""


@dataclass(frozen=True)
class _Layer:
    attention_norm: Callable[[Tensor], Tensor]
    qkv: Matrix
    query_norm: Callable[[Tensor], Tensor] | None
    key_norm: Callable[[Tensor], Tensor] | None
    out: Matrix
    mlp_norm: Callable[[Tensor], Tensor]
    gate: Matrix
    up: Matrix
    down: Matrix


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
        self.layers = [self._layer(layer) for layer in body.layers]
        self.norm = _norm(body.norm)
        head: Any = model.get_output_embeddings()
        self.head = packed(head.weight, head.bias)

    def _layer(self, layer: Any) -> _Layer:  # Any: untyped in transformers
        attention, mlp = layer.self_attn, layer.mlp
        query_norm, key_norm = getattr(attention, "q_norm", None), getattr(attention, "k_norm", None)
        return _Layer(
            _norm(layer.input_layernorm),
            packed(*self._woven(attention)),
            query_norm and _norm(query_norm, interleave=True),
            key_norm and _norm(key_norm, interleave=True),
            packed(attention.o_proj.weight, attention.o_proj.bias),
            _norm(layer.post_attention_layernorm),
            *(packed(part.weight, part.bias) for part in (mlp.gate_proj, mlp.up_proj, mlp.down_proj)),
        )

    def _woven(self, attention: Any) -> tuple[Tensor, Tensor | None]:  # Any: untyped in transformers
        """Query, key and value as one matrix."""
        query, key, value, width = attention.q_proj, attention.k_proj, attention.v_proj, self.head_width
        weight = woven(query.weight, key.weight, value.weight, width)
        return weight, None if query.bias is None else woven(query.bias, key.bias, value.bias, width)

    def turns(self, positions: int) -> Tensor:
        """(T, 1, 1, C): by what complex number each position turns each pair."""
        place_T = torch.arange(positions, device=self.embedding.device)
        cos_1TK, sin_1TK = self.rotation(self.embedding, place_T[None])
        half = self.head_width // 2
        return torch.complex(cos_1TK[0, :, None, None, :half], sin_1TK[0, :, None, None, :half])


class Decoder:
    """Reads a batch on: a `trainer.reading.Reader`."""

    def __init__(
        self, weights: Weights, read: PromptsRead, prompts: Prompts, fork_B: Tensor, capacity: int,
        trail: Trail | None = None,
    ) -> None:  # fmt: skip
        """`fork_B` is each row's prompt; `capacity` is all positions there will be."""
        self.weights, self.trail, self.fork_B = weights, trail, fork_B
        self.prompt_places = read.trail_places(prompts.length_P)
        self.rows_A = torch.arange(len(fork_B), device=fork_B.device)
        self.written: list[tuple[Tensor, int]] = []
        """Which rows were read in each step, and the first of their places in the trail."""
        self.used = prompts.ids_PT.shape[1]
        self.turn_T11C = weights.turns(capacity)
        self.held = [self._fork(pair_NHC, read.place_PT, fork_B) for pair_NHC in read.pairs]
        most = 2 * len(fork_B) * weights.key_heads * (capacity + ROOM) * weights.head_width
        self.rooms = [self.held[0].new_empty(most) for _ in range(len(self.held) + 1)]
        """Memory for each layer's keys and values, and for one more: they move into it when they grow."""
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
        start = self._take_places(len(token_A))
        for number, (layer, held_ZAHTK) in enumerate(zip(weights.layers, self.held, strict=True)):
            kept = self.trail.layers[number].at(start, len(token_A)) if self.trail else Nowhere()
            read_AE = self._attend(layer, layer.attention_norm(hidden_AD), turn_A11C, held_ZAHTK, bias_X1T, kept)
            middle_AD = layer.out.added(read_AE, hidden_AD, kept.middle_MD)
            normed_AD = layer.mlp_norm(middle_AD)
            gate_AI, up_AI = layer.gate.times(normed_AD, kept.gate_MI), layer.up.times(normed_AD, kept.up_MI)
            hidden_AD = layer.down.added(F.silu(gate_AI).mul_(up_AI), middle_AD, kept.end_MD)
        self.used += 1
        return weights.head.times(weights.norm(hidden_AD))

    def keep(self, moves: Moves) -> None:
        self.bias_AH1T, self.rows_A = moves(self.bias_AH1T), moves(self.rows_A.clone())
        for at, held_ZAHTK in enumerate(self.held):
            moves(held_ZAHTK.transpose(0, 1))
            self.held[at] = held_ZAHTK[:, : moves.rows]

    def steps(self, lengths: Sequence[int]) -> Sequence[Steps | None]:
        if self.trail is None:
            return [None] * len(lengths)
        place_BT = self.fork_B.new_zeros(len(lengths), len(self.written))
        for at, (rows_A, start) in enumerate(self.written):
            place_BT[rows_A, at] = torch.arange(start, start + len(rows_A), device=rows_A.device)
        return [
            Steps(self.trail, self.trail.fill, self.prompt_places[prompt], places[: length - 1])
            for prompt, places, length in zip(self.fork_B.tolist(), place_BT, lengths, strict=True)
        ]

    def _take_places(self, count: int) -> int:
        """The first of the next places in the trail, if there is one."""
        if self.trail is None:
            return 0
        start = self.trail.take(count).start
        self.written.append((self.rows_A, start))
        return int(start)

    def _take_room(self) -> None:
        """Room for `ROOM` more positions, hidden until they are written."""
        _, rows, heads, used, width = self.held[0].shape
        shape = torch.Size((2, rows, heads, used + ROOM, width))
        for at, held_ZAHTK in enumerate(self.held):
            grown_ZAHTK = self.rooms[-1][: shape.numel()].view(shape)
            grown_ZAHTK[..., :used, :], grown_ZAHTK[..., used:, :] = held_ZAHTK, 0.0
            self.held[at] = grown_ZAHTK
            self.rooms[at], self.rooms[-1] = self.rooms[-1], self.rooms[at]
        self.bias_AH1T = F.pad(self.bias_AH1T, (0, ROOM), value=-math.inf)

    def _attend(
        self, layer: _Layer, normed_AD: Tensor, turn_A11C: Tensor, held_ZAHTK: Tensor, bias_X1T: Tensor,
        kept: States | Nowhere,
    ) -> Tensor:  # fmt: skip
        """What was read, (A, H G K)."""
        _, rows, key_heads, _, width = held_ZAHTK.shape
        all_AHSK = layer.qkv.times(normed_AD, kept.all_MX).view(rows, key_heads, -1, width)
        if layer.query_norm and layer.key_norm:
            query_AHGK, key_AHK = all_AHSK[:, :, :-2], all_AHSK[:, :, -2]
            query_AHGK.copy_(layer.query_norm(query_AHGK))
            key_AHK.copy_(layer.key_norm(key_AHK))
        pairs(all_AHSK[:, :, :-1]).mul_(turn_A11C)
        held_ZAHTK[..., self.used, :] = all_AHSK[:, :, -2:].permute(2, 0, 1, 3)
        query_XGK = all_AHSK.flatten(0, 1)[:, :-2]
        keys_XTK, values_XTK = held_ZAHTK.flatten(1, 2)
        score_XGT = torch.baddbmm(bias_X1T, query_XGK, keys_XTK.transpose(1, 2), alpha=self.weights.scaling)
        place_XGK = None if kept.read_ME is None else kept.read_ME.view(query_XGK.shape)
        return torch.bmm(torch.softmax(score_XGT, dim=-1), values_XTK, out=place_XGK).view(rows, -1)

    def _fork(self, pair_NHC: Tensor, place_PT: Tensor, fork_B: Tensor) -> Tensor:
        """Keys and values (2, B, H, T, K) of all rows."""
        heads, width = pair_NHC.shape[1], pair_NHC.shape[2] // 2
        pair_PTHZK = pair_NHC[place_PT].view(*place_PT.shape, heads, 2, width)
        return pair_PTHZK.permute(3, 0, 2, 1, 4)[:, fork_B]


class PromptsRead(NamedTuple):
    """What reading prompts gives."""

    logits_PV: Tensor  # noqa: N815  # shapes ride in names
    """Of what follows each."""
    pairs: list[Tensor]
    """Keys and values (N, H, 2 K), a layer each."""
    place_PT: Tensor  # noqa: N815
    """Where each prompt's tokens lie on the axis of N, of padded prompts."""
    first: int
    """The place in the trail where that axis begins."""

    def trail_places(self, length_P: Tensor) -> list[Tensor]:
        """Of each prompt's tokens."""
        return [
            self.first + place_T[-length:] for place_T, length in zip(self.place_PT, length_P.tolist(), strict=True)
        ]


@torch.no_grad()
def read_prompts(model: PreTrainedModel, prompts: Prompts, trail: Trail | None = None) -> PromptsRead:
    """All prompts on one row, without padding; their states into the trail, in its next places."""
    length_P = prompts.length_P
    ids_PT, count = prompts.ids_PT, int(length_P.sum())
    start_P, blocks = lay_out_prompts(length_P)
    longest = ids_PT.shape[1]
    position_PT = torch.arange(longest, device=length_P.device) - (longest - length_P)[:, None]
    place_PT = start_P[:, None] + position_PT.clamp(min=0)
    is_real_PT = position_PT >= 0
    ids_N, position_N = ids_PT.new_empty(count), ids_PT.new_empty(count)
    ids_N[place_PT[is_real_PT]] = ids_PT[is_real_PT]
    position_N[place_PT[is_real_PT]] = position_PT[is_real_PT]
    first = trail.used if trail else 0
    hidden_ND, pairs = read_row_alone(model, ids_N, position_N, blocks, trail)
    head: Any = model.get_output_embeddings()
    return PromptsRead(head(hidden_ND[start_P + length_P - 1]), pairs, place_PT, first)


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
        read = read_prompts(trial, prompts)
        decoder = Decoder(Weights(trial), read, prompts, fork_B, ids_BT.shape[1])
        whole_BTV = trial(ids_BT, attention_mask=mask_BT, position_ids=position_BT, use_cache=False).logits
        if not torch.allclose(read.logits_PV, whole_BTV[:, start - 1], atol=TOLERANCE):
            return False
        for at in range(start, ids_BT.shape[1]):
            if not torch.allclose(decoder.read(ids_BT[:, at], position_BT[:, at]), whole_BTV[:, at], atol=TOLERANCE):
                return False
    return True


def _norm(module: Any, *, interleave: bool = False) -> Callable[[Tensor], Tensor]:  # Any: untyped in transformers
    """x / sqrt(mean(x^2) + epsilon) weight, in four calls: the root is the length of (x, sqrt(D epsilon))."""
    width = len(module.weight)
    weight = interleaved(module.weight, width) if interleave else module.weight
    scaled_D = weight * math.sqrt(width)
    floor = scaled_D.new_tensor(math.sqrt(width * module.variance_epsilon))
    return lambda x: x.div(torch.linalg.vector_norm(x, dim=-1, keepdim=True).hypot_(floor)).mul_(scaled_D)
