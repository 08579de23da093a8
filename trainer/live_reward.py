"""Rankings into a reward in well under a second: an ensemble of linear heads on frozen features, fitted from nothing.

Legend: R rankings, K answers of one, F features, D principal components, H heads, P = D + 1 parameters of a head.

    features (F) ──► standardised, D principal components of a fixed sample of the run's first answers (`Basis`)
    rankings ──► held out by a hash of the prompt, or learnt:

        minus log P(weights of head h) = sum_R e_Rh a_R loss_R(scores) + prior / 2 |w_h|^2

        loss_R     Plackett-Luce with partial rankings and exact ties (`trainer.preferences`), and where anything is bad
                   a threshold t:  -log sigmoid(t - r) of each bad answer, -log sigmoid(r - t) of each best one
        e_Rh       the Bayesian bootstrap: Exp(1), drawn from the ranking's id and h alone (Rubin 1981)
        a_R        its age: half after `rlhf.half_life` steps, never less than `OLDEST`

This is strictly convex, so that it has one answer: Newton's method from zero, in float64, until nothing moves. A fit is
a function of the rankings that stand, the sample and the step, and of nothing that was fitted before: what was taken
back leaves no trace, to the bit. Deliberately left out: files (`trainer.reward_versions`), and where rankings come from
(`daemon.rm_worker`).
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, permutations, product

import torch
from torch import Tensor

from ponder.ranking import Ranks, best_rank, count_agreement, tiers
from ponder.rlhf import HELD_OUT, Rlhf
from ponder.shares import wilson_interval
from trainer.tasks.order import place_of

HELD_OUT_SHARE = 0.2
"""Of the prompts: rankings of their answers are never learnt."""
PRIOR = 10.0
"""Precision of a weight: components have the deviation 1. What 50 rankings teach is best held so (docs/LOG.md)."""
CENTERING = 0.01
OLDEST = 0.1
"""What the oldest ranking weighs: it guards against forgetting."""
MOST_ORDERS = 24
"""Of one ranking: those of four answers that tie. Of more every so many are taken, evenly."""
MOST_ROUNDS = 50
ENOUGH, NEAR = 1e-20, 1e-3
"""Newton's decrement, half of which is about what the loss still is above its least: at the end, and of a start."""


@dataclass(frozen=True)
class Basis:
    """What the heads read, fixed for a run: the principal components of the features of its first answers."""

    mean_F: Tensor  # noqa: N815  # shapes ride in names
    components_DF: Tensor  # noqa: N815
    """Of deviation 1 on the sample."""
    sample_ND: Tensor  # noqa: N815
    """The sample itself, on which every version's scale is measured."""

    def project(self, features_AF: Tensor) -> Tensor:
        """(A, D), float64."""
        return (features_AF.double() - self.mean_F) @ self.components_DF.T


@dataclass(frozen=True)
class Label:
    """One ranking with what its answers look like."""

    ranking: str
    """Its id, from which its weights in the ensemble are drawn."""
    prompt: str
    step: int
    components_KD: Tensor  # noqa: N815
    ranks: Ranks
    """All None where every answer is bad."""
    bad: Sequence[bool]
    """Which answers are not acceptable at all."""
    is_unbiased: bool = True
    """Whether it was drawn blindly, so that accuracy may be read off it."""

    @property
    def is_held_out(self) -> bool:
        return is_held_out(self.prompt)

    @property
    def says_something(self) -> bool:
        return any(self.bad) or len(tiers(self.ranks)) > 1


@dataclass(frozen=True)
class Fit:
    """What was learnt from the rankings."""

    weights_HD: Tensor  # noqa: N815
    threshold_H: Tensor  # noqa: N815
    """Above it an answer is acceptable; not a number while none was called bad."""
    offset_H: Tensor  # noqa: N815
    """Each head's mean score on the sample."""
    deviation: float
    """Of the ensemble's mean score on the sample."""
    labels: int
    is_open: bool
    """Whether it may act."""
    figures: dict[str, float]
    deep: int = 0
    """The deep reward model that acts in place of the heads (`trainer.deep_school`); 0: none."""
    deep_sha256: str = ""


def is_held_out(prompt: str) -> bool:
    """Whether rankings of this prompt's answers are never learnt.

    A hash of its own: a task of rows has taken away, by that of the text, whom its policy is never asked.
    """
    return place_of(f"rankings {prompt}") < HELD_OUT_SHARE


