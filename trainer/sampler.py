"""The generator: draws a group of answers to each prompt, and says how probable each token was.

Legend: P prompts, G answers a prompt, B = P G rows, A rows still being written, T positions, V vocabulary,
H key heads, K head width.

`LocalSampler` reads each prompt once, forks its key-value cache to the group, and drops rows as they finish.
Log-probs and entropies come from the very distribution that the token was drawn from: logits over temperature,
nothing cut off (top-k or top-p would make what samples and what learns two policies). Deliberately left out: text
(the loop decodes), rewards, and every engine that is not in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from ponder.events import Finish
from trainer.policy import Policy
from trainer.precision import computing, computing_exactly

COMPACT_BELOW = 0.85
"""Finished rows are dropped from the batch once fewer than this share of its rows is alive."""


@dataclass(frozen=True)
class Sampled:
    """One answer as drawn. The end token, where there is one, is its last."""

    ids: list[int]
    logps: list[float]
    """Log-probability of each token under the policy that drew it, in nats."""
    entropies: list[float]
    """Entropy in nats of the distribution that each token was drawn from."""
    finish: Finish


TokenListener = Callable[[Tensor, Tensor, Tensor], None]
"""(rows, tokens, whether each row is done) after a decode step, of the rows that were being written; rows are prompt *
G + index. The tensors are the listener's to keep: it looks at many steps at once, since each look takes time."""


class Sampler(Protocol):
    """What the loop asks of a generator."""

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        group_size: int,
        max_new_tokens: int,
        temperature: float,
        generator: torch.Generator,
        listener: TokenListener | None = None,
    ) -> list[Sampled]:
        """`group_size` answers to each prompt, in the order of the prompts; all randomness from `generator`."""


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

    def choose(self, rows: Tensor) -> None:
        """Keep these rows, in this order; a row may come several times."""
        old_keys, old_values = self.shown()
        self._take_room(len(rows), old_keys)
        torch.index_select(old_keys, 0, rows, out=self.keys_BHTK[:, :, : self.used])
        torch.index_select(old_values, 0, rows, out=self.values_BHTK[:, :, : self.used])
        self.shown()

    def _take_room(self, rows: int, like: Tensor) -> None:
        shape = (rows, like.shape[1], self.capacity, like.shape[3])
        self.keys_BHTK, self.values_BHTK = like.new_empty(shape), like.new_empty(shape)

    def shown(self) -> tuple[Tensor, Tensor]:
        """Keys and values of the positions read so far; kept as `keys` and `values`, where transformers looks."""
        keys, values = self.keys_BHTK[:, :, : self.used], self.values_BHTK[:, :, : self.used]
        self.keys, self.values = keys, values
        return keys, values

    def get_seq_length(self) -> int:
        return self.used


class LocalSampler:
    """Samples a transformers model in this process."""

    def __init__(
        self, model: PreTrainedModel, *, end_ids: Sequence[int], pad_id: int, dtype: torch.dtype = torch.float32,
        has_plain_head: bool = False,
    ) -> None:  # fmt: skip
        """`dtype` is what the model computes in; with `has_plain_head` its logits are float32 all the same."""
        self.model = model
        self.dtype = dtype
        self.has_exact_head = has_plain_head and dtype is not torch.float32
        self.pad_id = pad_id
        self.end_ids = torch.tensor(end_ids, device=model.device)
        layers = DynamicCache(config=model.config).layers
        self._attends_to_all = all(type(layer) is DynamicLayer for layer in layers)
        self._layers = len(layers)

    @torch.inference_mode()
    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        group_size: int,
        max_new_tokens: int,
        temperature: float,
        generator: torch.Generator,
        listener: TokenListener | None = None,
    ) -> list[Sampled]:
        was_training = self.model.training
        self.model.eval()
        try:
            with computing(self.model.device, self.dtype):  # around all, since it keeps the weights that it rounded
                batch = _Batch(self, prompts, group_size, max_new_tokens, temperature, generator)
                while batch.is_writing:
                    told = batch.step()
                    if listener:
                        listener(*told)
                return batch.answers()
        finally:
            self.model.train(was_training)

    def new_cache(self, capacity: int) -> Cache:
        if not self._attends_to_all:
            return DynamicCache(config=self.model.config)
        return Cache(layers=[_RoomyLayer(capacity) for _ in range(self._layers)])


