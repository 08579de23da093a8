"""What continuations come to is what is to be expected, and a critic is held against it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ponder.recipe import Recipe, parse_recipe
from tests.trainer.conftest import RECIPE
from tests.trainer.test_loop import NO_MODELS, go
from trainer.places import Place, continue_from, next_chances
from trainer.policy import Policy, load_policy
from trainer.sampler import sampler_of
from trainer.talk import load_talk
from trainer.tasks.countdown import Countdown
from trainer.values import AnswerValues, PlaceValue, find_values, load_critic, together


@pytest.fixture
def ppo(tiny_folder: Path) -> Recipe:
    text = RECIPE.format(model=tiny_folder)
    return parse_recipe(
        text.replace("[policy]", '[policy]\npreset = "ppo"'), "tiny.toml", {"stage.steps": 2, "kl.coef": 0.0}
    )


def test_at_the_end_of_an_answer_nothing_is_open_any_more(policy: Policy, recipe: Recipe) -> None:
    """Behind a written answer only its end can come, so that every continuation is that answer."""
    task = Countdown()
    (problem,) = task.held_out(1)
    prompt = policy.prompt_ids(problem.prompt)
    right = policy.answer_ids(task.reference(problem), has_ended=True)
    wrong = policy.answer_ids("1 + 1 = 2 + 1 = 3", has_ended=True)
    places = [Place(problem, prompt, ids[:-1]) for ids in (right, wrong)]
    starts = [[policy.end_ids[0]] * 3] * 2
    knobs = parse_recipe(RECIPE.format(model="x"), "x", {"sampling.max_new_tokens": 60}).knobs
    shares = continue_from(policy, sampler_of(policy), task, knobs, places, starts, torch.Generator())
    assert shares == [1.0, 0.0]
    next_PV = next_chances(policy, places, recipe.knobs.sampling.temperature)
    assert next_PV.sum(-1).tolist() == pytest.approx([1.0, 1.0])


def test_a_checkpoints_critic_says_what_it_said_while_it_learnt(ppo: Recipe, tmp_path: Path) -> None:
    go(ppo, tmp_path)
    folder = tmp_path / "step-000002"
    talk, _ = load_talk(folder, ppo, device="cpu", models_folder=NO_MODELS)

    def load_start() -> torch.nn.Module:
        return load_policy(ppo.model, device="cpu", models_folder=NO_MODELS).model

    critic = load_critic(talk.policy, ppo.knobs, folder, load_start)  # type: ignore[arg-type]  # a model is a module
    assert critic is not None and critic.head.weight.abs().max() > 0
    assert load_critic(talk.policy, ppo.knobs, None, load_start) is None  # type: ignore[arg-type]
    found = find_values(
        talk.policy, sampler_of(talk.policy), talk.task, ppo.knobs, critic, problems=3, samples=2, continuations=2,
        every=4, seed=1,
    )  # fmt: skip
    assert len(found.answers) == 6
    for answer in found.answers:
        assert [place.token for place in answer.places] == list(range(0, 4 * len(answer.places), 4))
        assert all(place.foretold is not None and place.continued in (0.0, 0.5, 1.0) for place in answer.places)
    assert json.dumps([place.text for answer in found.answers for place in answer.places])


def test_how_far_both_go_together_is_said_with_an_interval_over_problems() -> None:
    def answer(number: int, turned: bool) -> AnswerValues:
        shares = [0.1 * ((number + place) % 7) for place in range(4)]
        places = [
            PlaceValue(place, "", share, 0.5 - share if turned else 2 * share) for place, share in enumerate(shares)
        ]
        return AnswerValues(f"problem {number}", True, places)

    alike = together([answer(number, turned=False) for number in range(9)], 1)
    assert alike is not None and (alike.value, alike.low, alike.high) == pytest.approx((1.0, 1.0, 1.0))
    mixed = together([answer(number, turned=number % 3 == 0) for number in range(30)], 1)
    assert mixed is not None and mixed.low < mixed.value < mixed.high < 1.0
    assert together([AnswerValues("p", True, [PlaceValue(0, "", 0.5, None)])], 1) is None
