"""Attention of tokens that lie on one flat row, in blocks that say who sees whom.

Legend: N tokens of the row, R sequences of a block, T tokens of the longest, P of the longest prefix, S = P + T keys,
H heads, K head width.

All layers of a transformer but attention work on each token alone, so a flat row needs no padding and holds what
several sequences have in common once. For attention, each block gathers its sequences into a rectangle: their own
tokens as queries; as keys the prefix that stands before them (on the left, so that its end meets their beginning) and
themselves. transformers lets a model's attention be replaced by name (`AttentionInterface`), and hands it the keyword
arguments of `forward`: `blocks` comes that way. Without `blocks` it is transformers' own `sdpa`.

Deliberately left out: what is laid out (`trainer.rows`), and whether a model gets through it right (`trainer.policy`
tries it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any  # Any: transformers passes on what a model's forward was given

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "ponder"
IGNORED = {"is_causal", "position_ids", "use_cache", "output_attentions", "output_hidden_states", "return_dict"}
"""Arguments that a flat row's attention may be handed and does not need."""


@dataclass(frozen=True)
class Block:
    """Sequences of like length, each with a prefix that it continues, as places on the row."""

    query_RT: Tensor  # noqa: N815  # shapes ride in names
    """Of each token; behind a sequence's end that of its last one again."""
    key_RS: Tensor  # noqa: N815
    """Of each key; before a prefix's beginning that of its first one again."""
    query_position_RT: Tensor  # noqa: N815
    key_position_RS: Tensor  # noqa: N815
    """In its sequence, prefix included; below 0 where there is no key."""
    is_own_RT: Tensor  # noqa: N815
    """False behind a sequence's end."""
    has_prefix: bool
    _bias: dict[tuple[torch.dtype, int | None], Tensor] = field(default_factory=dict)

    def bias_R1TS(self, dtype: torch.dtype, window: int | None) -> Tensor:  # noqa: N802
        """0 where a query sees a key, -inf where not; the same for all layers, so kept."""
        if (dtype, window) not in self._bias:
            ahead_RTS = self.query_position_RT[:, :, None] - self.key_position_RS[:, None]
            sees_RTS = (ahead_RTS >= 0) & (self.key_position_RS >= 0)[:, None]
            if window is not None:
                sees_RTS &= ahead_RTS < window
            bias_RTS = torch.zeros(sees_RTS.shape, dtype=dtype, device=sees_RTS.device)
            self._bias[dtype, window] = bias_RTS.masked_fill_(~sees_RTS, -torch.inf)[:, None]
        return self._bias[dtype, window]


def make_block(start_R: Tensor, length_R: Tensor, prefix_start_R: Tensor, prefix_length_R: Tensor) -> Block:
    """The block of sequences that lie at `start_R`, each `length_R` tokens long; a prefix may be of 0 tokens."""
    token_T = torch.arange(int(length_R.max()), device=start_R.device)
    prefix_P = torch.arange(int(prefix_length_R.max()), device=start_R.device)
    own_RT = start_R[:, None] + torch.minimum(token_T, length_R[:, None] - 1)
    before_RP = prefix_P - (len(prefix_P) - prefix_length_R[:, None])
    query_position_RT = prefix_length_R[:, None] + token_T
    return Block(
        own_RT,
        torch.cat([prefix_start_R[:, None] + before_RP.clamp(min=0), own_RT], dim=1),
        query_position_RT,
        torch.cat([before_RP, query_position_RT], dim=1),
        token_T < length_R[:, None],
        has_prefix=len(prefix_P) > 0,
    )


class Blocks:
    """All that attention must know of a row: whose tokens they are, and what is gathered in one go for all blocks."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        """Together the blocks' own tokens are the row, in its order."""
        self.blocks = blocks
        self.query = torch.cat([block.query_RT.flatten() for block in blocks])
        self.key = torch.cat([block.key_RS.flatten() for block in blocks])
        self.own = torch.cat([block.is_own_RT.flatten() for block in blocks]).nonzero()[:, 0]


