"""The whole way from rewards to a gradient, against float64 enumeration.

A policy of three tokens that draws uniformly: a batch that holds every answer as often as it is likely (nine answers,
or 81 pairs of them) is the expectation itself. So the gradient that credit, learner and loss make of it, in float32,
must be that of the true objective, with nothing drawn and nothing averaged.
"""

from __future__ import annotations

import itertools
from typing import cast

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import CausalLMOutput

from ponder import metrics
from ponder.knobs import KlEstimator, KnobValue, with_value
from tests.trainer.enumerated import (
    ALL,
    KNOBS,
    REWARDS,
    START,
    answer_of,
    divergence,
    expectation,
    gradient,
    logps,
    numeric_gradient,
)
from tests.trainer.test_credit import critic_saying
from trainer.answers import Answer
from trainer.credit import give_credit
from trainer.critic import Critic
from trainer.learn import make_learner
from trainer.policy import Policy
from trainer.reference import Reference

UNIFORM = torch.zeros(3, 3, dtype=torch.float64)
NINE = [(0,)] * 3 + [answer for answer in ALL if len(answer) == 2]
LIMIT = 2
"""Tokens of the longest answer, by which the constant normaliser divides."""
KL = 0.3


class Table(PreTrainedModel):
    """Next-token logits by the token before: a row for the prompt, one after a 1, one after a 2."""

    config_class = PreTrainedConfig

    def __init__(self, theta: Tensor) -> None:
        super().__init__(PreTrainedConfig.from_dict({"vocab_size": 3}))
        self.theta = torch.nn.Parameter(theta.float())

    def forward(self, input_ids: Tensor, use_cache: bool = False) -> CausalLMOutput:  # noqa: ARG002  # transformers' word
        state_BT = input_ids.clone()
        state_BT[:, 0] = 0
        return CausalLMOutput(logits=self.theta[state_BT])


def learnt(
    answers: list[Answer], settings: dict[str, KnobValue], critic: Critic | None = None
) -> tuple[Tensor, dict[str, float]]:
    """(the gradient of the loss, the figures) of one update."""
    knobs = KNOBS
    base: dict[str, KnobValue] = {
        "optim.lr": 0.0, "optim.grad_clip": 0.0, "optim.micro_batch_tokens": 16, "sampling.max_new_tokens": LIMIT,
        "policy.drop_flat_groups": False, "policy.mask_truncated": False, "policy.normaliser": "constant",
        "kl.coef": 0.0,
    }  # fmt: skip
    for name, value in {**base, **settings}.items():
        knobs = with_value(knobs, name, value)
    model = Table(UNIFORM)
    nothing = cast(PreTrainedTokenizerBase, None)
    policy = Policy(model, nothing, (0,), 0, torch.device("cpu"), has_plain_head=False)
    reference, learner = Reference(lambda: Table(START)), make_learner(policy, knobs)
    reference.prepare(knobs)
    give_credit(answers, knobs, policy=policy, reference=reference, critic=critic, kl=knobs.kl.coef)
    figures = learner.learn(answers, knobs, reference)
    assert model.theta.grad is not None
    return model.theta.grad.double(), figures


def every_answer() -> list[Answer]:
    return [answer_of(ids, theta=UNIFORM, group=place) for place, ids in enumerate(NINE)]


def every_pair() -> list[Answer]:
    pairs = itertools.product(NINE, NINE)
    return [answer_of(ids, theta=UNIFORM, group=group) for group, pair in enumerate(pairs) for ids in pair]


def expected_reward(theta: Tensor) -> Tensor:
    return expectation(theta, lambda answer: REWARDS[answer])


TRUE = gradient(expected_reward, UNIFORM)
CHARGED = gradient(lambda theta: expected_reward(theta) - KL * divergence(theta), UNIFORM)


def same(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=0, atol=1e-6)


def test_nine_answers_are_the_expectation() -> None:
    chances = {answer: logps(UNIFORM, answer).sum().exp().item() for answer in ALL}
    assert {answer: NINE.count(answer) / 9 for answer in ALL} == pytest.approx(chances)
    assert TRUE.abs().max() > 0.05 and not torch.allclose(TRUE, CHARGED, atol=0.01)


