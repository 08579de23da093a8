"""Asking says what the text says where the text says something, and something where it says nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from msgspec.structs import replace

from ponder.events import Outcome
from ponder.knobs import Knobs
from ponder.recipe import ModelPart, parse_recipe
from tests.trainer.conftest import RECIPE
from trainer.answers import Answer
from trainer.causal import check_cause
from trainer.places import draw_answers
from trainer.policy import Policy, load_policy
from trainer.probe import Asked, ask_at_turns
from trainer.sampler import sampler_of
from trainer.tasks import Candidate, Problem
from trainer.tasks.countdown import WAIT, Countdown

FORCING = Countdown.forcing


@dataclass(frozen=True)
class Silent(Countdown):
    """Countdown whose reader sees nothing before a `wait`: there are only last words."""

    def candidates(self, problem: Problem, text: str) -> list[Candidate]:
        return [one for one in super().candidates(problem, text) if WAIT not in text[one.end :].split()]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    folder = tmp_path_factory.mktemp("models")
    return load_policy(ModelPart(path="builtin:countdown-base"), device="cpu", models_folder=folder)


@pytest.fixture(scope="module")
def knobs() -> Knobs:
    return parse_recipe(RECIPE.format(model="x"), "test", {"sampling.max_new_tokens": 40}).knobs


def answers_to(base: Policy, task: Countdown, knobs: Knobs) -> list[Answer]:
    generator = torch.Generator().manual_seed(2)
    return draw_answers(base, sampler_of(base), task, knobs, task.held_out(48), 8, generator)


def asked_of(base: Policy, task: Countdown, answers: Sequence[Answer], most: int = 1000) -> Asked:
    return ask_at_turns(base, sampler_of(base), task, FORCING, answers, most, torch.Generator().manual_seed(3))


def test_it_agrees_with_what_countdown_states(base: Policy, knobs: Knobs) -> None:
    answers = answers_to(base, Countdown(), knobs)
    found = asked_of(base, Countdown(), answers)
    marks = [mark for answer in answers for mark in answer.reflections.marks if mark.token >= 0]
    assert found.turns == len(marks) >= 20
    assert found.stated == sum(bool(mark.before) for mark in marks)
    assert found.alike >= 0.8 * found.stated
    assert found.same_outcome >= 0.8 * found.stated
    assert sum(found.outcomes.values()) == found.turns
    few = asked_of(base, Countdown(), answers, most=5)
    assert few.turns == 5


def test_where_the_text_states_nothing_there_is_an_outcome_all_the_same(base: Policy, knobs: Knobs) -> None:
    """The same answers, read by somebody who sees no interim answer: asking brings back what they did."""
    plain, hidden = answers_to(base, Countdown(), knobs), answers_to(base, Silent(), knobs)
    assert [answer.text for answer in plain] == [answer.text for answer in hidden]
    outcomes = {mark.outcome for answer in hidden for mark in answer.reflections.marks}
    assert outcomes == {Outcome.UNANCHORED}
    found, known = asked_of(base, Silent(), hidden), asked_of(base, Countdown(), plain)
    assert found.stated == 0 and found.unstated == found.outcomes
    alike = sum(min(found.outcomes.get(outcome, 0), known.outcomes.get(outcome, 0)) for outcome in Outcome)
    assert alike >= 0.7 * found.turns


def test_the_causal_check_asks_only_where_it_is_told_how(base: Policy, knobs: Knobs) -> None:
    told, plain = (
        check_cause(
            base, sampler_of(base), Countdown(), knobs, problems=16, samples=8, continuations=1, seed=3, forcing=forcing
        )
        for forcing in (FORCING, None)
    )
    assert told is not None and plain is not None and told.asked is not None
    assert told.asked.turns >= told.turns
    assert replace(told, asked=None) == plain