def age_weight(age_steps: int, knobs: Rlhf) -> float:
    """What a ranking of so many steps ago weighs."""
    share: float = 0.5 ** (max(0, age_steps) / knobs.half_life)
    return max(OLDEST, share)


def make_basis(sample_NF: Tensor, dimensions: int) -> Basis:
    """Principal components of a sample of features, float64; fewer than asked where the sample has no more."""
    sample_NF = sample_NF.double()
    mean_F = sample_NF.mean(0)
    deviation_F = (sample_NF - mean_F).square().mean(0).sqrt()
    scale_F = torch.where(deviation_F > 1e-6 * deviation_F.max(), deviation_F, torch.inf)
    _, singular, direction = torch.linalg.svd((sample_NF - mean_F) / scale_F, full_matrices=False)
    deviation = singular / math.sqrt(len(sample_NF))
    count = min(dimensions, int((deviation > 1e-4 * deviation[0]).sum()))
    sign = torch.sign(direction.gather(1, direction.abs().argmax(1, keepdim=True)))
    components_DF = (direction * sign)[:count] / scale_F / deviation[:count, None]
    return Basis(mean_F, components_DF, (sample_NF - mean_F) @ components_DF.T)


def fit(labels: Sequence[Label], basis: Basis, knobs: Rlhf, step: int, *, was_open: bool = False) -> Fit:
    """The heads of all these rankings, as they are seen after `step`; without any the weights are 0.

    The gate opens when the whole interval of the accuracy is above `rlhf.gate`. One that `was_open` closes when none of
    it is: in between it stays as it was.
    """
    useful = [label for label in labels if label.says_something]
    learnt = [label for label in useful if not label.is_held_out]
    held_out = [label for label in useful if label.is_held_out]
    weights_HP = _best_heads(_batches(learnt, knobs, step), knobs.heads, basis.components_DF.shape[0])
    weights_HD, threshold_H = weights_HP[:, :-1], weights_HP[:, -1]
    if not any(any(label.bad) for label in learnt):
        threshold_H = torch.full_like(threshold_H, torch.nan)
    score_NH = basis.sample_ND @ weights_HD.T
    deviation = score_NH.mean(1).std(correction=0).item()
    figures = {
        **_accuracy(learnt, weights_HD, "learnt"), **_accuracy(held_out, weights_HD, HELD_OUT),
        "rankings": float(len(useful)),
    }  # fmt: skip
    is_good = is_gate_open(figures, HELD_OUT, knobs.gate, was_open=was_open)
    is_open = deviation > 0 and len(useful) >= knobs.min_rankings and is_good
    return Fit(
        weights_HD, threshold_H, score_NH.mean(0), deviation if deviation > 0 else 1.0, len(labels), is_open, figures
    )


def _accuracy(labels: Sequence[Label], weights_HD: Tensor, what: str) -> dict[str, float]:
    """Of the mean score, about rankings that were drawn blindly."""
    weight_D = weights_HD.mean(0)
    blind = [label for label in labels if label.is_unbiased]
    return agreement_figures([((label.components_KD @ weight_D).tolist(), label.ranks) for label in blind], what)


def agreement_figures(scored: Iterable[tuple[Sequence[float], Ranks]], what: str) -> dict[str, float]:
    """Pairs of rankings in the scores' order, with the 95 % interval, by names that begin with `what`."""
    right = pairs = 0
    for scores, ranks in scored:
        agreed, decided, _ = count_agreement(scores, ranks)
        right, pairs = right + agreed, pairs + decided
    low, high = wilson_interval(right, pairs)
    figures = {f"{what}_right": float(right), f"{what}_pairs": float(pairs)}
    return figures | ({what: right / pairs, f"{what}_low": low, f"{what}_high": high} if pairs else {})


def is_gate_open(figures: Mapping[str, float], what: str, gate: float, *, was_open: bool) -> bool:
    """Whether the whole interval is above the gate; one that was open closes when none of it is."""
    return figures.get(f"{what}_high", 1.0) > gate if was_open else figures.get(f"{what}_low", 0.0) > gate


# ---- the fit itself


