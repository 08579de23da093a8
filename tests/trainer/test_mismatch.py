"""Where sampler and learner differ, tokens are weighed back, and by nothing that has a gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ponder import metrics
from ponder.engine import Correction
from ponder.errors import KnobError, RecipeError
from ponder.knobs import Knobs, get_value, with_value
from ponder.presets import check_together
from ponder.recipe import Recipe, dump_recipe, parse_recipe
from tests.trainer.test_learning import batch, gradient, knobs_with
from trainer.answers import Answer
from trainer.learn import make_learner
from trainer.mismatch import weigh
from trainer.policy import Policy, token_logps
from trainer.reference import Reference


def apart(policy: Policy) -> list[Answer]:
    """Answers whose sampler said of every token something else than the learner; of one it was far off throughout."""
    answers = batch(policy)
    for place, answer in enumerate(answers):
        logps, far = answer.sampled.logps, 1.5 * (place == 3)
        logps[:] = [logp - 0.9 * math.sin(7.0 * at + place) - far for at, logp in enumerate(logps)]
    return answers


def by_hand(policy: Policy, answers: list[Answer], truncate: float, gate: float) -> Tensor:
    """The gradient of - sum of c A log pi / N over the batch's tokens, by autograd, an answer at a time."""
    policy.model.zero_grad()
    tokens = sum(answer.drawn for answer in answers)
    for answer in answers:
        logp_T, _ = token_logps(policy, policy.model, [answer.prompt_ids], [answer.sampled.ids], 1.0)
        away_T = logp_T.detach() - torch.tensor(answer.sampled.logps)
        c_T = torch.tensor([min(math.exp(d), truncate) if truncate else 1.0 for d in away_T.tolist()])
        mean_ratio = math.exp(sum(away_T.tolist()) / len(away_T))
        if gate and not 1 / gate <= mean_ratio <= gate:
            c_T = torch.zeros_like(c_T)
        torch.autograd.backward(-(c_T * answer.advantage * logp_T).sum() / tokens)
    return torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None])


def corrected(recipe: Recipe, truncate: float, gate: float, **more: object) -> Knobs:
    return knobs_with(recipe, kl_coef=0.0, mismatch_truncate=truncate, mismatch_gate=gate, **more)


@pytest.mark.parametrize(("truncate", "gate"), [(1.5, 0.0), (0.0, 1.6), (1.5, 1.6)])
@pytest.mark.parametrize("budget", [100_000, 16])
def test_the_gradient_is_that_of_the_weighed_loss_and_none_goes_through_the_weights(
    policy: Policy, recipe: Recipe, truncate: float, gate: float, budget: int
) -> None:
    answers = apart(policy)
    plain = gradient(policy, answers, corrected(recipe, 0.0, 0.0))
    learnt = gradient(policy, answers, corrected(recipe, truncate, gate, optim_micro_batch_tokens=budget))
    assert torch.allclose(learnt, by_hand(policy, answers, truncate, gate), atol=1e-6)
    assert (learnt - plain).abs().max() > 1e-3


def test_the_weights_stay_those_of_before_the_first_update(policy: Policy, recipe: Recipe) -> None:
    """In later passes the policy has moved, which is the ratio's affair."""
    answers = apart(policy)
    once = corrected(recipe, 1.5, 1.6, optim_lr=0.02)
    many = with_value(once, "policy.updates_per_batch", 3)

    def told(knobs: Knobs) -> list[float]:
        policy.model.load_state_dict(start)
        make_learner(policy, knobs).learn(answers, knobs, Reference(lambda: policy.model))
        return [answer.learnt.correction for answer in answers if answer.learnt]

    start = {name: value.clone() for name, value in policy.model.state_dict().items()}
    assert told(many) == told(once)


