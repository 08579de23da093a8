"""A run that measures itself with several answers to each problem says what k of them come to, and learns the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from ponder import metrics
from ponder.attempts import majority, pass_at
from ponder.events import Evaluated
from ponder.recipe import Recipe
from tests.trainer.test_loop import go, of, tensors_of
from trainer.evaluate import evaluate
from trainer.policy import Policy
from trainer.sampler import sampler_of
from trainer.tasks.countdown import Countdown
from trainer.thoughts import vote_of


def test_pass_and_cons_are_those_of_its_own_answers(policy: Policy, recipe: Recipe) -> None:
    knobs = replace(recipe.knobs, evaluation=replace(recipe.evaluation, samples=4))
    figures, answers = evaluate(policy, sampler_of(policy), Countdown(), knobs, problems=30, seed=1, step=7)
    groups = [answers[start : start + 4] for start in range(0, 120, 4)]
    assert all(len({answer.problem.key for answer in group}) == 1 for group in groups)
    rights = [sum(answer.is_correct for answer in group) for group in groups]
    votes = [
        [(vote_of(a.candidates[-1].value) if a.candidates else "", a.is_correct) for a in group] for group in groups
    ]
    assert figures[metrics.EVAL_ACCURACY] == pytest.approx(sum(rights) / 120)
    assert figures["eval/pass@4"] == pytest.approx(sum(pass_at(4, 4, right) for right in rights) / 30)
    assert figures["eval/cons@4"] == pytest.approx(sum(map(majority, votes)) / 30)
    assert figures[metrics.EVAL_PROBLEMS] == 30
    assert figures[metrics.EVAL_LOW] <= figures[metrics.EVAL_ACCURACY] <= figures[metrics.EVAL_HIGH]


def test_one_answer_is_measured_as_ever(policy: Policy, recipe: Recipe) -> None:
    figures, answers = evaluate(policy, sampler_of(policy), Countdown(), recipe.knobs, problems=9, seed=1, step=7)
    assert len(answers) == 9
    assert not any("@" in name for name in figures)


def test_how_often_it_is_measured_changes_nothing_that_is_learnt(recipe: Recipe, tmp_path: Path) -> None:
    many = replace(recipe, evaluation=replace(recipe.evaluation, samples=3))
    one, other = go(recipe, tmp_path / "one"), go(many, tmp_path / "many")
    assert all("eval/cons@3" in event.metrics for event in of(other, Evaluated))
    assert [event.step for event in of(one, Evaluated)] == [event.step for event in of(other, Evaluated)]
    first, second = (tensors_of(tmp_path / name, 4) for name in ("one", "many"))
    assert all(torch.equal(first[name], second[name]) for name in first)
