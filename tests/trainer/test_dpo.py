"""DPO against hand-made numbers, finite differences, and what it is at the start, in float64 and through a model."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ponder.ranking import Ranks
from tests.trainer.models import MAKERS, policy_of
from tests.trainer.test_preferences import differences, gradient
from trainer.dpo import implicit_rewards, sums_by_answer
from trainer.policy import token_logps
from trainer.preferences import pairwise
from trainer.reference import freeze

PROMPT = [3, 9, 11]
ANSWERS = [[30, 31, 2], [40, 2], [33, 12, 50, 51, 2]]


def dpo_loss(logp_K: Tensor, reference_K: Tensor, ranks: Ranks, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """What a ranking costs the policy."""
    return pairwise(implicit_rewards(logp_K, reference_K, beta), ranks, label_smoothing=label_smoothing)


def of(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_loss_is_the_one_computed_by_hand() -> None:
    """beta 0.1: rewards 0.1 (-10 + 12) = 0.2 and 0.1 (-9 + 8) = -0.1, so d = 0.3."""
    loss = dpo_loss(of([-10.0, -9.0]), of([-12.0, -8.0]), [1, 2], beta=0.1)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-0.3)), abs=1e-14)
    smooth = dpo_loss(of([-10.0, -9.0]), of([-12.0, -8.0]), [1, 2], beta=0.1, label_smoothing=0.2)
    by_hand = 0.8 * math.log1p(math.exp(-0.3)) + 0.2 * math.log1p(math.exp(0.3))
    assert smooth.item() == pytest.approx(by_hand, abs=1e-14)
    assert implicit_rewards(of([-10.0, -9.0]), of([-12.0, -8.0]), 0.1).tolist() == pytest.approx([0.2, -0.1])


def test_the_gradient_is_the_published_one() -> None:
    """-beta sigmoid(r_l - r_w) (grad log pi_w - grad log pi_l): arXiv:2305.18290, section 4."""
    logp, reference, beta = of([-10.0, -9.0]), of([-12.0, -8.0]), 0.1
    pull = beta / (1 + math.exp(0.3))
    assert gradient(lambda x: dpo_loss(x, reference, [1, 2], beta=beta), logp).tolist() == pytest.approx([-pull, pull])


@pytest.mark.parametrize("ranks", [[1, 2, 3], [2, 1, None], [1, 2, 2]])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_gradient_is_that_of_finite_differences(ranks: list[int | None], smoothing: float) -> None:
    logp, reference = of([-3.0, -4.5, -2.0]), of([-3.5, -4.0, -2.5])

    def loss(logp: Tensor) -> Tensor:
        return dpo_loss(logp, reference, ranks, beta=0.7, label_smoothing=smoothing)

    assert torch.allclose(gradient(loss, logp), differences(loss, logp), atol=1e-8)


@pytest.mark.parametrize("name", list(MAKERS))
def test_a_policy_that_is_its_reference_has_the_loss_ln_2_exactly(name: str) -> None:
    policy, reference = policy_of(name), freeze(policy_of(name).model)
    prompts = [PROMPT] * len(ANSWERS)
    logp_N, _ = token_logps(policy, policy.model, prompts, ANSWERS, 1.0)
    with torch.no_grad():
        reference_N, _ = token_logps(policy, reference, prompts, ANSWERS, 1.0)
    lengths = [len(answer) for answer in ANSWERS]
    loss = dpo_loss(
        sums_by_answer(logp_N, lengths), sums_by_answer(reference_N, lengths), [1, 2, None], beta=0.1
    )  # fmt: skip
    assert loss.item() == torch.tensor(math.log(2.0)).item()


def test_the_gradient_through_a_model_is_that_of_finite_differences_in_float64() -> None:
    """GPT-2's, whose layers compute in the type of their weights; Llama's norms are always float32."""
    policy, reference = policy_of("gpt2"), freeze(policy_of("gpt2", seed=4).model)
    policy.model.double()
    reference.double()

    def logps(model: torch.nn.Module) -> Tensor:
        rows = [torch.tensor([PROMPT + answer]) for answer in ANSWERS]
        found = []
        for row in rows:
            all_logp = torch.log_softmax(model(input_ids=row, use_cache=False).logits[0, :-1], -1)
            found.append(all_logp.gather(1, row[0, 1:, None])[len(PROMPT) - 1 :, 0].sum())
        return torch.stack(found)

    with torch.no_grad():
        reference_K = logps(reference)
    weight = policy.model.get_parameter("transformer.h.0.mlp.c_fc.weight")
    loss = dpo_loss(logps(policy.model), reference_K, [1, None, 2], beta=0.5)
    (own,) = torch.autograd.grad(loss, weight)
    with torch.no_grad():
        for row, column in ((0, 0), (3, 7), (11, 20)):
            ends = []
            for step in (1e-6, -1e-6):
                weight[row, column] += step
                ends.append(dpo_loss(logps(policy.model), reference_K, [1, None, 2], beta=0.5).item())
                weight[row, column] -= step
            assert own[row, column].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-8)


def test_log_probs_are_summed_by_answer() -> None:
    assert sums_by_answer(of([1.0, 2.0, 3.0, 4.0]), [1, 3]).tolist() == [1.0, 9.0]
