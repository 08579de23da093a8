"""Forbidding and forcing a marker: on a policy whose answers depend on it by construction, and on the base model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from ponder import metrics
from ponder.errors import RecipeError
from ponder.events import Evaluated, StepDone
from ponder.knobs import Knobs, with_value
from ponder.recipe import ModelPart, parse_recipe
from tests.trainer.conftest import RECIPE
from tests.trainer.test_loop import go, of
from trainer.causal import Arm, bootstrap, check_cause, first_turns, refuse_cause
from trainer.link import ListLink
from trainer.parallel import Ranks
from trainer.places import draw_answers
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


def test_a_run_checks_now_and_then_and_learns_as_if_it_did_not(tmp_path: Path) -> None:
    text = RECIPE.format(model="builtin:countdown-base").replace("max_new_tokens = 12", "max_new_tokens = 40")

    def runs(cause_every: int) -> ListLink:
        recipe = parse_recipe(text, "test", {
            "stage.steps": 3, "optim.lr": 0.0001, "evaluation.every_steps": 1, "evaluation.cause_every": cause_every,
        })  # fmt: skip
        return go(recipe, tmp_path / str(cause_every))

    checked, plain = runs(2), runs(0)
    of_step = {event.step: event.metrics for event in of(checked, Evaluated)}
    assert [metrics.EVAL_CAUSE in of_step[step] for step in range(4)] == [True, False, True, True]
    for step in (0, 2, 3):
        low, value, high = (
            of_step[step][name] for name in (metrics.EVAL_CAUSE_LOW, metrics.EVAL_CAUSE, metrics.EVAL_CAUSE_HIGH)
        )
        assert -1 <= low <= value <= high <= 1 and of_step[step][metrics.EVAL_CAUSE_TURNS] > 0
    assert of_step[0][metrics.EVAL_CAUSE_LOW] < of_step[0][metrics.EVAL_CAUSE_HIGH]
    learnt = [[event.metrics[metrics.POLICY_LOSS] for event in of(link, StepDone)] for link in (checked, plain)]
    assert learnt[0] == learnt[1]


def test_a_run_of_several_processes_refuses_to_check(knobs: Knobs) -> None:
    asked = with_value(knobs, "evaluation.cause_every", 1)
    refuse_cause(Countdown(), knobs, Ranks(0, 2))
    refuse_cause(Countdown(), asked, Ranks())
    with pytest.raises(RecipeError, match="cause_every"):
        refuse_cause(Countdown(), asked, Ranks(0, 2))


def test_an_interval_comes_from_problems_and_not_from_answers() -> None:
    alike = bootstrap([[1.0] * 20, [0.0] * 20, [1.0] * 20, [0.0] * 20], 1)
    apart = bootstrap([[value] for value in [1.0, 0.0] * 40], 1)
    assert alike.value == apart.value == 0.5
    assert alike.high - alike.low > 2 * (apart.high - apart.low)
