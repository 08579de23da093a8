"""Llama and its family over a flat row, with a gradient, in few calls: what learning spends its time on.

Legend: N tokens of the row, D width, E width of all heads.

transformers spends about sixty small calls a layer on a pass and its gradient, and keeps what each of them made. Here a
layer is two (`trainer.layer`). Weights are read from the model at every pass. Whether this is the model's own
arithmetic is tried for each model (`agrees`). What sampling has computed already (`trainer.trail`) is not computed
again. Where a layer is told to keep nothing (`compute.gradient_checkpointing`), all of it is made again. Deliberately
left out: every other architecture, bfloat16 and adapters: transformers does those.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any  # Any: transformers' modules and torch's contexts are untyped

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from ponder.choices import Layout
from trainer.attention import Blocks
from trainer.block_attention import Route, attend
from trainer.family import TOLERANCE, small_like
from trainer.layer import Look, ask, attended, fed, feed, normed
from trainer.rows import lay_out
from trainer.trail import Recalled, Trail


def read_row(
    model: PreTrainedModel, ids_N: Tensor, position_N: Tensor, blocks: Blocks, recalled: Sequence[Recalled] = ()
) -> Tensor:
    """What the last layer says at every token, (N, D), before any head; the model must be one that the family knows.

    What is recalled, layer by layer, is not computed again.
    """
    body: Any = model.base_model
    hidden_ND: Tensor = body.embed_tokens(ids_N)
    look = _look(body, hidden_ND, position_N, blocks)
    for layer, known in zip(body.layers, recalled or repeat(None, len(body.layers)), strict=True):
        is_made_again = layer.training and layer.gradient_checkpointing
        hidden_ND = (
            checkpoint(_read_layer, layer, hidden_ND, look, known, use_reentrant=False)
            if is_made_again
            else _read_layer(layer, hidden_ND, look, known)
        )
    return normed(hidden_ND, *_norm_of(body.norm))


def _read_layer(layer: Any, hidden_ND: Tensor, look: Look, recalled: Recalled | None) -> Tensor:
    asking, feeding = _weights_of(layer)
    read_NE = attended(hidden_ND, look, recalled, *asking)
    return fed(hidden_ND, read_NE, recalled, *feeding)


@torch.no_grad()
def read_row_alone(
    model: PreTrainedModel, ids_N: Tensor, position_N: Tensor, blocks: Blocks, trail: Trail | None
) -> tuple[Tensor, list[Tensor]]:
    """The same (N, D), without a gradient, and each layer's keys and values (N, H, C); all states into the trail."""
    body: Any = model.base_model
    hidden_ND: Tensor = body.embed_tokens(ids_N)
    look = _look(body, hidden_ND, position_N, blocks)
    place = trail.take(len(ids_N)) if trail else None
    pairs = []
    for number, layer in enumerate(body.layers):
        asking, feeding = _weights_of(layer)
        all_NHSK, _ = ask(hidden_ND, look, *asking)
        read_NE = attend(all_NHSK, look.route, look.scaling)
        ends = []
        for part, middle_ND, gate_NI, up_NI, end_ND in feed(hidden_ND, read_NE, *feeding):
            ends.append(end_ND)
            if trail and place:
                states = (all_NHSK[part].flatten(1), read_NE[part], middle_ND, gate_NI, up_NI, end_ND)
                trail.layers[number].write(place.start + part.start, *states)
        hidden_ND = torch.cat(ends)
        pairs.append(all_NHSK[:, :, -2:].flatten(2))
    return normed(hidden_ND, *_norm_of(body.norm)), pairs


def _weights_of(layer: Any) -> tuple[list[Any], list[Any]]:
    """What `ask` and `feed` take."""
    attention, mlp = layer.self_attn, layer.mlp
    return (
        [
            *_norm_of(layer.input_layernorm), *_matrices(attention.q_proj, attention.k_proj, attention.v_proj),
            *_norms_of_heads(attention),
        ],
        [
            *_matrices(attention.o_proj), *_norm_of(layer.post_attention_layernorm),
            *_matrices(mlp.gate_proj, mlp.up_proj, mlp.down_proj),
        ],
    )  # fmt: skip


def _norm_of(module: Any) -> tuple[Tensor, float]:
    return module.weight, module.variance_epsilon


def _norms_of_heads(attention: Any) -> tuple[Tensor | None, Tensor | None]:
    if not hasattr(attention, "q_norm"):
        return None, None
    return attention.q_norm.weight, attention.k_norm.weight


def _matrices(*modules: Any) -> list[Tensor | None]:
    """Weight and bias of each."""
    return [part for module in modules for part in (module.weight, module.bias)]


def _look(body: Any, like: Tensor, position_N: Tensor, blocks: Blocks) -> Look:
    attention: Any = body.layers[0].self_attn
    width = attention.head_dim
    heads = attention.k_proj.out_features // width, attention.q_proj.out_features // width
    cos_1NK, sin_1NK = body.rotary_emb(like[None], position_N[None])
    turn_NC = torch.complex(cos_1NK[0, :, : width // 2], sin_1NK[0, :, : width // 2])
    epsilon = attention.q_norm.variance_epsilon if hasattr(attention, "q_norm") else 0.0
    return Look(turn_NC[:, None, None], Route(blocks, *heads), width, attention.scaling, epsilon)


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
