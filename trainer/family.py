"""Llama and its family: which models are built so, and a small one of a model's kind to try things on.

For these models ponder has arithmetic of its own, in fewer calls than transformers': a decode step
(`trainer.decoder`) and a pass over a flat row with its gradient (`trainer.body`). Both ask `knows` first, and both are
tried on `small_like` before they are used. Deliberately left out: that arithmetic.
"""

from __future__ import annotations

import copy
from typing import Any  # Any: transformers' own modules are untyped

import torch
from torch import nn
from transformers import PreTrainedModel

from trainer.reading import attends_to_all

FAMILY = ("llama", "mistral", "qwen2", "qwen3")
STEADY_ROTATIONS = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary positions whose angle depends on nothing but the position."""


TOLERANCE = 1e-4
"""So far apart may the arithmetic here and transformers' be, on small numbers."""


def knows(model: PreTrainedModel) -> bool:
    """Whether the model is of the family, and plain."""
    config = model.config
    if config.model_type not in FAMILY or not attends_to_all(model):
        return False
    body: Any = model.base_model
    return (
        config.hidden_act == "silu"
        and config.rope_parameters["rope_type"] in STEADY_ROTATIONS
        and 2 * len(body.rotary_emb.inv_freq) == body.layers[0].self_attn.head_dim
        and is_plain(model)
    )


def is_plain(model: PreTrainedModel) -> bool:
    """Whether the weights of a model of the family are float32, without an adapter, no matrix quantised.

    The rest of what `knows` asks never changes; this an adapter does.
    """
    body: Any = model.base_model
    head: Any = model.get_output_embeddings()
    linear = [head]
    for layer in body.layers:
        attention, mlp = layer.self_attn, layer.mlp
        linear += [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
        linear += [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    return all(type(module) is nn.Linear and module.weight.dtype is torch.float32 for module in linear)


def norms_heads(model: PreTrainedModel) -> bool:
    """Whether queries and keys are normed, a head each."""
    body: Any = model.base_model
    return hasattr(body.layers[0].self_attn, "q_norm")


def small_like(model: PreTrainedModel) -> PreTrainedModel:
    """A model of the same class, width and settings, with two layers, few words, and weights sharp enough to tell."""
    config = copy.deepcopy(model.config)
    config.num_hidden_layers, config.vocab_size, config.pad_token_id = 2, 32, None
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:2]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        small = type(model)(config)
        for weight in small.parameters():
            if weight.dim() > 1:
                weight.normal_(0.0, weight.shape[-1] ** -0.5)
            else:
                weight.uniform_(0.5, 1.5)
    small.to(model.device)  # type: ignore[arg-type]  # transformers wraps `to` in an untyped decorator
    small.eval()
    return small