@dataclass(frozen=True)
class _Batch:
    """Rankings of as many answers each; the threshold stands last. I are their strict orders, several where some tie.

    A tie is no claim, so that P(ranking) is the sum of P over its orders; each order is a product of softmaxes.
    """

    input_RKP: Tensor  # noqa: N815
    bad_RK: Tensor  # noqa: N815
    best_RK: Tensor  # noqa: N815
    weight_HR: Tensor  # noqa: N815
    ranking_I: Tensor  # noqa: N815
    order_IK: Tensor  # noqa: N815
    """Places of the answers, the best first."""
    is_picked_IK: Tensor  # noqa: N815
    """Which of them are picked from what is left; the last tier is not."""

    def loss(self, score_HRK: Tensor) -> Tensor:
        """(H, R): of each ranking under each head, before its weight."""
        answers_HRK, threshold_HR1 = score_HRK[..., :-1], score_HRK[..., -1:]
        bad_HR = (self.bad_RK * torch.nn.functional.softplus(answers_HRK - threshold_HR1)).sum(-1)
        best_HR = (self.best_RK * torch.nn.functional.softplus(threshold_HR1 - answers_HRK)).sum(-1)
        loss_HR = bad_HR + best_HR + CENTERING * (2.0 * answers_HRK.mean(-1)).square()
        return loss_HR - self._gathered(-self._order_loss(self._ordered(answers_HRK)))

    def derivatives(self, score_HRK: Tensor) -> tuple[Tensor, Tensor]:
        """The loss's slope (H, R, K + 1) and its curve (H, R, K + 1, K + 1), before the ranking's weight.

        Of a pick from a softmax p they are p less the one picked, and diag(p) - p p'. Of minus the logarithm of a sum
        over orders with shares q they are sum q s and sum q (c - s s') + (sum q s)(sum q s)'.
        """
        answers_HRK, threshold_HR1 = score_HRK[..., :-1], score_HRK[..., -1:]
        count = answers_HRK.shape[-1]
        ordered_HIK = self._ordered(answers_HRK)
        logp_HI = -self._order_loss(ordered_HIK)
        share_HI = (logp_HI - self._gathered(logp_HI)[:, self.ranking_I]).exp()
        left_HIK = ordered_HIK.flip(-1).logcumsumexp(-1).flip(-1)
        picks_HIKK = (ordered_HIK[..., None, :] - left_HIK[..., None]).exp().triu() * self.is_picked_IK[..., None]
        slope_HIK = picks_HIKK.sum(-2) - self.is_picked_IK
        curve_HIKK = -(picks_HIKK.mT @ picks_HIKK) - slope_HIK[..., None] * slope_HIK[..., None, :]
        curve_HIKK.diagonal(dim1=-2, dim2=-1).add_(picks_HIKK.sum(-2))
        back_IK = self.order_IK.argsort(-1)
        slope_HIK = slope_HIK.gather(-1, back_IK.expand_as(slope_HIK))
        by_row = curve_HIKK.gather(-2, back_IK[..., None].expand_as(curve_HIKK))
        curve_HIKK = by_row.gather(-1, back_IK[:, None, :].expand_as(by_row))
        ranked_HRK = self._summed(slope_HIK * share_HI[..., None])
        bent_HRKK = self._summed(curve_HIKK * share_HI[..., None, None])
        bent_HRKK = bent_HRKK + ranked_HRK[..., None] * ranked_HRK[..., None, :]
        chance_HRK = torch.sigmoid(answers_HRK - threshold_HR1)
        against_HRK = self.bad_RK * chance_HRK - self.best_RK * (1.0 - chance_HRK)
        bent_HRK = (self.bad_RK + self.best_RK) * chance_HRK * (1.0 - chance_HRK)
        slope_HRK = torch.zeros_like(score_HRK)
        slope_HRK[..., :-1] = ranked_HRK + against_HRK + 8.0 * CENTERING / count * answers_HRK.mean(-1, keepdim=True)
        slope_HRK[..., -1] = -against_HRK.sum(-1)
        curve_HRKK = score_HRK.new_zeros(*score_HRK.shape, count + 1)
        curve_HRKK[..., :-1, :-1] = bent_HRKK + 8.0 * CENTERING / count**2
        curve_HRKK[..., :-1, :-1].diagonal(dim1=-2, dim2=-1).add_(bent_HRK)
        curve_HRKK[..., :-1, -1] = curve_HRKK[..., -1, :-1] = -bent_HRK
        curve_HRKK[..., -1, -1] = bent_HRK.sum(-1)
        return slope_HRK, curve_HRKK

    def _ordered(self, answers_HRK: Tensor) -> Tensor:
        """(H, I, K): the scores of each order, the best first."""
        answers_HIK = answers_HRK[:, self.ranking_I]
        return answers_HIK.gather(-1, self.order_IK.expand_as(answers_HIK))

    def _order_loss(self, ordered_HIK: Tensor) -> Tensor:
        """(H, I): minus the log-probability of each order."""
        left_HIK = ordered_HIK.flip(-1).logcumsumexp(-1).flip(-1)
        return ((left_HIK - ordered_HIK) * self.is_picked_IK).sum(-1)

    def _summed(self, value_HIX: Tensor) -> Tensor:
        """What orders have, added up over each ranking's."""
        heads, _, *rest = value_HIX.shape
        return value_HIX.new_zeros(heads, len(self.input_RKP), *rest).index_add_(1, self.ranking_I, value_HIX)

    def _gathered(self, logp_HI: Tensor) -> Tensor:
        """(H, R): the logarithm of the sum of each ranking's."""
        heads, count = len(logp_HI), len(self.input_RKP)
        place_HI = self.ranking_I.expand_as(logp_HI)
        least_HR = logp_HI.new_full((heads, count), -torch.inf)
        greatest_HR = least_HR.scatter_reduce(1, place_HI, logp_HI.detach(), "amax")
        return greatest_HR + self._summed((logp_HI - greatest_HR[:, self.ranking_I]).exp()).log()


