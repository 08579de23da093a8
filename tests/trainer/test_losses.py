"""The mathematics against values that were enumerated or computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ponder.advantages import group_relative, has_spread
from ponder.knobs import AdvantageScale, KlEstimator, Normaliser, Policy
from trainer.losses import kl_penalty, kl_values, policy_terms, token_weights


def test_group_advantages_are_the_hand_computed_ones() -> None:
    assert group_relative([1.0, 0.0, 0.0, 1.0], AdvantageScale.NONE) == [0.5, -0.5, -0.5, 0.5]
    scaled = group_relative([3.0, 1.0], AdvantageScale.GROUP_STD)
    assert scaled == pytest.approx([1.0, -1.0], abs=1e-5)
    assert group_relative([30.0, 10.0], AdvantageScale.GROUP_STD) == pytest.approx(scaled, abs=1e-5)
    assert group_relative([30.0, 10.0], AdvantageScale.NONE) == [10.0, -10.0]


@pytest.mark.parametrize("rewards", [[0.1, 0.1, 0.1], [1.0], [None, 0.3], [None, None], [0.1 + 0.2, 0.1 + 0.2]])
@pytest.mark.parametrize("scale", list(AdvantageScale))
def test_a_group_without_spread_teaches_exactly_nothing(rewards: list[float | None], scale: AdvantageScale) -> None:
    assert not has_spread(rewards)
    assert group_relative(rewards, scale) == [0.0] * len(rewards)


def test_an_unscored_answer_is_not_a_zero() -> None:
    assert group_relative([1.0, 0.0, None], AdvantageScale.NONE) == [0.5, -0.5, 0.0]


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "has_gradient"),
    [
        (1.0, 1.0, -1.0, True),
        (1.5, 1.0, -1.28, False),  # clipped high
        (1.5, -1.0, 1.5, True),  # worse than thought: never clipped
        (0.5, 1.0, -0.5, True),
        (0.5, -1.0, 0.8, False),  # clipped low
        (1.27, 1.0, -1.27, True),
        (0.81, -1.0, 0.81, True),
    ],
)
def test_clipping_acts_on_the_side_that_the_advantage_pushes(
    ratio: float, advantage: float, loss: float, has_gradient: bool
) -> None:
    logp = torch.tensor([math.log(ratio)], requires_grad=True)
    knobs = Policy(clip_low=0.2, clip_high=0.28)
    got = policy_terms(logp, torch.zeros(1), torch.tensor([advantage]), torch.ones(1), torch.tensor([1]), knobs)[0]
    torch.autograd.backward(got)
    assert got.item() == pytest.approx(loss)
    assert logp.grad is not None
    assert bool(logp.grad.abs().item() > 0) is has_gradient


def test_each_normaliser_weighs_tokens_of_short_and_long_answers_as_documented() -> None:
    short, long = token_weights([10, 100], Normaliser.TOKEN, max_new_tokens=200)
    assert short == long == pytest.approx(1 / 110)
    short, long = token_weights([10, 100], Normaliser.SEQUENCE, max_new_tokens=200)
    assert short / long == pytest.approx(10)
    assert token_weights([10, 100], Normaliser.CONSTANT, max_new_tokens=200) == [1 / 400] * 2


def test_the_mean_of_no_token_is_an_error() -> None:
    with pytest.raises(ValueError, match="no token"):
        token_weights([], Normaliser.TOKEN, max_new_tokens=8)


LOGITS = torch.tensor([0.3, -1.2, 0.8, 0.1], dtype=torch.float64)
REFERENCE = torch.log_softmax(torch.tensor([-0.4, 0.5, 0.2, 1.1], dtype=torch.float64), -1)


def true_kl() -> tuple[float, Tensor]:
    logits = LOGITS.clone().requires_grad_()
    logp = torch.log_softmax(logits, -1)
    kl = (logp.exp() * (logp - REFERENCE)).sum()
    torch.autograd.backward(kl)
    assert logits.grad is not None
    return kl.item(), logits.grad


def expected_gradient(estimator: KlEstimator, *, corrected: bool) -> Tensor:
    """The expectation of the estimate's gradient, every token enumerated with its probability under the old policy."""
    logits = LOGITS.clone().requires_grad_()
    logp = torch.log_softmax(logits, -1)
    old = logp.detach()
    if corrected:
        loss = kl_penalty(logp, REFERENCE, old, old.exp(), estimator)
    else:
        loss = (old.exp() * kl_values(logp, REFERENCE, estimator)).sum()
    torch.autograd.backward(loss)
    assert logits.grad is not None
    return logits.grad


@pytest.mark.parametrize("estimator", list(KlEstimator))
def test_every_kl_penalty_has_the_gradient_of_the_kl(estimator: KlEstimator) -> None:
    _, gradient = true_kl()
    assert torch.allclose(expected_gradient(estimator, corrected=True), gradient, atol=1e-12)


def test_without_the_correction_k1_pulls_nowhere_and_k3_elsewhere() -> None:
    _, gradient = true_kl()
    assert torch.allclose(
        expected_gradient(KlEstimator.K1, corrected=False), torch.zeros(4, dtype=torch.float64), atol=1e-12
    )
    assert not torch.allclose(expected_gradient(KlEstimator.K3, corrected=False), gradient, atol=1e-2)


def test_k2_needs_no_correction_and_a_differentiated_ratio_would_spoil_it() -> None:
    _, gradient = true_kl()
    assert torch.allclose(expected_gradient(KlEstimator.K2, corrected=False), gradient, atol=1e-12)
    logits = LOGITS.clone().requires_grad_()
    logp = torch.log_softmax(logits, -1)
    values = kl_values(logp, REFERENCE, KlEstimator.K2)
    torch.autograd.backward((logp.exp() * values).sum())
    assert logits.grad is not None
    assert not torch.allclose(logits.grad, gradient, atol=1e-2)


def test_k1_and_k3_have_the_value_of_the_kl() -> None:
    value, _ = true_kl()
    logp = torch.log_softmax(LOGITS, -1)
    for estimator in (KlEstimator.K1, KlEstimator.K3):
        assert (logp.exp() * kl_values(logp, REFERENCE, estimator)).sum().item() == pytest.approx(value)
    assert (kl_values(logp, REFERENCE, KlEstimator.K3) >= 0).all()
