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
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ponder.ranking import Ranks, count_agreement, tiers
from ponder.rlhf import Rlhf
from ponder.shares import wilson_interval
from trainer.preferences import ordered_plackett_luce
from trainer.tasks.order import place_of

HELD_OUT = 0.2
"""Share of the prompts whose rankings are never learnt."""
PRIOR = 1.0
"""Precision of a weight: components have the deviation 1."""
CENTERING = 0.01
OLDEST = 0.1
"""What the oldest ranking weighs: it guards against forgetting."""
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
        return place_of(self.prompt) < HELD_OUT

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


def fit(labels: Sequence[Label], basis: Basis, knobs: Rlhf, step: int) -> Fit:
    """The heads of all these rankings, as they are seen after `step`; without any the weights are 0."""
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
        **_accuracy(learnt, weights_HD, "learnt"), **_accuracy(held_out, weights_HD, "held_out"),
        "rankings": float(len(useful)),
    }  # fmt: skip
    low, _ = wilson_interval(int(figures["held_out_right"]), int(figures["held_out_pairs"]))
    is_open = deviation > 0 and len(useful) >= knobs.min_rankings and low > knobs.gate
    return Fit(
        weights_HD, threshold_H, score_NH.mean(0), deviation if deviation > 0 else 1.0, len(labels), is_open, figures
    )


def _accuracy(labels: Sequence[Label], weights_HD: Tensor, what: str) -> dict[str, float]:
    """Pairs of blindly drawn rankings in the mean score's order, with the 95 % interval."""
    weight_D = weights_HD.mean(0)
    right = pairs = 0
    for label in labels:
        if label.is_unbiased:
            agreed, decided, _ = count_agreement((label.components_KD @ weight_D).tolist(), label.ranks)
            right, pairs = right + agreed, pairs + decided
    low, high = wilson_interval(right, pairs)
    figures = {f"{what}_right": float(right), f"{what}_pairs": float(pairs)}
    return figures | ({what: right / pairs, f"{what}_low": low, f"{what}_high": high} if pairs else {})


# ---- the fit itself


