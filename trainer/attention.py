"""Attention of tokens that lie on one flat row, in blocks that say who sees whom.

Legend: N tokens of the row, R sequences of a block, T tokens of the longest, P of the longest prefix, S = P + T keys,
H heads, H' key heads, K head width.

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
    """Sequences of the row that stand one behind the other, each with a prefix that it continues."""

    first: int
    """Of their tokens, the first on the row."""
    query_RT: Tensor  # noqa: N815  # shapes ride in names
    """Place of each token, counted from `first`; behind a sequence's end its last one again."""
    key_RS: Tensor  # noqa: N815
    """Place on the row of each key; before a prefix's beginning its first one again."""
    query_position_RT: Tensor  # noqa: N815
    key_position_RS: Tensor  # noqa: N815
    """In its sequence, prefix included; below 0 where there is no key."""
    own_M: Tensor  # noqa: N815
    """On the flattened R T axis, the tokens themselves without what fills the rectangle."""
    has_prefix: bool
    is_full: bool
    """Whether all sequences are equally long."""
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


def make_block(first: int, start_R: Tensor, length_R: Tensor, prefix_start_R: Tensor, prefix_length_R: Tensor) -> Block:
    """The block of sequences that lie one behind the other from `first` on, at `start_R`, each `length_R` tokens long.

    At least one is longer than 0 and the last one is the longest. A prefix may be of 0 tokens.
    """
    tokens_T = torch.arange(int(length_R.max()), device=start_R.device)
    prefix_P = torch.arange(int(prefix_length_R.max()), device=start_R.device)
    own_RT = torch.minimum(tokens_T, (length_R[:, None] - 1).clamp(min=0))
    before_RP = prefix_P - (len(prefix_P) - prefix_length_R[:, None])
    query_position_RT = prefix_length_R[:, None] + tokens_T
    return Block(
        first,
        start_R[:, None] - first + own_RT,
        torch.cat([prefix_start_R[:, None] + before_RP.clamp(min=0), start_R[:, None] + own_RT], dim=1),
        query_position_RT,
        torch.cat([before_RP, query_position_RT], dim=1),
        (tokens_T < length_R[:, None]).flatten().nonzero()[:, 0],
        has_prefix=len(prefix_P) > 0,
        is_full=bool(length_R.min() == length_R.max()),
    )


def attend(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    dropout: float = 0.0, scaling: float | None = None, blocks: Sequence[Block] = (),
    sliding_window: int | None = None, **others: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """transformers' attention of (B, H, T, K) queries, as (B, T, H, K); with `blocks`, that of a flat row, B = 1.

    Raises ValueError on an argument that it does not know and that says something.
    """
    if not blocks:
        attended: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling,
            sliding_window=sliding_window, **others,
        )  # fmt: skip
        return attended
    strange = [name for name, told in others.items() if told is not None and name not in IGNORED]
    if dropout or strange:
        raise ValueError(f"a flat row knows no {', '.join(strange) or 'dropout'}")
    query_NHK, key_NHK, value_NHK = (states[0].transpose(0, 1) for states in (query, key, value))
    read_NHK = [_attend_block(block, query_NHK, key_NHK, value_NHK, scaling, sliding_window) for block in blocks]
    return torch.cat(read_NHK)[None], None


def _attend_block(
    block: Block, query_NHK: Tensor, key_NHK: Tensor, value_NHK: Tensor, scaling: float | None, window: int | None
) -> Tensor:
    """What the block's own tokens read, in their order on the row."""
    rows, tokens = block.query_RT.shape
    own_NHK = query_NHK[block.first : block.first + len(block.own_M)]
    query_RHTK = (
        own_NHK.view(rows, tokens, *own_NHK.shape[1:]).transpose(1, 2)
        if block.is_full
        else _gather(own_NHK, block.query_RT)
    )
    key_RHSK, value_RHSK = _gather(key_NHK, block.key_RS), _gather(value_NHK, block.key_RS)
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
    read_MHK = read_RHTK.transpose(1, 2).reshape(rows * tokens, *query_NHK.shape[1:])
    return read_MHK if block.is_full else read_MHK.index_select(0, block.own_M)


def _gather(states_NHK: Tensor, place_RT: Tensor) -> Tensor:
    """(R, H, T, K) of the states at these places."""
    flat = states_NHK.index_select(0, place_RT.flatten())
    return flat.view(*place_RT.shape, *states_NHK.shape[1:]).transpose(1, 2)


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
