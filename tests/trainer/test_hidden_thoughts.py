"""What is left of an answer where its thinking is hidden, and how much less a student learns from that."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from ponder import metrics
from ponder.knobs import Evaluation, Knobs, Sampling
from ponder.recipe import ModelPart, builtin_recipes, parse_recipe, read_recipe_text
from ponder.stage import StageKind, StagePart
from tests.trainer.chains import NO_MODELS, go
from tests.trainer.gold_turns import Gold
from tests.trainer.test_turn_figures import RIGHT, WRONG, answer_of, written
from trainer.evaluate import evaluate
from trainer.policy import Policy, load_policy
from trainer.reject import Keeper
from trainer.row_file import RowFile
from trainer.sampler import LocalSampler
from trainer.tasks import Problem
from trainer.tasks.countdown import Countdown, attempts_with

LIMITS = (11, 34, 80)
"""Tokens of the variants `forbidden` and `brief` of `countdown-thought`, and of the recipe itself."""


def keep(golds: Iterable[Gold], path: Path) -> list[dict[str, object]]:
    """The rows of the set that these answers become."""
    keeper = Keeper(path, StagePart(StageKind.REJECT, 1))
    keeper.open_at(0)
    keeper.take([answer_of(gold, group) for group, gold in enumerate(golds)], 1)
    return RowFile(path).open_at(path.stat().st_size)


def test_a_set_keeps_what_is_left_of_an_answer_whose_thinking_is_hidden(tmp_path: Path) -> None:
    text = f"{WRONG} no wait {RIGHT} ok"
    (row,) = keep([written(text, is_right=True)], tmp_path / "turned.jsonl")
    assert row["response"] == text
    assert row["summary"] == f"3 + 7 = 10 + 5 wait {RIGHT} ok"  # neither the sum nor the verdict
    assert row["answer_alone"] == f"{RIGHT} ok"
    (row,) = keep([written(RIGHT, is_right=True)], tmp_path / "direct.jsonl")
    assert row["response"] == row["summary"] == row["answer_alone"] == RIGHT


def searched(problem: Problem, dice: random.Random) -> Gold:
    """An honest search that ends at what is right."""
    x, y, z = sorted(problem.numbers)
    tried = dice.sample(attempts_with((x, y, z)), len(attempts_with((x, y, z))))
    wrong = next(place for place, attempt in enumerate(tried) if attempt.value == problem.target)
    text = "".join(f"{attempt} no wait " for attempt in tried[:wrong]) + f"{tried[wrong]} ok"
    return Gold(problem, text, is_right=True)


@pytest.fixture(scope="module")
def harvest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Searches of seven attempts at most, as a set."""
    path, task, dice = tmp_path_factory.mktemp("harvest") / "harvest.jsonl", Countdown(), random.Random(1)
    golds = [searched(task.training_problem(1, place), dice) for place in range(900)]
    keep([gold for gold in golds if len(gold.text.split()) < 80], path)
    return path


def teach(name: str, harvest: Path, folder: Path) -> Policy:
    """A student of the recipe who learns from this set instead."""
    path = builtin_recipes()["countdown-hidden"]
    student = next(part for part in parse_recipe(read_recipe_text(path), str(path)).stages if part.stage.name == name)
    column = student.stage.data.response
    text = f"""
        run = {{ name = "student" }}
        model = {{ path = "{student.model.path}" }}
        task = {{ name = "countdown" }}
        stage = {{ kind = "distil", steps = 12, data = {{ path = "{harvest}", response = "{column}" }} }}
        compute = {{ device = "cpu" }}
        sampling = {{ max_new_tokens = 80 }}
        optim = {{ lr = {student.optim.lr}, micro_batch_tokens = 4096 }}
        supervised = {{ batch_tokens = 1600 }}
        evaluation = {{ every_steps = 0, problems = 8, final_problems = 8 }}
    """
    recipe = parse_recipe(text, "student.toml")
    go(recipe, folder)
    model = ModelPart(str(folder / f"checkpoints/step-{recipe.steps:06d}"))
    return load_policy(model, device="cpu", models_folder=NO_MODELS)


@pytest.fixture(scope="module")
def searcher(harvest: Path, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """The student who read everything."""
    return teach("raw", harvest, tmp_path_factory.mktemp("raw"))


def come_to(student: Policy, longest: int = 80) -> dict[str, float]:
    """What a student comes to who may write so many tokens."""
    sampler = LocalSampler(student.model, end_ids=student.end_ids, pad_id=student.pad_id)
    knobs = Knobs(sampling=Sampling(max_new_tokens=longest))
    figures, _ = evaluate(student, sampler, Countdown(), knobs, problems=128, seed=1, step=0)
    return figures


def test_a_student_learns_to_search_from_thoughts_and_not_from_what_is_shown_of_them(
    searcher: Policy, harvest: Path, tmp_path: Path
) -> None:
    raw = come_to(searcher)
    summary, answer = (come_to(teach(name, harvest, tmp_path / name)) for name in ("summary", "answer"))
    assert raw[metrics.EVAL_REFLECT] > 0.7 > 0.3 > answer[metrics.EVAL_REFLECT]
    assert raw[metrics.EVAL_ACCURACY] > summary[metrics.EVAL_ACCURACY] + 0.1
    assert raw[metrics.EVAL_ACCURACY] > answer[metrics.EVAL_ACCURACY] + 0.05


def test_who_searches_is_right_the_more_often_the_longer_he_may(searcher: Policy) -> None:
    forbidden, brief, allowed = (come_to(searcher, longest)[metrics.EVAL_ACCURACY] for longest in LIMITS)
    assert allowed > brief + 0.05 and brief > forbidden + 0.05


def test_a_vote_of_several_answers_is_right_more_often_than_one(searcher: Policy) -> None:
    sampler = LocalSampler(searcher.model, end_ids=searcher.end_ids, pad_id=searcher.pad_id)
    knobs = Knobs(sampling=Sampling(max_new_tokens=80), evaluation=Evaluation(samples=8))
    figures, _ = evaluate(searcher, sampler, Countdown(), knobs, problems=40, seed=1, step=0)
    assert figures["eval/cons@8"] > figures[metrics.EVAL_ACCURACY] + 0.05