def _batches(labels: Sequence[Label], knobs: Rlhf, step: int) -> list[_Batch]:
    has_bad = any(any(label.bad) for label in labels)
    alike: defaultdict[int, list[Label]] = defaultdict(list)
    for label in labels:
        alike[len(label.ranks)].append(label)
    return [_batch(some, knobs, step, has_bad=has_bad) for _, some in sorted(alike.items())]


def _batch(labels: Sequence[Label], knobs: Rlhf, step: int, *, has_bad: bool) -> _Batch:
    inputs_RKD = torch.stack([label.components_KD for label in labels])
    count, answers, dimensions = inputs_RKD.shape
    input_RKP = inputs_RKD.new_zeros(count, answers + 1, dimensions + 1)
    input_RKP[:, :-1, :-1], input_RKP[:, -1, -1] = inputs_RKD, 1.0
    bad_RK = torch.tensor([[float(bad) for bad in label.bad] for label in labels], dtype=torch.float64)
    bests = [best_rank(label.ranks) if has_bad else None for label in labels]
    is_best = [
        [rank is not None and rank == best for rank in label.ranks] for label, best in zip(labels, bests, strict=True)
    ]
    weights = [
        [draw * age_weight(step - label.step, knobs) for draw in bootstrap(label.ranking, knobs.heads)]
        for label in labels
    ]
    orders = [(place, order) for place, label in enumerate(labels) for order in strict_orders(label.ranks)]
    picked = torch.tensor([[sum(map(len, tiers(labels[place].ranks)[:-1]))] for place, _ in orders])
    return _Batch(
        input_RKP, bad_RK, torch.tensor(is_best) * (1.0 - bad_RK), torch.tensor(weights, dtype=torch.float64).T,
        torch.tensor([place for place, _ in orders]), torch.tensor([order for _, order in orders]),
        (torch.arange(answers) < picked).double(),
    )  # fmt: skip


