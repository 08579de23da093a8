"""The generator: draws a group of answers to each prompt, and says how probable each token was.

Legend: P prompts, G answers a prompt, B = P G rows, A rows still being written, T positions, V vocabulary,
H key heads, K head width, or alternatives kept.

`LocalSampler` reads each prompt once, forks its key-value cache to the group, and drops rows as they finish.
Log-probs and entropies come from the very distribution that the token was drawn from: logits over temperature,
nothing cut off (top-k or top-p would make what samples and what learns two policies). Where a world answers
(`trainer.world`), its tokens are read in place of drawn ones. Deliberately left out: text (the loop decodes), rewards,
and every engine that is not in this process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import compress
from typing import NamedTuple, Protocol, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812  # as everybody calls it
from torch import Tensor
from transformers import PreTrainedModel

from ponder.events import Finish
from trainer import decoder
from trainer.decoder import Decoder, Weights, agrees
from trainer.family import knows
from trainer.policy import Policy
from trainer.precision import computing
from trainer.reading import ModelReader, Moves, Prompts, Reader, new_cache, read_prompts
from trainer.trail import Steps, Trail
from trainer.world import Queues, World

T = TypeVar("T")
COMPACT_BELOW = 0.95
"""Finished rows are dropped from the batch once fewer than this share of its rows is alive."""
ROWS_AT_ONCE = 256
"""Rows that are written side by side; more do not make a row cheaper."""
BLOCK = 128
"""Tokens whose weights are summed first when one of the vocabulary is looked for."""
BELOW_ONE = 1 - 2**-50


@dataclass(frozen=True)
class Sampled:
    """One answer as drawn. The end token, where there is one, is its last."""

    ids: list[int]
    logps: list[float]
    """Log-probability of each token under the policy that drew it, in nats."""
    entropies: list[float]
    """Entropy in nats of the distribution that each token was drawn from."""
    finish: Finish
    alternative_ids: list[list[int]] = field(default_factory=list)
    """The most probable tokens at each place, where they were asked for."""
    alternative_logps: list[list[float]] = field(default_factory=list)
    steps: Steps | None = field(default=None, compare=False, repr=False)
    """Where the states of its tokens are kept, if they are."""
    own: list[bool] | None = None
    """Which tokens the policy drew, where a world said the others; None where it drew them all."""
    version: int | None = field(default=None, compare=False)
    """Updates before the policy that drew it; None: the present one."""
    by: str = field(default="", compare=False)
    """Who drew it elsewhere; empty: this process."""

    @property
    def drawn(self) -> int:
        """How many tokens the policy drew."""
        return len(self.ids) if self.own is None else sum(self.own)

    def of_own(self, values: Sequence[T]) -> list[T]:
        """Of one value a token, those of the tokens that it drew."""
        return list(values) if self.own is None else list(compress(values, self.own))


TokenListener = Callable[[Tensor, Tensor, Tensor, Tensor], None]
"""(rows, tokens, whether each row is done, whether it was being written at all) after a decode step; rows are prompt *
G + index. The tensors are the listener's to keep: it looks at many steps at once, since each look takes time."""


