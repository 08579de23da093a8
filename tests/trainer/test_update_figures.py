"""What an update says of itself in numbers, against the same computed from log-probs."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import msgspec
import pytest
import torch

from ponder import metrics
from ponder.events import StepDone
from ponder.recipe import Recipe, dump_recipe, parse_recipe
from tests.trainer.conftest import make_tiny_model
from tests.trainer.test_learning import batch, knobs_with
from tests.trainer.test_loop import go, of, tensors_of
from trainer import builtin
from trainer.answers import Answer
from trainer.learn import make_learner
from trainer.policy import Policy, make_policy, token_logps
from trainer.reference import Reference


def logps(policy: Policy, answers: list[Answer], temperature: float) -> list[float]:
    prompts, ids = [answer.prompt_ids for answer in answers], [answer.sampled.ids for answer in answers]
    logp_N, _ = token_logps(policy, policy.model, prompts, ids, temperature)
    return [float(logp) for logp in logp_N.detach()]


def test_the_size_of_a_step_is_the_divergence_from_before_its_updates_to_after(policy: Policy, recipe: Recipe) -> None:
    answers = batch(policy)
    knobs = knobs_with(
        recipe, policy_updates_per_batch=3, policy_minibatches=2, optim_lr=0.02, evaluation_after_update=True
    )
    before = logps(policy, answers, knobs.sampling.temperature)
    figures = make_learner(policy, knobs).learn(answers, knobs, Reference(lambda: policy.model))
    after = logps(policy, answers, knobs.sampling.temperature)
    moved = [math.exp(new - old) - (new - old) - 1 for old, new in zip(before, after, strict=True)]
    assert figures[metrics.KL_AFTER] == pytest.approx(sum(moved) / len(moved), rel=1e-3)
    assert figures[metrics.KL_AFTER] > 1e-4


def test_measuring_the_size_of_a_step_changes_nothing_else(recipe: Recipe, tmp_path: Path) -> None:
    measured = msgspec.structs.replace(recipe, evaluation=msgspec.structs.replace(recipe.evaluation, after_update=True))
    first, second = go(recipe, tmp_path / "plain"), go(measured, tmp_path / "measured")
    moved = [step.metrics[metrics.KL_AFTER] for step in of(second, StepDone)]
    assert min(moved) >= 0.0 and max(moved) > 0.0
    for one, two in zip(of(first, StepDone), of(second, StepDone), strict=True):
        learnt = {name: value for name, value in two.metrics.items() if not name.startswith(metrics.MACHINE)}
        del learnt[metrics.KL_AFTER]
        assert learnt == {name: value for name, value in one.metrics.items() if not name.startswith(metrics.MACHINE)}
    kept, same = tensors_of(tmp_path / "plain", 4), tensors_of(tmp_path / "measured", 4)
    assert all(kept[name].equal(same[name]) for name in kept)


def test_ratios_and_cut_gradients_are_told_over_all_updates(recipe: Recipe) -> None:
    """Two equal policies: one shows where the first update leads, the other tells of two."""
    one, other = (make_policy(make_tiny_model(), builtin.countdown_tokenizer(), torch.device("cpu")) for _ in range(2))
    once, twice = (
        knobs_with(recipe, policy_updates_per_batch=count, optim_lr=0.02, kl_coef=0.0, optim_grad_clip=1e-6)
        for count in (1, 2)
    )
    answers = batch(one)
    before = logps(one, answers, once.sampling.temperature)
    first = make_learner(one, once).learn(answers, once, Reference(lambda: one.model))
    after = logps(one, answers, once.sampling.temperature)
    assert first[metrics.RATIO_STD] < 1e-3 and first[metrics.RATIO_K1] == 0.0
    assert first[metrics.GRAD_CLIPPED] == 1.0
    figures = make_learner(other, twice).learn(answers, twice, Reference(lambda: other.model))
    ratio = [1.0] * len(before) + [math.exp(new - old) for old, new in zip(before, after, strict=True)]
    assert figures[metrics.RATIO_MEAN] == pytest.approx(statistics.fmean(ratio), rel=1e-5)
    assert figures[metrics.RATIO_STD] == pytest.approx(statistics.pstdev(ratio), rel=1e-3)
    assert figures[metrics.RATIO_K1] == pytest.approx((sum(before) - sum(after)) / len(ratio), rel=1e-3)
    assert figures[metrics.CLIP_REGION] == figures[metrics.CLIP_LOW] + figures[metrics.CLIP_HIGH] > 0.0


def test_the_phases_of_learning_are_told_and_no_longer_than_the_whole(recipe: Recipe, tmp_path: Path) -> None:
    free = parse_recipe(dump_recipe(recipe), "tiny.toml", {"kl.coef": "0"})
    charged = parse_recipe(
        dump_recipe(recipe), "tiny.toml", {"kl.where": "reward", "kl.estimator": "k1", "policy.minibatches": "2"}
    )
    for step in of(go(free, tmp_path / "free"), StepDone):
        assert step.metrics[metrics.REFERENCE_S] == 0.0 < step.metrics[metrics.OPTIMIZER_S]
    for step in of(go(charged, tmp_path / "charged"), StepDone):
        reference_s, optimizer_s = step.metrics[metrics.REFERENCE_S], step.metrics[metrics.OPTIMIZER_S]
        assert min(reference_s, optimizer_s) > 0.0
        assert reference_s + optimizer_s < step.metrics[metrics.LEARN_S]
