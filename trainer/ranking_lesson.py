"""The lesson of `reward_model` and `dpo`: score answers as their rankings order them.

    draw rankings ──► pieces of whole rankings, within a token budget ──► scores ──► the mean loss of the rankings

A ranking weighs the same however many answers it has, and a batch is the same however it is cut. Held-out rankings say
how many pairs the scores order alike. Deliberately left out: whose scores (`trainer.scorers`), and the losses
(`trainer.preferences`).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ponder import metrics
from ponder.knobs import Knobs
from ponder.ranking import count_agreement, tiers
from ponder.shares import wilson_interval
from trainer.drawing import Draw
from trainer.learn import forward_of
from trainer.pieces import cut_groups
from trainer.ranking_tokens import Ranked, to_ids
from trainer.rankings import Rankings
from trainer.rows import count_positions
from trainer.scorers import Scorer

UNSPLIT = 256
"""So many training rankings give the scale of scores where none is held out."""


@dataclass
class Tally:
    """What rankings came to, piece by piece."""

    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    """Scores of the answers that their rankings put first."""
    agreeing: int = 0
    pairs: int = 0
    margins: float = 0.0

    def add(self, loss: float, scores: list[float], ranked: Ranked) -> None:
        agreeing, pairs, margins = count_agreement(scores, ranked.ranks)
        self.losses.append(loss)
        self.scores += scores
        self.best += [scores[place] for place in tiers(ranked.ranks)[0]]
        self.agreeing += agreeing
        self.pairs += pairs
        self.margins += margins


class RankingLesson:
    """A scorer and the rankings that it learns from: `trainer.lesson.Lesson`."""

    def __init__(self, scorer: Scorer, rankings: Rankings, seed: int) -> None:
        self.scorer, self.rankings = scorer, rankings
        self.policy, self.speaks = scorer.policy, scorer.speaks
        self.draw: Draw[Ranked] = Draw(
            lambda place: (to_ids(self.policy, ranking) for ranking in rankings.stream(seed, place))
        )

    @property
    def summary(self) -> str:
        return self.rankings.summary

    @property
    def fingerprint(self) -> str:
        return self.rankings.fingerprint

    def parameters(self) -> Mapping[str, Tensor]:
        return self.scorer.parameters()

    def extra_tensors(self) -> Mapping[str, Mapping[str, Tensor]]:
        return self.scorer.extra_tensors()

    def extra_files(self) -> Mapping[str, bytes]:
        return self.scorer.extra_files()

    def learn(self, knobs: Knobs) -> dict[str, float]:
        batch = self.draw.take(knobs.supervised.batch_tokens)
        tally, positions, filled = Tally(), 0, 0
        for piece in self._pieces(batch, knobs):
            loss = self._loss(piece, knobs, tally)
            torch.autograd.backward(loss / len(batch))
            forwarded, own = count_positions([text for one in piece for text in one.texts], self.policy.layout)
            positions, filled = positions + forwarded, filled + own
        tokens = sum(ranked.total for ranked in batch)
        return {
            metrics.RANKING_LOSS: statistics.fmean(tally.losses),
            metrics.PAIR_ACCURACY: tally.agreeing / tally.pairs,
            metrics.PAIR_MARGIN: tally.margins / tally.pairs,
            metrics.SCORE_MEAN: statistics.fmean(tally.scores),
            metrics.BEST_SCORE: statistics.fmean(tally.best),
            metrics.EXAMPLES: float(len(batch)),
            metrics.PAD_SHARE: 1 - filled / positions,
            metrics.TOKENS_PER_SECOND: float(tokens),
        }

    @torch.no_grad()
    def measure(self, knobs: Knobs) -> dict[str, float]:
        """How held-out rankings are ordered. Without any, the scale of scores is that of the first training ones."""
        kept = self.rankings.kept
        tally = self._tally(
            [to_ids(self.policy, ranking) for ranking in kept or self.rankings.training[:UNSPLIT]], knobs
        )
        self.scorer.measure(tally.scores)
        if not kept:
            return {}
        low, high = wilson_interval(tally.agreeing, tally.pairs)
        return {
            metrics.EVAL_PAIR_ACCURACY: tally.agreeing / tally.pairs,
            metrics.EVAL_PAIR_LOW: low,
            metrics.EVAL_PAIR_HIGH: high,
            metrics.EVAL_PAIR_MARGIN: tally.margins / tally.pairs,
            metrics.EVAL_RANKING_LOSS: statistics.fmean(tally.losses),
            metrics.EVAL_PAIRS: float(tally.pairs),
        }

    def _tally(self, batch: Sequence[Ranked], knobs: Knobs) -> Tally:
        tally = Tally()
        for piece in self._pieces(batch, knobs):
            self._loss(piece, knobs, tally)
        return tally

    def _loss(self, piece: Sequence[Ranked], knobs: Knobs, tally: Tally) -> Tensor:
        """The sum over its rankings; the tally knows each."""
        prompts = [ranked.prompt_ids for ranked in piece for _ in ranked.answers]
        answers = [answer for ranked in piece for answer in ranked.answers]
        score_B = self.scorer.scores(prompts, answers, knobs)
        total = score_B.new_zeros(())
        for ranked, score_K in zip(piece, torch.split(score_B, [len(one.answers) for one in piece]), strict=True):
            own, added = self.scorer.loss(score_K, ranked, knobs)
            total = total + own + added
            tally.add(own.item(), score_K.tolist(), ranked)
        return total

    def _pieces(self, batch: Sequence[Ranked], knobs: Knobs) -> Iterator[list[Ranked]]:
        self.policy.forward = forward_of(knobs)
        groups = [ranked.texts for ranked in batch]
        for places in cut_groups(groups, knobs.optim.micro_batch_tokens, self.policy.layout):
            yield [batch[place] for place in places]
