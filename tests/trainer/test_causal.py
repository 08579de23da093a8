"""Forbidding and forcing a marker: on a policy whose answers depend on it by construction, and on the base model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch

from ponder.knobs import Knobs
from ponder.recipe import ModelPart, parse_recipe
from tests.trainer.conftest import RECIPE
from trainer.causal import Arm, bootstrap, check_cause, draw_answers, first_turns
from trainer.policy import Policy, load_policy
from trainer.sampler import sampler_of
from trainer.tasks import Problem
from trainer.tasks.countdown import WAIT, Countdown


@dataclass(frozen=True)
class WantsWaiting(Countdown):
    """Countdown, but right is what says `wait`, or what does not."""

    wants: bool = True

    def score(self, problem: Problem, text: str) -> Mapping[str, float | None]:  # noqa: ARG002  # it is not asked
        return {"correct": float((WAIT in text.split()) is self.wants), "format": 1.0}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    folder = tmp_path_factory.mktemp("models")
    return load_policy(ModelPart(path="builtin:countdown-base"), device="cpu", models_folder=folder)


@pytest.fixture(scope="module")
def knobs() -> Knobs:
    return parse_recipe(RECIPE.format(model="x"), "test", {"sampling.max_new_tokens": 40}).knobs


@pytest.mark.parametrize(("wants", "sign"), [(True, 1), (False, -1)])
def test_the_sign_is_that_of_what_the_marker_causes(base: Policy, knobs: Knobs, wants: bool, sign: int) -> None:
    task = WantsWaiting(wants=wants)
    found = check_cause(
        base,
        sampler_of(base),
        task,
        knobs,
        problems=16,
        samples=8,
        continuations=4,
        seed=3,
    )
    assert found is not None and found.turns >= 3
    assert found.right[Arm.FORCED] == float(wants)  # a forced marker is always in the text
    assert sign * found.forced_less_forbidden.value > 0.3
    low, high = found.forced_less_forbidden.low, found.forced_less_forbidden.high
    assert min(sign * low, sign * high) > 0
    assert 0 < found.marker_chance < 1


def test_prefixes_end_just_before_their_markers(base: Policy, knobs: Knobs) -> None:
    generator = torch.Generator().manual_seed(1)
    task = Countdown()
    answers = draw_answers(base, sampler_of(base), task, knobs, task.held_out(16), 8, generator)
    turns = first_turns(answers)
    assert turns
    for turn in turns:
        assert base.text([turn.marker]).strip() == WAIT
        assert WAIT not in base.text(turn.before).split()


def test_nothing_is_found_where_nothing_turns_back(base: Policy, knobs: Knobs) -> None:
    assert check_cause(
        base, sampler_of(base), Countdown(), knobs, problems=1, samples=1, continuations=1, seed=1
    ) is None  # fmt: skip


def test_an_interval_comes_from_problems_and_not_from_answers() -> None:
    alike = bootstrap([[1.0] * 20, [0.0] * 20, [1.0] * 20, [0.0] * 20], 1)
    apart = bootstrap([[value] for value in [1.0, 0.0] * 40], 1)
    assert alike.value == apart.value == 0.5
    assert alike.high - alike.low > 2 * (apart.high - apart.low)
