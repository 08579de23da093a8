"""Attention of a flat row in pieces that stay in a processor's cache, with a gradient of its own.

Legend: N tokens of the row, H key heads, G query heads to each, Z = G + 2 with its key and its value, K head width,
C = 2 K, a key and its value; R sequences of a block (`trainer.attention`), T queries and S keys of a piece, X = R H.

A piece is a few sequences of a block and a span of their tokens as queries; its keys end where the span does, so that
about half of what comes later is never computed. Scores of a piece live for a moment, forward and backward:

    p = softmax(q k^T / sqrt(K) + mask)        o = p v
    dv = p^T do      ds = p (do v^T - sum(do v^T p))      dq = ds k / sqrt(K)      dk = ds^T q / sqrt(K)

On a CPU that is half of the time of torch's own kernel, for short sequences and for long ones. Deliberately left out:
windows, and positions: queries and keys come turned.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.attention import Block, Blocks

QUERIES = 48
"""Tokens of a piece's span, at most."""
SCORES = 1 << 17
"""Of a piece, at most, where it has more than one sequence: half a megabyte."""


@dataclass(frozen=True)
class _Piece:
    block: Block
    first_key: int
    """Where the block's keys begin among all that are gathered."""
    rows: slice
    """Of the block's sequences."""
    span: slice
    """Of their tokens."""

    @property
    def keys(self) -> int:
        """As many as the last query sees."""
        block, end = self.block, int(self.span.stop)
        return block.key_RS.shape[1] - block.query_RT.shape[1] + end

    def bias_R1T1S(self, dtype: torch.dtype) -> Tensor:  # noqa: N802  # shapes ride in names
        return self.block.bias_R1TS(dtype, None)[self.rows, :, self.span, None, : self.keys]