def tell_whole(
    listener: TokenListener, row: int, ids: Sequence[int], end_ids: Sequence[int], device: torch.device | None = None
) -> None:  # fmt: skip
    """Tell a whole answer at once, on the device where others are told."""
    token_A = torch.tensor(ids, device=device)
    ended_A = torch.zeros(len(ids), dtype=torch.bool, device=device)
    ended_A[-1] = ids[-1] in end_ids
    listener(torch.full_like(token_A, row), token_A, ended_A, torch.ones_like(ended_A))


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
        alternatives: int = 0,
        trail: Trail | None = None,
        world: World | None = None,
    ) -> list[Sampled]:
        """`group_size` answers to each prompt, in the order of the prompts; all randomness from `generator`.

        The states of all tokens go into the trail, where it has room for them. A `world` answers what is drawn; its
        tokens count in `max_new_tokens`.
        """


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

    @cached_property
    def _is_decodable(self) -> bool:
        return agrees(self.model)

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        group_size: int,
        max_new_tokens: int,
        temperature: float,
        generator: torch.Generator,
        listener: TokenListener | None = None,
        alternatives: int = 0,
        trail: Trail | None = None,
        world: World | None = None,
        share: slice | None = None,
    ) -> list[Sampled]:
        """As any sampler; only a `share` of the prompts, where one is given, as those are answered when all are."""
        chance_TB = self.chances(len(prompts) * group_size, max_new_tokens, generator)
        if share is not None:
            prompts, chance_TB = prompts[share], chance_TB[:, share.start * group_size : share.stop * group_size]
        return self.answer(
            prompts, chance_TB, temperature=temperature, listener=listener, alternatives=alternatives, trail=trail,
            world=world,
        )  # fmt: skip

    def chances(self, rows: int, max_new_tokens: int, generator: torch.Generator) -> Tensor:
        """What so many answers are drawn by, (T, B)."""
        return torch.rand(max_new_tokens, rows, generator=generator, device=self.model.device, dtype=torch.float64)

    @torch.inference_mode()
    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        chance_TB: Tensor,
        *,
        temperature: float,
        listener: TokenListener | None = None,
        alternatives: int = 0,
        trail: Trail | None = None,
        world: World | None = None,
    ) -> list[Sampled]:
        """The answers that these chances draw, as many to each prompt."""
        if not prompts:
            return []
        device, max_new_tokens, group_size = self.model.device, len(chance_TB), chance_TB.shape[1] // len(prompts)
        answers: list[Sampled] = []
        with evaluating(self.model), computing(device, self.dtype):  # around all: it keeps the weights that it rounded
            weights = self._weights()
            longest = sum(map(len, prompts)) + len(prompts) * group_size * max_new_tokens
            if trail and (weights is None or not trail.make_room(longest)):
                trail = None
            for start, end in waves(len(prompts), group_size):
                rows = slice(start * group_size, end * group_size)
                prompts_read = self._pad(prompts[start:end])
                fork_B = torch.arange(end - start, device=device).repeat_interleave(group_size)
                logits_PV, reader = self._read(prompts_read, fork_B, max_new_tokens, weights, trail)
                batch = _Batch(
                    reader,
                    logits_PV[fork_B],
                    prompts_read.length_P[fork_B],
                    chance_TB[:, rows],
                    temperature,
                    self.end_ids,
                    alternatives,
                    Queues(world, rows.start) if world else None,
                )
                while batch.is_writing:
                    told = batch.step()
                    if listener:
                        rows_A = told.rows_A + rows.start if rows.start else told.rows_A
                        listener(rows_A, told.token_A, told.ended_A, told.was_alive_A)
                answers += batch.answers()
        return answers

    def _weights(self) -> Weights | None:
        """For the decoder, where it can take the model; read anew for each call, since they may have learnt."""
        can_decode = self.dtype is torch.float32 and knows(self.model) and self._is_decodable
        return Weights(self.model) if can_decode else None

    def _pad(self, prompts: Sequence[Sequence[int]]) -> Prompts:
        device = self.model.device
        lengths = [len(prompt) for prompt in prompts]
        longest = max(lengths)
        padded = [[self.pad_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        mask = [[0] * (longest - length) + [1] * length for length in lengths]
        return Prompts(
            torch.tensor(padded, device=device),
            torch.tensor(mask, device=device) if min(lengths) < longest else None,
            torch.tensor(lengths, device=device),
        )

    def _read(
        self, prompts: Prompts, fork_B: Tensor, max_new_tokens: int, weights: Weights | None, trail: Trail | None
    ) -> tuple[Tensor, Reader]:
        """The logits (P, V) after each prompt, and who reads on."""
        capacity = prompts.ids_PT.shape[1] + max_new_tokens
        if weights:
            read = decoder.read_prompts(self.model, prompts, trail)
            return read.logits_PV, Decoder(weights, read, prompts, fork_B, capacity, trail)
        cache = new_cache(self.model, capacity)
        logits_PV = read_prompts(self.model, prompts, cache, has_exact_head=self.has_exact_head)
        return logits_PV, ModelReader(self.model, cache, prompts, fork_B, has_exact_head=self.has_exact_head)


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Inside, the model is in evaluation mode."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def waves(prompts: int, group_size: int) -> list[tuple[int, int]]:
    """Where to cut the prompts into batches of about equal size, none above `ROWS_AT_ONCE` rows if it can be helped.

    >>> waves(32, 8), waves(5, 64), waves(1, 1000)
    ([(0, 32)], [(0, 3), (3, 5)], [(0, 1)])
    """
    most = max(1, ROWS_AT_ONCE // group_size)
    size = math.ceil(prompts / math.ceil(prompts / most))
    return [(start, min(start + size, prompts)) for start in range(0, prompts, size)]


class Told(NamedTuple):
    """What one step has drawn."""

    rows_A: Tensor  # noqa: N815  # shapes ride in names
    token_A: Tensor  # noqa: N815
    ended_A: Tensor  # noqa: N815
    was_alive_A: Tensor  # noqa: N815
    """False where the answer had ended before, and the row is still dragged along."""


class _Batch:
    """The answers of one wave while they are being written."""

    def __init__(
        self, reader: Reader, logits_BV: Tensor, length_B: Tensor, chance_TB: Tensor, temperature: float,
        end_ids: Tensor, alternatives: int, queues: Queues | None = None,
    ) -> None:  # fmt: skip
        """`length_B` is each row's prompt; `chance_TB` is what its tokens are drawn by."""
        self.queues = queues
        self.alternatives = min(alternatives, logits_BV.shape[-1])
        self.reader, self.chance_TB, self.temperature, self.end_ids = reader, chance_TB, temperature, end_ids
        self.logits_AV, self.position_A = logits_BV, length_B
        self.rows_A = torch.arange(len(length_B), device=logits_BV.device)
        self.is_alive_A = torch.ones_like(self.rows_A, dtype=torch.bool)
        self.length_B = torch.full_like(self.rows_A, len(chance_TB))
        self.has_ended_B = torch.zeros_like(self.rows_A, dtype=torch.bool)
        self.alive = len(self.rows_A)
        self.written: list[tuple[Tensor, ...]] = []

    @property
    def is_writing(self) -> bool:
        return len(self.written) < len(self.chance_TB) and self.alive > 0

    def step(self) -> Told:
        """Draw one token for every row of the batch; rows that had ended before are told too."""
        rows_A, was_alive_A = self.rows_A, self.is_alive_A
        token_A, logp_A, entropy_A = draw(self.logits_AV, self.temperature, self.chance_TB[len(self.written), rows_A])
        others = most_probable(self.logits_AV, self.temperature, self.alternatives) if self.alternatives else ()
        ended_A = torch.isin(token_A, self.end_ids).logical_and_(was_alive_A)
        if self.queues:
            token_A, own_A, ended_A = self.queues.take(rows_A, token_A, was_alive_A, ended_A)
            logp_A, entropy_A, others = logp_A * own_A, entropy_A * own_A, (*others, own_A)
        self.written.append((rows_A, token_A, logp_A, entropy_A, *others))
        told = Told(rows_A, token_A, ended_A, was_alive_A)
        if ended := int(ended_A.sum()):
            self.length_B[rows_A[ended_A]] = len(self.written)
            self.has_ended_B[rows_A[ended_A]] = True
            self.is_alive_A = was_alive_A & ~ended_A
            self.alive -= ended
            if self.alive < COMPACT_BELOW * len(rows_A):
                token_A = self._drop_finished(token_A)
        if self.is_writing:
            self.logits_AV = self.reader.read(token_A, self.position_A)
            self.position_A = self.position_A + 1
        return told

    def answers(self) -> list[Sampled]:
        ids, logps, entropies, *others = [laid_out.tolist() for laid_out in self._laid_out()]
        own = others.pop() if self.queues else None
        other_ids, other_logps = others or ([[]] * len(ids), [[]] * len(ids))
        lengths, ended = self.length_B.tolist(), self.has_ended_B.tolist()
        return [
            Sampled(
                ids[row][:length], logps[row][:length], entropies[row][:length],
                Finish.END if ended[row] else Finish.TRUNCATED, other_ids[row][:length], other_logps[row][:length],
                steps, None if own is None else own[row][:length],
            )
            for row, (length, steps) in enumerate(zip(lengths, self.reader.steps(lengths), strict=True))
        ]  # fmt: skip

    def _laid_out(self) -> list[Tensor]:
        """Tokens, log-probs and entropies of all rows, (B, T), and the most probable tokens, (B, T, K)."""
        rows = torch.cat([rows_A for rows_A, *_ in self.written])
        steps = torch.tensor([len(rows_A) for rows_A, *_ in self.written], device=rows.device)
        at = torch.arange(len(steps), device=rows.device).repeat_interleave(steps)
        laid_out = []
        for parts in list(zip(*self.written, strict=True))[1:]:
            drawn = torch.cat(parts)
            drawn_BT = drawn.new_zeros(len(self.length_B), len(steps), *drawn.shape[1:])
            drawn_BT[rows, at] = drawn
            laid_out.append(drawn_BT)
        return laid_out

    def _drop_finished(self, token_A: Tensor) -> Tensor:
        alive = self.alive
        moves = Moves(
            alive,
            free=(~self.is_alive_A[:alive]).nonzero()[:, 0],
            filler=self.is_alive_A[alive:].nonzero()[:, 0] + alive,
        )
        self.reader.keep(moves)
        self.rows_A, self.position_A = moves(self.rows_A.clone()), moves(self.position_A)
        self.is_alive_A = self.is_alive_A.new_ones(alive)
        return moves(token_A.clone())


def draw(logits_AV: Tensor, temperature: float, chance_A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A token from softmax(logits / temperature) for each row, with its log-probability and the entropy, in nats.

    The token is where the cumulative distribution passes `chance`, a float64 in [0, 1): found among blocks of the
    vocabulary first, then within one. A token of probability 0 is never it.
    """
    rows, vocabulary = logits_AV.shape
    score_AV = logits_AV / temperature
    score_AV.sub_(score_AV.amax(-1, keepdim=True)).clamp_(min=torch.finfo(score_AV.dtype).min)
    weight_AV = score_AV.exp()
    weight_ACW = F.pad(weight_AV, (0, -vocabulary % BLOCK)).view(rows, -1, BLOCK)
    end_AC = weight_ACW.sum(-1).cumsum(-1, dtype=torch.float64)
    total_A = end_AC[:, -1]
    goal_A1 = (chance_A * total_A)[:, None]
    block_A1 = torch.searchsorted(end_AC, goal_A1, right=True)
    rest_A1 = goal_A1 - F.pad(end_AC, (1, 0)).gather(1, block_A1)
    inside_AW = weight_ACW.gather(1, block_A1[:, :, None].expand(-1, -1, BLOCK))[:, 0].cumsum(-1, dtype=torch.float64)
    place_A1 = torch.searchsorted(inside_AW, torch.minimum(rest_A1, inside_AW[:, -1:] * BELOW_ONE), right=True)
    token_A1 = block_A1 * BLOCK + place_A1
    log_total_A = total_A.log()
    logp_A = score_AV.gather(1, token_A1)[:, 0] - log_total_A
    entropy_A = log_total_A - torch.linalg.vecdot(weight_AV, score_AV) / total_A
    return token_A1[:, 0], logp_A.float(), entropy_A.float()


def most_probable(logits_AV: Tensor, temperature: float, count: int) -> tuple[Tensor, Tensor]:
    """The `count` most probable tokens for each row and their log-probabilities, (A, K), most probable first."""
    top = torch.log_softmax(logits_AV.float() / temperature, -1).topk(count)
    return top.indices, top.values


def sampler_of(policy: Policy) -> LocalSampler:
    """What samples the policy as it is learnt: the same arithmetic, the same end tokens."""
    return LocalSampler(
        policy.model, end_ids=policy.end_ids, pad_id=policy.pad_id, dtype=policy.dtype,
        has_plain_head=policy.has_plain_head,
    )  # fmt: skip
