"""Monitors read every answer, and what they find changes nothing unless the recipe says so; then everybody sees it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ponder import metrics
from ponder.errors import RecipeError
from ponder.events import CheckpointSaved, GroupScored, Rollout, RunPaused, RunStarted, StepDone
from ponder.recipe import Recipe, builtin_recipes, dump_recipe, parse_recipe, read_recipe, read_recipe_text
from ponder.wire import Order, ResumeOrder
from tests.trainer.conftest import RECIPE
from tests.trainer.test_loop import go, of, ordering, what_was_learnt
from trainer.link import ListLink
from trainer.rewards.judge import Asked, Judge
from trainer.tasks import find_task

PLUS = '[[monitors]]\nname = "plus"\npattern = "\\\\+"\n'
WORD = '[[monitors]]\nname = "word"\nwords = ["WAIT", "ok"]\n'
ALIKE = '[[monitors]]\nname = "x"\nfunction = "m:f"\n[[rewards]]\nname = "y"\nfunction = "m:f"\n'


def recipe_of(tiny_folder: Path, monitors: str) -> Recipe:
    few: dict[str, str | bool | int | float] = {"stage.steps": 2, "evaluation.every_steps": 0, "saving.every_steps": 0}
    return parse_recipe(RECIPE.format(model=tiny_folder) + monitors, "tiny.toml", few)


def rollouts_of(link: ListLink) -> list[Rollout]:
    return [rollout for group in of(link, GroupScored) for rollout in group.rollouts]


def without_monitors(told: list[object]) -> list[object]:
    """What was learnt, less what monitors say of it."""
    less: list[object] = []
    for event in told:
        if isinstance(event, GroupScored):
            less += [(rollout.text, rollout.reward, rollout.advantage) for rollout in event.rollouts]
        elif isinstance(event, dict):
            less.append({name: value for name, value in event.items() if not name.startswith("monitor/")})
    return less


def test_findings_are_counted_beside_the_reward_and_change_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def long(text):\n    return len(text) > 20\n")
    own = f'[[monitors]]\nname = "long"\nfunction = "{file}:long"\n'
    plain = go(recipe_of(tiny_folder, ""), tmp_path / "plain")
    watched = go(recipe_of(tiny_folder, PLUS + WORD + own), tmp_path / "watched")
    for rollout in rollouts_of(watched):
        words = rollout.text.split()
        assert rollout.parts["monitor/plus"] == rollout.text.count("+")
        assert rollout.parts["monitor/word"] == words.count("wait") + words.count("ok")
        assert rollout.parts["monitor/long"] == float(len(rollout.text) > 20)
    first = [one for group in of(watched, GroupScored) if group.step == 1 for one in group.rollouts]
    (step, _) = of(watched, StepDone)
    for name in ("plus", "word", "long"):
        found = [one.parts[f"monitor/{name}"] > 0 for one in first]
        assert step.metrics[metrics.MONITORED.replace("*", name)] == pytest.approx(sum(found) / len(found))
        assert f"part/monitor/{name}" not in step.metrics
    assert any(one.parts["monitor/plus"] for one in first)
    assert without_monitors(what_was_learnt(watched)) == without_monitors(what_was_learnt(plain))
    assert of(watched, RunStarted)[0].warnings == []


SEVEN = "3 + 7 = 10 + 5 = 15"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{SEVEN} no", 1.0),
        (f"{SEVEN} no wait {SEVEN} no ", 1.0),
        (f"{SEVEN} no wait {SEVEN} ok", 0.0),
        (f"{SEVEN} no wait {SEVEN}", 0.0),
        (f"{SEVEN} no wait", 0.0),
        (SEVEN, 0.0),
        ("", 0.0),
    ],
)
def test_r1_zero_is_shipped_with_one_that_counts_who_gives_up(text: str, found: float) -> None:
    recipe = read_recipe(builtin_recipes()["countdown-zero"])
    assert [(one.name, one.in_reward, one.weight) for one in recipe.monitors] == [("gives-up", False, 0.0)]
    task = find_task("countdown", {})
    asked = Asked(task.training_problem(1, 0), text, len(text.split()), 80)
    with Judge(task, monitors=recipe.monitors) as judge, Judge(task) as without:
        (watched,), (plain,) = judge.score([asked], recipe.reward), without.score([asked], recipe.reward)
    assert watched.parts.pop("monitor/gives-up") == found
    assert watched == plain


def test_what_the_shipped_recipe_learns_is_the_same_without_its_monitor(tmp_path: Path) -> None:
    few: dict[str, str | bool | int | float] = {
        "stage.steps": 2, "sampling.prompts_per_step": 4, "sampling.group_size": 4, "sampling.max_new_tokens": 24,
        "evaluation.every_steps": 0, "evaluation.problems": 1, "evaluation.final_problems": 1,
    }  # fmt: skip
    text = read_recipe_text(builtin_recipes()["countdown-zero"])
    watched = parse_recipe(text, "countdown-zero.toml", few)
    runs = [
        go(recipe, tmp_path / str(len(recipe.monitors)))
        for recipe in (watched, msgspec.structs.replace(watched, monitors=[]))
    ]
    with_it, without = map(what_was_learnt, runs)
    assert all("monitor/gives-up" in step.metrics for step in of(runs[0], StepDone))
    assert without_monitors(with_it) == without_monitors(without)
    assert of(runs[0], CheckpointSaved)[-1].sha256 == of(runs[1], CheckpointSaved)[-1].sha256, "to the bit"


def test_one_that_is_in_the_reward_weighs_and_is_told_at_the_start(tiny_folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tiny_folder, PLUS + "in_reward = true\nweight = -0.5\n")
    assert parse_recipe(dump_recipe(recipe), "again").monitors == recipe.monitors
    link = go(recipe, tmp_path)
    for rollout in rollouts_of(link):
        parts = rollout.parts
        assert rollout.reward == pytest.approx(
            parts["correct"] + 0.5 * parts["format"] - 0.5 * parts["length"] - 0.5 * parts["monitor/plus"]
        )
    (warning,) = of(link, RunStarted)[0].warnings
    assert "`plus` is in the reward" in warning and "hide" in warning
    assert recipe.monitors_in_reward == [(0, "plus")]


@pytest.mark.parametrize(("monitors", "said", "hint"), [
    (PLUS + "weight = -0.5\n", "has a weight", "in_reward = true"),
    (PLUS + "in_reward = true\n", "has no weight", "write `weight`"),
    (PLUS + PLUS, "is there twice", "a name of its own"),
    ('[[monitors]]\nname = "none"\n', "has no rule", "pattern"),
    (PLUS + 'words = ["a"]\n', "has no rule, or several", "one of"),
    ('[[monitors]]\nname = "bad"\npattern = "("\n', "cannot be read", "mend"),
    (ALIKE, "the reward `y`, too", "in_reward"),
    (PLUS + "inreward = true\n", "no key `inreward`", "in_reward"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(tiny_folder: Path, monitors: str, said: str, hint: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        recipe_of(tiny_folder, monitors)
    assert hint in caught.value.hint


def test_one_that_fails_on_everything_holds_the_run_as_a_reward_does(tiny_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def bad(text):\n    return 1 / 0\n")
    link = ordering({})
    stopped = []

    def answer(event: object) -> None:
        if isinstance(event, RunPaused):
            stopped.append(event.reason)
            file.write_text("def bad(text):\n    return 1\n")
            link.waiting.append(Order("on", ResumeOrder()))

    link.on_event = answer
    go(recipe_of(tiny_folder, f'[[monitors]]\nname = "bad"\nfunction = "{file}:bad"\n'), tmp_path / "run", link)
    assert stopped and stopped[0].startswith("the monitor `bad` failed on every answer")
    assert all(rollout.reward is not None for rollout in rollouts_of(link))