class Route:
    """Which states meet in each piece, for a row with so many heads. States are rows of a token and a key head."""

    def __init__(self, blocks: Blocks, key_heads: int, query_heads: int) -> None:
        self.key_heads, self.groups = key_heads, query_heads // key_heads
        self.pieces = list(self._cut(blocks))
        device = blocks.query.device
        self._heads = torch.arange(key_heads, device=device)[:, None]
        self.query = torch.cat([self._states(p.block.query_RT[p.rows, p.span]) for p in self.pieces])
        self.key = torch.cat([self._states(block.key_RS) for block in blocks.blocks])
        is_query = torch.cat([self._each(p.block.is_own_RT[p.rows, p.span]) for p in self.pieces])
        is_key, is_prefix = (
            torch.cat([self._each(part) for part in parts])
            for parts in zip(*(_own_and_prefix(block) for block in blocks.blocks), strict=True)
        )
        self.padding = (~is_query).nonzero()[:, 0]
        """Gathered queries that stand behind a sequence's end."""
        self.query_home, self.key_home = _homes(self.query, is_query), _homes(self.key, is_key)
        """Where each state is found among what is gathered."""
        self.prefix = is_prefix.nonzero()[:, 0]
        """Gathered keys that others have, too."""
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    def _cut(self, blocks: Blocks) -> Iterator[_Piece]:
        first_key = 0
        for block in blocks.blocks:
            rows, tokens = block.query_RT.shape
            spans = math.ceil(tokens / QUERIES)
            width = math.ceil(tokens / spans)
            largest = self.key_heads * self.groups * width * block.key_RS.shape[1]
            at_once = max(1, SCORES // largest) if block.query_RT.device.type == "cpu" else rows
            for row in range(0, rows, at_once):
                for start in range(0, tokens, width):
                    part = slice(row, min(row + at_once, rows)), slice(start, min(start + width, tokens))
                    yield _Piece(block, first_key, *part)
            first_key += block.key_RS.numel() * self.key_heads

    def _states(self, place_RT: Tensor) -> Tensor:
        """Rows of these tokens, a head after the other."""
        return (place_RT[:, None] * self.key_heads + self._heads).flatten()

    def _each(self, is_RT: Tensor) -> Tensor:
        """For each head."""
        return is_RT[:, None].expand(-1, self.key_heads, -1).flatten()

    def gather(self, all_MHZK: Tensor, place_N: Tensor | None) -> tuple[Tensor, Tensor]:
        """Queries, and keys with values, of all pieces; the tokens of the row lie at these places, or in its order."""
        flat = all_MHZK.flatten(0, 1)
        query, key = (self.query, self.key) if place_N is None else self._placed(place_N)
        asked, pairs = flat[:, : self.groups].flatten(1), flat[:, self.groups :].flatten(1)
        return asked.index_select(0, query), pairs.index_select(0, key)

    def _placed(self, place_N: Tensor) -> tuple[Tensor, Tensor]:
        """`query` and `key` among states whose tokens lie there; all layers ask for the same."""
        if self._last is None or self._last[0] is not place_N:
            heads = self.key_heads
            query, key = (place_N[index // heads] * heads + index % heads for index in (self.query, self.key))
            self._last = place_N, query, key
        return self._last[1:]

    def met(self, query: Tensor, pair: Tensor) -> Iterator[tuple[_Piece, slice, Tensor, Tensor]]:
        """Each piece, where its queries lie, they themselves (X, T G, K), and its keys with values (X, S, C)."""
        start, heads = 0, self.key_heads
        for piece in self.pieces:
            count, span = piece.rows.stop - piece.rows.start, piece.span.stop - piece.span.start
            place = slice(start, start + count * heads * span)
            start = place.stop
            yield (
                piece, place, query[place].view(count * heads, span * self.groups, -1), self.keys_of(piece, pair),
            )  # fmt: skip

    def keys_of(self, piece: _Piece, pair: Tensor) -> Tensor:
        """The piece's (X, S, C) among what is gathered of keys and values, or of their gradients."""
        rows, size = piece.block.key_RS.shape
        heads = self.key_heads
        of_block = pair[piece.first_key : piece.first_key + rows * size * heads].view(rows * heads, size, -1)
        return of_block[piece.rows.start * heads : piece.rows.stop * heads, : piece.keys]

    def probabilities(self, piece: _Piece, query_XTK: Tensor, key_XSK: Tensor, scaling: float) -> Tensor:
        """(X, T G, S)"""
        score_XTS = torch.bmm(query_XTK, key_XSK.transpose(1, 2))
        by_row = score_XTS.view(-1, self.key_heads, score_XTS.shape[1] // self.groups, self.groups, piece.keys)
        torch.add(piece.bias_R1T1S(score_XTS.dtype), by_row, alpha=scaling, out=by_row)
        return torch.softmax(score_XTS, dim=-1)


def attend(all_NHZK: Tensor, route: Route, scaling: float) -> Tensor:
    """What each token reads, (N, H G K), given the queries of each key head, itself and its value."""
    query, pair = route.gather(all_NHZK, None)
    width = query.shape[1] // route.groups
    read = []
    for piece, _, query_XTK, pair_XSC in route.met(query, pair):
        chance_XTS = route.probabilities(piece, query_XTK, pair_XSC[..., :width], scaling)
        read.append(torch.bmm(chance_XTS, pair_XSC[..., width:]).view(-1, query.shape[1]))
    return torch.cat(read).index_select(0, route.query_home).view(len(all_NHZK), -1)


def attend_back(
    gradient_ND: Tensor, all_MHZK: Tensor, place_N: Tensor | None, route: Route, scaling: float
) -> tuple[Tensor, Tensor]:
    """The gradients of queries (N, H, G, K), and of keys with values (N, H, C), from that of what `attend` gives.

    With `place_N` what it was given lies at these places.
    """
    query, pair = route.gather(all_MHZK, place_N)
    width = query.shape[1] // route.groups
    flat = gradient_ND.view(-1, query.shape[1])
    gradient = flat.index_select(0, route.query).index_fill_(0, route.padding, 0.0)
    of_query, of_pair = [], torch.zeros_like(pair)
    for piece, place, query_XTK, pair_XSC in route.met(query, pair):
        key_XSK, value_XSK = pair_XSC[..., :width], pair_XSC[..., width:]
        of_read_XTK = gradient[place].view_as(query_XTK)
        chance_XTS = route.probabilities(piece, query_XTK, key_XSK, scaling)
        of_chance_XTS = torch.bmm(of_read_XTK, value_XSK.transpose(1, 2))
        of_score_XTS = torch.ops.aten._softmax_backward_data(of_chance_XTS, chance_XTS, -1, chance_XTS.dtype)
        of_query.append(torch.bmm(of_score_XTS, key_XSK).view(-1, query.shape[1]))
        of_pair_XSC = route.keys_of(piece, of_pair)
        of_pair_XSC[..., :width].add_(torch.bmm(of_score_XTS.transpose(1, 2), query_XTK), alpha=scaling)
        of_pair_XSC[..., width:].add_(torch.bmm(chance_XTS.transpose(1, 2), of_read_XTK))
    own = of_pair.index_select(0, route.key_home)
    own.index_add_(0, route.key[route.prefix], of_pair.index_select(0, route.prefix))
    whole = torch.cat(of_query).mul_(scaling).index_select(0, route.query_home)
    tokens, heads = len(gradient_ND), route.key_heads
    return whole.view(tokens, heads, route.groups, width), own.view(tokens, heads, 2 * width)


def _own_and_prefix(block: Block) -> tuple[Tensor, Tensor]:
    """Which of the block's keys (R, S) are its sequences' own, and which a prefix's."""
    before = block.key_RS.shape[1] - block.query_RT.shape[1]
    is_own_RS = torch.nn.functional.pad(block.is_own_RT, (before, 0))
    is_prefix_RS = block.key_position_RS >= 0
    is_prefix_RS[:, before:] = False
    return is_own_RS, is_prefix_RS


def _homes(states: Tensor, is_own: Tensor) -> Tensor:
    places = is_own.nonzero()[:, 0]
    return torch.empty_like(places).index_copy_(0, states[places], places)