class _Batch:
    """The answers of one call while they are being written."""

    def __init__(
        self, sampler: LocalSampler, prompts: Sequence[Sequence[int]], group_size: int, max_new_tokens: int,
        temperature: float, generator: torch.Generator,
    ) -> None:  # fmt: skip
        self.sampler, self.temperature, self.generator = sampler, temperature, generator
        device = sampler.model.device
        longest = max(len(prompt) for prompt in prompts)
        self.is_padded = any(len(prompt) != longest for prompt in prompts)
        ids_PT = torch.tensor(
            [[sampler.pad_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=device
        )
        mask_PT = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
        self.cache = sampler.new_cache(longest + max_new_tokens)
        logits_PV = self._forward(ids_PT, mask_PT, (mask_PT.cumsum(-1) - 1).clamp(min=0))
        rows = len(prompts) * group_size
        self.fork_B = torch.arange(len(prompts), device=device).repeat_interleave(group_size)
        self._choose(self.fork_B)
        self.logits_AV = logits_PV[self.fork_B]
        self.mask_AT = mask_PT[self.fork_B]
        self.position_A = mask_PT.sum(-1)[self.fork_B]
        self.rows_A = torch.arange(rows, device=device)
        self.is_alive_A = torch.ones(rows, dtype=torch.bool, device=device)
        self.written = 0
        self.ids_BT = torch.full((rows, max_new_tokens), sampler.pad_id, device=device)
        self.logp_BT = torch.zeros(rows, max_new_tokens, device=device)
        self.entropy_BT = torch.zeros(rows, max_new_tokens, device=device)
        self.length_B = torch.full((rows,), max_new_tokens, device=device)
        self.has_ended_B = torch.zeros(rows, dtype=torch.bool, device=device)

    @property
    def is_writing(self) -> bool:
        return self.written < self.ids_BT.shape[1] and len(self.rows_A) > 0

    def step(self) -> tuple[Tensor, Tensor, Tensor]:
        """Draw one token for every row of the batch; (rows, tokens, ended) of those that were alive."""
        token_A, logp_A, entropy_A = draw(self.logits_AV, self.temperature, self.generator)
        rows_A, at = self.rows_A, self.written
        self.ids_BT[rows_A, at] = token_A
        self.logp_BT[rows_A, at] = logp_A
        self.entropy_BT[rows_A, at] = entropy_A
        self.written += 1
        ended_A = self.is_alive_A & torch.isin(token_A, self.sampler.end_ids)
        self.length_B[rows_A[ended_A]] = self.written
        self.has_ended_B[rows_A[ended_A]] = True
        was_alive_A, self.is_alive_A = self.is_alive_A, self.is_alive_A & ~ended_A
        told = rows_A[was_alive_A], token_A[was_alive_A], ended_A[was_alive_A]
        alive = int(self.is_alive_A.sum())
        if alive < COMPACT_BELOW * len(rows_A) or alive == 0:
            token_A = self._drop_finished(token_A)
        if self.is_writing:
            self._read(token_A)
        return told

    def answers(self) -> list[Sampled]:
        lengths, ended = self.length_B.tolist(), self.has_ended_B.tolist()
        ids, logps, entropies = self.ids_BT.tolist(), self.logp_BT.tolist(), self.entropy_BT.tolist()
        return [
            Sampled(
                ids[row][:length], logps[row][:length], entropies[row][:length],
                Finish.END if ended[row] else Finish.TRUNCATED,
            )
            for row, length in enumerate(lengths)
        ]  # fmt: skip

    def _drop_finished(self, token_A: Tensor) -> Tensor:
        keep_A = self.is_alive_A.nonzero()[:, 0]
        self.rows_A, self.position_A = self.rows_A[keep_A], self.position_A[keep_A]
        self.mask_AT, self.is_alive_A = self.mask_AT[keep_A], self.is_alive_A[keep_A]
        if len(keep_A):
            self._choose(keep_A)
        return token_A[keep_A]

    def _choose(self, rows: Tensor) -> None:
        for layer in self.cache.layers:
            if isinstance(layer, _RoomyLayer):
                layer.choose(rows)
            else:
                layer.batch_select_indices(rows)  # type: ignore[union-attr]  # every growing layer has it

    def _read(self, token_A: Tensor) -> None:
        """Feed the drawn tokens to the model; its next logits are kept."""
        if self.is_padded:
            self.mask_AT = torch.cat([self.mask_AT, self.mask_AT.new_ones(len(token_A), 1)], dim=1)
        self.logits_AV = self._forward(token_A[:, None], self.mask_AT, self.position_A[:, None])
        self.position_A = self.position_A + 1

    def _forward(self, ids_BT: Tensor, mask_BT: Tensor, position_BT: Tensor) -> Tensor:
        inputs = {
            "input_ids": ids_BT,
            "attention_mask": mask_BT if self.is_padded else None,
            "position_ids": position_BT,
            "past_key_values": self.cache,
            "use_cache": True,
        }
        model = self.sampler.model
        if self.sampler.has_exact_head:
            hidden_BTD: Tensor = model.base_model(**inputs).last_hidden_state
            with computing_exactly(model.device):
                logits_BV: Tensor = model.get_output_embeddings()(hidden_BTD[:, -1].float())
            return logits_BV
        logits_BTV: Tensor = model(**inputs, logits_to_keep=1).logits
        return logits_BTV[:, -1].float()


def draw(logits_AV: Tensor, temperature: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A token from softmax(logits / temperature) for each row, with its log-probability and the entropy, in nats.

    argmax(p / q) with q drawn from Exp(1) is a draw from p: the exponential race, the Gumbel-max trick without
    logarithms.
    """
    logp_AV = torch.log_softmax(logits_AV / temperature, dim=-1)
    p_AV = logp_AV.exp()
    noise_AV = torch.empty_like(p_AV).exponential_(1.0, generator=generator)
    token_A = (p_AV / noise_AV).argmax(-1)
    logp_A = logp_AV.gather(1, token_A[:, None])[:, 0]
    entropy_A = -(p_AV * logp_AV.clamp(min=torch.finfo(logp_AV.dtype).min)).sum(-1)
    return token_A, logp_A, entropy_A


def sampler_of(policy: Policy) -> LocalSampler:
    """What samples the policy as it is learnt: the same arithmetic, the same end tokens."""
    return LocalSampler(
        policy.model, end_ids=policy.end_ids, pad_id=policy.pad_id, dtype=policy.dtype,
        has_plain_head=policy.has_plain_head,
    )  # fmt: skip