def test_what_was_done_is_told_of_the_batch_and_of_each_answer(policy: Policy, recipe: Recipe) -> None:
    answers = apart(policy)
    knobs = corrected(recipe, 1.5, 1.6)
    figures = make_learner(policy, knobs).learn(answers, knobs, Reference(lambda: policy.model))
    away = [
        0.9 * math.sin(7.0 * at + place) + 1.5 * (place == 3)
        for place, a in enumerate(answers)
        for at in range(a.drawn)
    ]
    means = [sum(own) / len(own) for own in _by_answer(away, answers)]
    gated = [abs(mean) > math.log(1.6) for mean in means]
    assert figures[metrics.MISMATCH_TRUNCATED] == pytest.approx(sum(d > math.log(1.5) for d in away) / len(away))
    assert figures[metrics.MISMATCH_GATED] == sum(gated) / len(answers) > 0
    told = [answer.learnt.correction for answer in answers if answer.learnt]
    assert [one == 0.0 for one in told] == gated
    weights = [
        [0.0 if out else min(math.exp(d), 1.5) for d in own]
        for own, out in zip(_by_answer(away, answers), gated, strict=True)
    ]
    assert told == pytest.approx([sum(own) / len(own) for own in weights], abs=1e-4)
    assert figures[metrics.MISMATCH_WEIGHT] == pytest.approx(sum(map(sum, weights)) / len(away), abs=1e-4)


def _by_answer(values: list[float], answers: list[Answer]) -> list[list[float]]:
    rest = iter(values)
    return [[next(rest) for _ in range(answer.drawn)] for answer in answers]


def test_off_it_is_neither_done_nor_told_and_changes_no_bit(policy: Policy, recipe: Recipe) -> None:
    answers = batch(policy)
    off = gradient(policy, answers, knobs_with(recipe))
    still = knobs_with(recipe, optim_lr=0.0)
    figures = make_learner(policy, still).learn(answers, still, Reference(lambda: policy.model))
    told = {metrics.MISMATCH_TRUNCATED, metrics.MISMATCH_GATED, metrics.MISMATCH_WEIGHT}
    assert not told & figures.keys()
    assert all(answer.learnt and answer.learnt.correction == 1.0 for answer in answers)
    for answer in answers:
        answer.sampled.logps[:] = [logp - 1.0 for logp in answer.sampled.logps]
    assert torch.equal(gradient(policy, answers, knobs_with(recipe)), off)


def test_an_answer_without_a_number_is_gated_and_only_it() -> None:
    away_N = torch.tensor([0.01, math.nan, -0.02, 0.03])
    weight_N, _, is_gated_B = weigh(away_N, torch.tensor([2, 2]), Correction(2.0, 1.1))
    assert is_gated_B.tolist() == [True, False]
    assert weight_N.tolist() == pytest.approx([0.0, 0.0, math.exp(-0.02), math.exp(0.03)])


@pytest.mark.parametrize("engine", ["cb", "vllm"])
def test_an_engine_brings_its_correction_and_what_a_person_says_wins(recipe: Recipe, engine: str) -> None:
    plain = dump_recipe(recipe).replace("[mismatch]\ntruncate = 0.0\ngate = 0.0\n", "")
    assert plain != dump_recipe(recipe)
    names = ("mismatch.truncate", "mismatch.gate")

    def values(text: str, **overrides: object) -> list[object]:
        told = {name.replace("_", ".", 1): str(value) for name, value in overrides.items()}
        return [get_value(parse_recipe(text, "tiny.toml", told).knobs, name) for name in names]

    assert values(plain) == [0.0, 0.0]
    assert values(plain, sampling_engine=engine) == [2.0, 1.1]
    assert values(plain, sampling_engine=engine, mismatch_gate=0) == [2.0, 0.0]
    chosen = plain.replace('engine = "local"', f'engine = "{engine}"')
    assert values(chosen) == [2.0, 1.1]
    assert values(chosen, sampling_engine="local") == [0.0, 0.0]


def test_a_gate_that_nothing_passes_is_refused(recipe: Recipe) -> None:
    with pytest.raises(KnobError, match="nothing would be learnt"):
        check_together(with_value(recipe.knobs, "mismatch.gate", 0.5))
    with pytest.raises(RecipeError, match="nothing would be learnt"):
        parse_recipe(dump_recipe(recipe), "tiny.toml", {"mismatch.gate": "0.5"})