@dataclass(frozen=True)
class _Batch:
    """Rankings with tiers of the same sizes, each answer in the order of its tier; the threshold stands last."""

    input_RKP: Tensor  # noqa: N815
    sizes: tuple[int, ...]
    bad_RK: Tensor  # noqa: N815
    best_RK: Tensor  # noqa: N815
    weight_HR: Tensor  # noqa: N815

    def loss(self, score_HRK: Tensor) -> Tensor:
        """(H, R): of each ranking under each head, before its weight."""
        answers_HRK, threshold_HR1 = score_HRK[..., :-1], score_HRK[..., -1:]
        bad_HR = (self.bad_RK * torch.nn.functional.softplus(answers_HRK - threshold_HR1)).sum(-1)
        best_HR = (self.best_RK * torch.nn.functional.softplus(threshold_HR1 - answers_HRK)).sum(-1)
        loss_HR = bad_HR + best_HR + CENTERING * (2.0 * answers_HRK.mean(-1)).square()
        return loss_HR + ordered_plackett_luce(answers_HRK, self.sizes)

    def derivatives(self, score_HRK: Tensor) -> tuple[Tensor, Tensor]:
        """The loss's slope (H, R, K + 1) and its curve (H, R, K + 1, K + 1), before the ranking's weight."""
        return self._derived(score_HRK) if any(size > 1 for size in self.sizes[:-1]) else self._known(score_HRK)

    @torch.enable_grad()
    def _derived(self, score_HRK: Tensor) -> tuple[Tensor, Tensor]:
        score_HRK = score_HRK.detach().requires_grad_()
        (slope_HRK,) = torch.autograd.grad(self.loss(score_HRK).sum(), score_HRK, create_graph=True)
        rows = [
            torch.autograd.grad(slope_HRK[..., place].sum(), score_HRK, retain_graph=True)[0]
            for place in range(score_HRK.shape[-1])
        ]
        return slope_HRK.detach(), torch.stack(rows, -1)

    def _known(self, score_HRK: Tensor) -> tuple[Tensor, Tensor]:
        """The same in closed form, without ties: each pick is a softmax p over what is left, with diag(p) - p p'."""
        answers_HRK, threshold_HR1 = score_HRK[..., :-1], score_HRK[..., -1:]
        count = answers_HRK.shape[-1]
        picks_HRSK = answers_HRK.new_zeros(*answers_HRK.shape[:-1], len(self.sizes) - 1, count)
        for place in range(len(self.sizes) - 1):
            picks_HRSK[..., place, place:] = torch.softmax(answers_HRK[..., place:], -1)
        chance_HRK = torch.sigmoid(answers_HRK - threshold_HR1)
        against_HRK = self.bad_RK * chance_HRK - self.best_RK * (1.0 - chance_HRK)
        bent_HRK = (self.bad_RK + self.best_RK) * chance_HRK * (1.0 - chance_HRK)
        picked_HRK = picks_HRSK.sum(-2)
        slope_HRK = torch.zeros_like(score_HRK)
        slope_HRK[..., :-1] = picked_HRK + against_HRK + 8.0 * CENTERING / count * answers_HRK.mean(-1, keepdim=True)
        slope_HRK[..., : len(self.sizes) - 1] -= 1.0
        slope_HRK[..., -1] = -against_HRK.sum(-1)
        curve_HRKK = torch.zeros(*score_HRK.shape, count + 1, dtype=score_HRK.dtype)
        curve_HRKK[..., :-1, :-1] = 8.0 * CENTERING / count**2 - picks_HRSK.mT @ picks_HRSK
        curve_HRKK[..., :-1, :-1].diagonal(dim1=-2, dim2=-1).add_(picked_HRK + bent_HRK)
        curve_HRKK[..., :-1, -1] = curve_HRKK[..., -1, :-1] = -bent_HRK
        curve_HRKK[..., -1, -1] = bent_HRK.sum(-1)
        return slope_HRK, curve_HRKK


def _batches(labels: Sequence[Label], knobs: Rlhf, step: int) -> list[_Batch]:
    has_bad = any(any(label.bad) for label in labels)
    alike: defaultdict[tuple[int, ...], list[Label]] = defaultdict(list)
    for label in labels:
        alike[tuple(len(tier) for tier in tiers(label.ranks))].append(label)
    return [_batch(sizes, some, knobs, step, has_bad=has_bad) for sizes, some in sorted(alike.items())]


def _batch(sizes: tuple[int, ...], labels: Sequence[Label], knobs: Rlhf, step: int, *, has_bad: bool) -> _Batch:
    orders = [[place for tier in tiers(label.ranks) for place in tier] for label in labels]
    inputs_RKD = torch.stack([label.components_KD[order] for label, order in zip(labels, orders, strict=True)])
    count, answers, dimensions = inputs_RKD.shape
    input_RKP = inputs_RKD.new_zeros(count, answers + 1, dimensions + 1)
    input_RKP[:, :-1, :-1], input_RKP[:, -1, -1] = inputs_RKD, 1.0
    bad_RK = torch.tensor(
        [[float(label.bad[place]) for place in order] for label, order in zip(labels, orders, strict=True)],
        dtype=torch.float64,
    )
    is_top = torch.arange(answers) < (sizes[0] if len(sizes) > 1 and has_bad else 0)
    ages = [0.5 ** (max(0, step - label.step) / knobs.half_life) for label in labels]
    weight_HR = torch.tensor(
        [
            [draw * max(OLDEST, age) for draw in bootstrap(label.ranking, knobs.heads)]
            for label, age in zip(labels, ages, strict=True)
        ],
        dtype=torch.float64,
    ).T
    return _Batch(input_RKP, sizes, bad_RK, is_top * (1.0 - bad_RK), weight_HR)


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
        move_HP = torch.cholesky_solve(-gradient_HP[..., None], torch.linalg.cholesky(hessian_HPP))[..., 0]
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
