"""The lesson of `pretrain`, `sft` and `distil`: write what the example writes.

Legend: N learnt tokens of a piece on one flat axis.

    loss = - 1/M sum log pi(token | everything before it),  over all M learnt tokens of the batch

In `pretrain` every token of a text is learnt but its first, and the loss is told beside the unigram entropy of what is
learnt; in `sft` and `distil` those of the response and its end, never the prompt's, nor what a world said between
them. A batch weighs its tokens alike, however it is cut into pieces. Deliberately left out: where examples come from
(`trainer.corpus`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from ponder import metrics
from ponder.knobs import Knobs
from trainer.corpus import Corpus, Example, unigram_entropy
from trainer.drawing import Draw
from trainer.learn import forward_of
from trainer.pieces import pieces
from trainer.policy import Policy, token_logps
from trainer.rows import count_positions


class Imitation:
    """A policy and the examples that it learns to continue."""

    speaks = True

    def __init__(self, policy: Policy, corpus: Corpus, *, is_pretraining: bool = False) -> None:
        self.policy, self.corpus, self.is_pretraining = policy, corpus, is_pretraining
        self.draw: Draw[Example] = Draw(corpus.examples)

    @property
    def summary(self) -> str:
        return self.corpus.summary

    @property
    def fingerprint(self) -> str:
        return self.corpus.fingerprint

    def parameters(self) -> Mapping[str, Tensor]:
        return self.policy.learning

    def extra_tensors(self) -> Mapping[str, Mapping[str, Tensor]]:
        return {}

    def extra_files(self) -> Mapping[str, bytes]:
        return {}

    @cached_property
    def _lines(self) -> dict[str, float]:
        """What the loss is read against, where whole texts are learnt: once a stage, for the corpus stays the same."""
        return {metrics.UNIGRAM: unigram_entropy(self.corpus)} if self.is_pretraining else {}

    def learn(self, knobs: Knobs) -> dict[str, float]:
        batch = self.draw.take(knobs.supervised.batch_tokens)
        self.policy.forward = forward_of(knobs)
        learnt = sum(example.learnt for example in batch)
        loss, positions, filled = 0.0, 0, 0
        for piece in pieces(batch, knobs.optim.micro_batch_tokens, self.policy.layout):
            part = self._loss(piece) / learnt
            torch.autograd.backward(part)
            loss += part.item()
            forwarded, own = count_positions(piece, self.policy.layout)
            positions, filled = positions + forwarded, filled + own
        tokens = sum(example.total for example in batch)
        return {
            metrics.LOSS: loss,
            **self._lines,
            metrics.EXAMPLES: float(len(batch)),
            metrics.PAD_SHARE: 1 - filled / positions,
            metrics.TOKENS_PER_SECOND: float(tokens),
        }

    @torch.no_grad()
    def measure(self, knobs: Knobs) -> dict[str, float]:
        held_out = self.corpus.held_out
        if not held_out:
            return {}
        self.policy.forward = forward_of(knobs)
        parts = pieces(held_out, knobs.optim.micro_batch_tokens, self.policy.layout)
        total = sum(self._loss(piece).item() for piece in parts)
        return {metrics.EVAL_LOSS: total / sum(example.learnt for example in held_out)}

    def _loss(self, piece: Sequence[Example]) -> Tensor:
        """The sum over its learnt tokens."""
        prompts, answers = [example.prompt_ids for example in piece], [example.answer_ids for example in piece]
        own = [example.own for example in piece]
        logp_N, _ = token_logps(self.policy, self.policy.model, prompts, answers, 1.0, own=own)
        return -logp_N.sum()