def strict_orders(ranks: Ranks) -> list[list[int]]:
    """The orders of all answers that fit the ranking; the last tier stays as it is, for nothing is said of it.

    More than `MOST_ORDERS` are too many to sum over: then every so many of them stand for all.

    >>> strict_orders([2, 1, 2, None])
    [[1, 0, 2, 3], [1, 2, 0, 3]]
    """
    *above, last = tiers(ranks)
    total = math.prod(math.factorial(len(tier)) for tier in above)
    orders = (
        [place for tier in (*chosen, last) for place in tier]
        for chosen in product(*(permutations(tier) for tier in above))
    )
    return list(islice(orders, 0, None, -(-total // MOST_ORDERS)))


def bootstrap(ranking: str, heads: int) -> list[float]:
    """What the ranking weighs for each head: Exp(1), the same for the same id for ever.

    >>> [round(weight, 3) for weight in bootstrap("one", 3)] == [round(weight, 3) for weight in bootstrap("one", 4)][:3]
    True
    """
    draws = (hashlib.sha256(f"{head} {ranking}".encode()).digest()[:8] for head in range(heads))
    return [-math.log((int.from_bytes(draw, "big") + 0.5) / 2.0**64) for draw in draws]


def _best_heads(batches: Sequence[_Batch], heads: int, dimensions: int) -> Tensor:
    """(H, P): all from where one head would be for which every ranking weighs what it weighs on average."""
    start_1P = torch.zeros(1, dimensions + 1, dtype=torch.float64)
    if batches:
        mean = [replace(batch, weight_HR=batch.weight_HR.mean(0, keepdim=True)) for batch in batches]
        start_1P = _newton(mean, start_1P, NEAR)
    return _newton(batches, start_1P.repeat(heads, 1), ENOUGH)


@torch.no_grad()
def _newton(batches: Sequence[_Batch], start_HP: Tensor, enough: float) -> Tensor:
    """(H, P): each head where its loss is least."""
    weights_HP = start_HP
    loss_H = _loss(batches, weights_HP)
    for _ in range(MOST_ROUNDS):
        gradient_HP, hessian_HPP = _derivatives(batches, weights_HP)
        move_HP = _downhill(gradient_HP, hessian_HPP)
        decrement_H = -(gradient_HP * move_HP).sum(1)
        if decrement_H.max() <= enough:
            break
        length_H = torch.ones_like(loss_H)
        while True:
            tried_HP = weights_HP + length_H[:, None] * move_HP
            tried_H = _loss(batches, tried_HP)
            is_worse_H = tried_H > loss_H - 1e-4 * length_H * decrement_H + 1e-12 * loss_H.abs()
            if not is_worse_H.any():
                break
            length_H = torch.where(is_worse_H, 0.5 * length_H, length_H)
        weights_HP, loss_H = tried_HP, tried_H
    return weights_HP


def _downhill(gradient_HP: Tensor, hessian_HPP: Tensor) -> Tensor:
    """Newton's move; a Hessian that rounding, or orders that were left out, made indefinite is raised first."""
    factor_HPP, failed_H = torch.linalg.cholesky_ex(hessian_HPP)
    raised = PRIOR
    while failed_H.any():
        hessian_HPP = hessian_HPP + raised * torch.eye(hessian_HPP.shape[-1], dtype=hessian_HPP.dtype)
        factor_HPP, failed_H = torch.linalg.cholesky_ex(hessian_HPP)
        raised *= 10.0
    return torch.cholesky_solve(-gradient_HP[..., None], factor_HPP)[..., 0]


def _scores(batch: _Batch, weights_HP: Tensor) -> Tensor:
    """(H, R, K + 1): of each answer, and the threshold."""
    count, places, parameters = batch.input_RKP.shape
    return (batch.input_RKP.view(-1, parameters) @ weights_HP.T).T.reshape(-1, count, places)


def _loss(batches: Sequence[_Batch], weights_HP: Tensor) -> Tensor:
    loss_H = 0.5 * PRIOR * weights_HP.square().sum(1)
    for batch in batches:
        loss_H = loss_H + (batch.weight_HR * batch.loss(_scores(batch, weights_HP))).sum(1)
    return loss_H


def _derivatives(batches: Sequence[_Batch], weights_HP: Tensor) -> tuple[Tensor, Tensor]:
    """The loss's gradient (H, P) and Hessian (H, P, P): those in the scores of one ranking, seen through its inputs.

    The Hessian only says whereto: its sums are float32.
    """
    heads, parameters = weights_HP.shape
    gradient_HP = PRIOR * weights_HP
    hessian_HPP = PRIOR * torch.eye(parameters, dtype=weights_HP.dtype).repeat(heads, 1, 1)
    for batch in batches:
        slope_HRK, curve_HRKK = batch.derivatives(_scores(batch, weights_HP))
        slope_HRK, curve_HRKK = slope_HRK * batch.weight_HR[..., None], curve_HRKK * batch.weight_HR[..., None, None]
        count, places, _ = batch.input_RKP.shape
        gradient_HP = gradient_HP + slope_HRK.reshape(heads, -1) @ batch.input_RKP.view(-1, parameters)
        input_RKP = batch.input_RKP.float()
        curve_RIK = curve_HRKK.float().transpose(0, 1).reshape(count, heads * places, places)
        curved_RHKP = (curve_RIK @ input_RKP).view(count, heads, places, parameters)
        curved_HIP = curved_RHKP.transpose(0, 1).reshape(heads, -1, parameters)
        hessian_HPP = hessian_HPP + (input_RKP.view(-1, parameters).T @ curved_HIP).double()
    return gradient_HP, hessian_HPP