@pytest.mark.parametrize("clip", ["ppo", "cispo", "none"])
def test_rloo_learns_the_gradient_of_the_expected_reward(clip: str) -> None:
    settings = {"policy.advantage": "leave_one_out", "policy.advantage_scale": "none", "policy.clip": clip}
    found, _ = learnt(every_pair(), dict(settings))
    assert same(-LIMIT * found, TRUE)


def test_rloo_charges_the_divergence_with_its_whole_gradient() -> None:
    settings: dict[str, KnobValue] = {
        "policy.advantage": "leave_one_out", "policy.advantage_scale": "none", "policy.clip": "none",
        "kl.coef": KL, "kl.estimator": "k1", "kl.where": "reward",
    }  # fmt: skip
    found, _ = learnt(every_pair(), settings)
    assert same(-LIMIT * found, CHARGED)


def test_grpo_learns_the_gradient_of_its_own_objective() -> None:
    """Eq. 3 of arXiv:2402.03300 in plain numbers, differentiated by differences."""
    settings: dict[str, KnobValue] = {"policy.advantage_scale": "group", "policy.normaliser": "sequence"}

    def by_hand(theta: Tensor) -> float:
        total = 0.0
        for pair in itertools.product(ALL, ALL):
            chance = float(torch.stack([logps(UNIFORM, answer).sum() for answer in pair]).sum().exp())
            centre = sum(REWARDS[answer] for answer in pair) / 2
            spread = abs(REWARDS[pair[0]] - REWARDS[pair[1]]) / 2
            for answer in pair:
                ratio = (logps(theta, answer) - logps(UNIFORM, answer)).exp().mean()
                total += chance * float(ratio) * (REWARDS[answer] - centre) / (spread + 1e-6) / 2
        return total

    found, _ = learnt(every_pair(), settings)
    assert same(-found, numeric_gradient(by_hand, UNIFORM))
    straight = torch.nn.functional.cosine_similarity(found.flatten(), -TRUE.flatten(), dim=0)
    assert straight < 0.999


def test_dr_grpo_learns_the_gradient_but_for_the_share_of_siblings() -> None:
    found, _ = learnt(every_pair(), {"policy.advantage_scale": "none"})
    assert same(-LIMIT * found, TRUE / 2)  # (G - 1) / G


@pytest.mark.parametrize("charge", [0.0, KL])
def test_ppo_learns_the_gradient_whatever_its_critic_says(charge: float) -> None:
    """With lambda 1; a cut is worth nothing further on."""
    settings: dict[str, KnobValue] = {
        "policy.advantage_scale": "none", "policy.advantage": "gae", "critic.gae_lambda": 1.0, "critic.gamma": 1.0,
        "kl.coef": charge, "kl.estimator": "k1", "kl.where": "reward",
    }  # fmt: skip
    found, _ = learnt(every_answer(), settings, critic_saying(0.4, (-0.7, 0.3), 0.0))
    assert same(-LIMIT * found, CHARGED if charge else TRUE)


def divergence_where_it_was(theta: Tensor) -> Tensor:
    """The divergence of each place's next token, summed over the places that the policy came to when it sampled."""
    table, start = torch.log_softmax(theta, -1), torch.log_softmax(START, -1)
    each = (table.exp() * (table - start)).sum(-1)
    return each[0] + (each[1] + each[2]) / 3


@pytest.mark.parametrize("estimator", list(KlEstimator))
def test_in_the_loss_every_estimator_has_the_gradient_of_the_divergence_of_the_next_token(
    estimator: KlEstimator,
) -> None:
    """And not that of whole answers: what a token does to the divergence of later ones is left out."""
    settings: dict[str, KnobValue] = {"kl.coef": KL, "kl.estimator": str(estimator), "kl.where": "loss"}
    found, figures = learnt(every_answer(), settings)  # each alone in its group, so that no reward teaches
    wanted = gradient(divergence_where_it_was, UNIFORM)
    assert same(LIMIT * found, KL * wanted)
    assert not torch.allclose(wanted, gradient(divergence, UNIFORM), atol=1e-2)
    tokens = sum(len(ids) for ids in NINE)
    value = divergence_where_it_was(UNIFORM).item() * 9 / tokens
    assert figures[metrics.KL_K1] == pytest.approx(value, abs=1e-6)
    assert figures[metrics.KL_K3] == pytest.approx(value, abs=1e-6)
    assert figures[metrics.KL_ANSWER] == pytest.approx(divergence(UNIFORM).item(), abs=1e-6)