def attend(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    dropout: float = 0.0, scaling: float | None = None, blocks: Blocks | None = None,
    sliding_window: int | None = None, **others: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """transformers' attention of (B, H, T, K) queries, as (B, T, H, K); with `blocks`, that of a flat row, B = 1.

    Raises ValueError on an argument that it does not know and that says something.
    """
    if blocks is None:
        attended: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling,
            sliding_window=sliding_window, **others,
        )  # fmt: skip
        return attended
    strange = [name for name, told in others.items() if told is not None and name not in IGNORED]
    if dropout or strange:
        raise ValueError(f"a flat row knows no {', '.join(strange) or 'dropout'}")
    query_NHK, key_NHK, value_NHK = (states_1HNK[0].transpose(0, 1) for states_1HNK in (query, key, value))
    read_NHK = attend_in_blocks(query_NHK, key_NHK, value_NHK, blocks, scaling=scaling, window=sliding_window)
    return read_NHK[None], None


def attend_in_blocks(
    query_NHK: Tensor, key_NHK: Tensor, value_NHK: Tensor, blocks: Blocks, *, scaling: float | None = None,
    window: int | None = None,
) -> Tensor:  # fmt: skip
    """What each token of a flat row reads, (N, H, K); keys and values may be of fewer heads than queries.

    Without `scaling`, scores are over the root of K.
    """
    queries = _gather(query_NHK, blocks.query, [block.query_RT for block in blocks.blocks])
    keys, values = (
        _gather(states_NHK, blocks.key, [block.key_RS for block in blocks.blocks])
        for states_NHK in (key_NHK, value_NHK)
    )
    read = [_attend_block(*part, scaling, window) for part in zip(blocks.blocks, queries, keys, values, strict=True)]
    return torch.cat(read).index_select(0, blocks.own)


def _gather(states_NHK: Tensor, place: Tensor, shapes: Sequence[Tensor]) -> list[Tensor]:
    """The states at all these places, a block each, (R, H, T, K): gathered at once, since each go costs a gradient."""
    gathered = states_NHK.index_select(0, place)
    parts = torch.split(gathered, [places_RT.numel() for places_RT in shapes])
    return [
        part.view(*places_RT.shape, *part.shape[1:]).transpose(1, 2)
        for part, places_RT in zip(parts, shapes, strict=True)
    ]


def _attend_block(
    block: Block, query_RHTK: Tensor, key_RHSK: Tensor, value_RHSK: Tensor, scaling: float | None, window: int | None
) -> Tensor:
    """What the block's rectangle reads, (R T, H, K)."""
    is_plain = not block.has_prefix and window is None
    groups = query_RHTK.shape[1] // key_RHSK.shape[1]
    shares_keys = groups > 1 and (is_plain or query_RHTK.device.type == "cpu")  # with a bias only the CPU's kernel can
    if groups > 1 and not shares_keys:
        key_RHSK, value_RHSK = repeat_kv(key_RHSK, groups), repeat_kv(value_RHSK, groups)
    read_RHTK = scaled_dot_product_attention(
        query_RHTK, key_RHSK, value_RHSK,
        attn_mask=None if is_plain else block.bias_R1TS(query_RHTK.dtype, window),
        is_causal=is_plain, scale=scaling, enable_gqa=shares_keys,
    )  # fmt: skip
    return read_RHTK.transpose(1, 2).flatten(0, 1)


def take_over(model: PreTrainedModel) -> bool:
    """Let the model attend through `attend` where it attends through `sdpa`; whether it now does."""
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, attend)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)
    return attends_in_blocks(model)


def attends_in_blocks(model: PreTrainedModel) -> bool:
    """Whether the model's attention knows `blocks`."""
    name: str | None = model.config._attn_implementation
    return name == NAME
