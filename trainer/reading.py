"""How a batch of answers is read on: a token for every row goes in, the logits of the next one come out.

Legend: P prompts, B rows forked from them, A rows still being written, T positions, V vocabulary, H key heads, K head
width.

`ModelReader` asks any transformers model, through a cache with room for all that will be written.
`trainer.decoder` is the other reader: the same for models whose structure it knows, in fewer calls. Deliberately left
out: what is drawn from the logits, and which rows have ended (`trainer.sampler`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from trainer.precision import computing_exactly
from trainer.trail import Steps


@dataclass(frozen=True)
class Prompts:
    """Prompts of a batch, padded on the left."""

    ids_PT: Tensor  # noqa: N815  # shapes ride in names
    mask_PT: Tensor | None  # noqa: N815
    """1 on real tokens; None when all prompts are equally long, and nothing has to be hidden."""
    length_P: Tensor  # noqa: N815


@dataclass(frozen=True)
class Moves:
    """How a batch loses its finished rows: the first `rows` places stay, those among them that are free are filled."""

    rows: int
    free: Tensor
    filler: Tensor
    """Places at `rows` or behind, as many as are free."""

    def __call__(self, held_A: Tensor) -> Tensor:
        """The rows that stay of something that has a row for each answer; done in place."""
        if len(self.free):
            held_A[self.free] = held_A[self.filler]
        return held_A[: self.rows]


class Reader(Protocol):
    """What a batch asks of the model that writes it, once its prompts are read."""

    def read(self, token_A: Tensor, position_A: Tensor) -> Tensor:
        """Logits (A, V) in float32 of what follows these tokens, which stand at these positions."""

    def keep(self, moves: Moves) -> None:
        """Forget the rows that have ended."""

    def steps(self, lengths: Sequence[int]) -> Sequence[Steps | None]:
        """Where the states of each answer's tokens are kept, if they are; the answers have these lengths."""


class _RoomyLayer(DynamicLayer):
    """A cache layer that writes in place into room taken once, where `DynamicLayer` copies all of it at every token."""

    def __init__(self, capacity: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        self.capacity = capacity
        self.used = 0

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._take_room(key_states.shape[0], key_states)
        start, self.used = self.used, self.used + key_states.shape[-2]
        self.keys_BHTK[:, :, start : self.used] = key_states
        self.values_BHTK[:, :, start : self.used] = value_states
        return self.shown()

    def fork(self, rows: Tensor) -> None:
        """Make these rows the cache, in this order; a row may come several times."""
        old_keys, old_values = self.shown()
        self._take_room(len(rows), old_keys)
        torch.index_select(old_keys, 0, rows, out=self.keys_BHTK[:, :, : self.used])
        torch.index_select(old_values, 0, rows, out=self.values_BHTK[:, :, : self.used])
        self.shown()

    def _take_room(self, rows: int, like: Tensor) -> None:
        shape = (rows, like.shape[1], self.capacity, like.shape[3])
        self.keys_BHTK, self.values_BHTK = like.new_empty(shape), like.new_empty(shape)

    def keep(self, moves: Moves) -> None:
        self.keys_BHTK, self.values_BHTK = moves(self.keys_BHTK), moves(self.values_BHTK)
        self.shown()

    def shown(self) -> tuple[Tensor, Tensor]:
        """Keys and values of the positions read so far; kept as `keys` and `values`, where transformers looks."""
        keys, values = self.keys_BHTK[:, :, : self.used], self.values_BHTK[:, :, : self.used]
        self.keys, self.values = keys, values
        return keys, values

    def get_seq_length(self) -> int:
        return self.used


def attends_to_all(model: PreTrainedModel) -> bool:
    """Whether every layer sees every position: no sliding window, no state."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)


def new_cache(model: PreTrainedModel, capacity: int) -> Cache:
    """An empty cache with room for so many positions, where the model's layers allow it."""
    if not attends_to_all(model):
        return DynamicCache(config=model.config)
    return Cache(layers=[_RoomyLayer(capacity) for _ in DynamicCache(config=model.config).layers])


def read_prompts(model: PreTrainedModel, prompts: Prompts, cache: Cache, *, has_exact_head: bool = False) -> Tensor:
    """Logits (P, V) of what follows each prompt; its keys and values are in the cache."""
    mask_PT, length = prompts.mask_PT, prompts.ids_PT.shape[1]
    position_PT = torch.arange(length, device=model.device) - (length - prompts.length_P)[:, None]
    return _forward(model, prompts.ids_PT, mask_PT, position_PT.clamp(min=0), cache, has_exact_head)


class ModelReader:
    """Reads with the model's own forward pass."""

    def __init__(
        self, model: PreTrainedModel, cache: Cache, prompts: Prompts, fork_B: Tensor, *, has_exact_head: bool = False
    ) -> None:
        """`cache` has read the prompts and becomes this reader's own; `fork_B` is each row's prompt."""
        self.model, self.cache, self.has_exact_head = model, cache, has_exact_head
        self.mask_AT = None if prompts.mask_PT is None else prompts.mask_PT[fork_B]
        for layer in cache.layers:
            if isinstance(layer, _RoomyLayer):
                layer.fork(fork_B)
            else:
                layer.batch_select_indices(fork_B)  # type: ignore[union-attr]  # every growing layer has it

    def read(self, token_A: Tensor, position_A: Tensor) -> Tensor:
        if self.mask_AT is not None:
            self.mask_AT = torch.cat([self.mask_AT, self.mask_AT.new_ones(len(token_A), 1)], dim=1)
        return _forward(
            self.model, token_A[:, None], self.mask_AT, position_A[:, None], self.cache, self.has_exact_head
        )

    def keep(self, moves: Moves) -> None:
        if self.mask_AT is not None:
            self.mask_AT = moves(self.mask_AT)
        order_A = torch.arange(moves.rows, device=moves.free.device)
        order_A[moves.free] = moves.filler
        for layer in self.cache.layers:
            if isinstance(layer, _RoomyLayer):
                layer.keep(moves)
            else:
                layer.batch_select_indices(order_A)  # type: ignore[union-attr]  # every growing layer has it

    def steps(self, lengths: Sequence[int]) -> Sequence[None]:
        return [None] * len(lengths)


def _forward(
    model: PreTrainedModel, ids_BT: Tensor, mask_BT: Tensor | None, position_BT: Tensor, cache: Cache,
    has_exact_head: bool,
) -> Tensor:  # fmt: skip
    inputs = {
        "input_ids": ids_BT,
        "attention_mask": mask_BT,
        "position_ids": position_BT,
        "past_key_values": cache,
        "use_cache": True,
    }
    if has_exact_head:
        hidden_BTD: Tensor = model.base_model(**inputs).last_hidden_state
        with computing_exactly(model.device):
            logits_BV: Tensor = model.get_output_embeddings()(hidden_BTD[:, -1].float())
        return logits_BV
    logits_BTV: Tensor = model(**inputs, logits_to_keep=1).logits
    return logits_BTV[:, -1].float()
