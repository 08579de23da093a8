"""What a run with reward code of the user's own promises: parts are seen, bugs pause it, a mended file goes on."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ponder import metrics
from ponder.advantages import group_relative
from ponder.errors import RecipeError
from ponder.events import (
    CheckpointSaved,
    Evaluated,
    GroupScored,
    RunBroke,
    RunEnded,
    RunPaused,
    RunResumed,
    RunStarted,
    StepDone,
    TrainerEvent,
)  # fmt: skip
from ponder.knobs import AdvantageScale
from ponder.recipe import Recipe, dump_recipe, parse_recipe
from ponder.wire import Order, ResumeOrder, StopOrder
from tests.trainer.conftest import RECIPE
from tests.trainer.test_loop import go, of, what_was_learnt
from trainer import credit
from trainer.link import ListLink


def with_own(
    tiny_folder: Path, function: str, extra: str = "", overrides: dict[str, str | int] | None = None
) -> Recipe:
    own = f'\n[[rewards]]\nname = "mine"\nfunction = "{function}"\nweight = 0.5\n{extra}'
    few: dict[str, str | bool | int | float] = {
        "stage.steps": 2, "evaluation.every_steps": 0, "evaluation.final_problems": 4, "evaluation.problems": 4,
    }  # fmt: skip
    return parse_recipe(RECIPE.format(model=tiny_folder) + own, "tiny.toml", {**few, **(overrides or {})})


def resuming(on_pause: dict[int, str], file: Path) -> ListLink:
    """A link that answers the n-th pause with a new content of the reward file and a resume."""
    link = ListLink()
    pauses = iter(sorted(on_pause))

    def answer(event: TrainerEvent) -> None:
        if isinstance(event, RunPaused):
            place = next(pauses, None)
            if place is None:
                link.waiting.append(Order("stop", StopOrder()))
            else:
                file.write_text(on_pause[place])
                link.waiting.append(Order(f"resume {place}", ResumeOrder()))

    link.on_event = answer
    return link


def test_a_part_of_ones_own_enters_the_reward_and_is_seen_beside_the_others(tiny_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "async def score(text, reference):\n    return {'words': len(text.split()), 'ref': '=' in reference}\n"
    )
    link = go(with_own(tiny_folder, f"{file}:score"), tmp_path / "run")
    rollouts = [rollout for group in of(link, GroupScored) for rollout in group.rollouts]
    for rollout in rollouts:
        assert rollout.parts["mine/words"] == len(rollout.text.split())
        assert rollout.reward == pytest.approx(
            rollout.parts["correct"] + 0.5 * rollout.parts["format"] - 0.5 * rollout.parts["length"]
            + 0.5 * (rollout.parts["mine/words"] + rollout.parts["mine/ref"])
        )  # fmt: skip
    assert len(rollouts) == 24
    assert {"overlong", "repetition", "language"} <= set(rollouts[0].parts)


def test_an_answer_that_cannot_be_scored_is_out_of_the_baseline_counted_and_says_why(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """Trap 11: None is not zero."""
    file = tmp_path / "mine.py"
    file.write_text("def score(text):\n    return None if len(text) % 3 else 1 / (len(text) % 2)\n")
    link = go(with_own(tiny_folder, f"{file}:score"), tmp_path / "run")
    for group in of(link, GroupScored):
        rewards = [rollout.reward for rollout in group.rollouts]
        assert [rollout.advantage for rollout in group.rollouts] == group_relative(rewards, AdvantageScale.GROUP_STD)
        for rollout in group.rollouts:
            if rollout.reward is None:
                assert rollout.advantage == 0.0
                assert rollout.error.startswith("reward `mine`: ")
                assert "it returned None" in rollout.error or "ZeroDivisionError" in rollout.error
                assert "correct" in rollout.parts
    for step in of(link, StepDone):
        rollouts = [r for group in of(link, GroupScored) if group.step == step.step for r in group.rollouts]
        unscored = sum(rollout.reward is None for rollout in rollouts)
        assert unscored > 0 and step.metrics[metrics.UNSCORED] == pytest.approx(unscored / len(rollouts))


def test_a_bug_that_hits_every_answer_pauses_the_run_until_the_file_is_mended(
    tiny_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def score(text):\n    return 1 / 0\n")
    link = resuming({1: "def score(text:", 2: "def score(text):\n    return 1.0\n"}, file)
    go(with_own(tiny_folder, f"{file}:score"), tmp_path / "run", link)
    first, second = of(link, RunPaused)
    assert first.step == second.step == 0
    assert first.reason == "the reward `mine` failed on every answer: ZeroDivisionError: division by zero (mine.py:2)"
    assert "return 1 / 0" in first.trace and "Traceback" in first.trace
    assert "SyntaxError" in second.reason
    assert len(of(link, RunResumed)) == 2
    assert of(link, RunEnded)[0] == RunEnded(2, "finished")
    assert [event.step for event in of(link, Evaluated)] == [0, 2]
    mended = go(with_own(tiny_folder, f"{file}:score"), tmp_path / "again")
    assert what_was_learnt(link) == what_was_learnt(mended)


def test_a_bug_that_comes_later_pauses_after_its_step_and_learns_nothing_from_it(
    tiny_folder: Path, tmp_path: Path
) -> None:
    file, flag = tmp_path / "mine.py", tmp_path / "broken"
    file.write_text(f"import os\ndef score(text):\n    return 1 / (not os.path.exists({str(flag)!r}))\n")
    link = resuming({1: "def score(text):\n    return 1.0\n"}, file)
    answer = link.on_event

    def break_it(event: TrainerEvent) -> None:
        if isinstance(event, StepDone) and event.step == 1:
            flag.touch()
        if answer:
            answer(event)

    link.on_event = break_it
    go(with_own(tiny_folder, f"{file}:score", overrides={"stage.steps": 3}), tmp_path / "run", link)
    (paused,) = of(link, RunPaused)
    assert paused.step == 2
    one, two, three = of(link, StepDone)
    assert two.metrics[metrics.UNSCORED] == two.metrics[metrics.SKIPPED] == 1.0
    assert two.policy_version == one.policy_version and three.policy_version == two.policy_version + 1
    assert metrics.REWARD_MEAN not in two.metrics


def test_an_evaluation_that_nothing_could_be_judged_in_is_made_again_once_it_can(
    tiny_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def rows():\n    return [{'prompt': f'solve {n}'} for n in range(30)]\n\ndef score(text):\n    1 / 0\n"
    )
    options = f'path = "{file}:rows"\nverifier = "function"\nfunction = "{file}:score"\n'
    text = RECIPE.replace('name = "countdown"', f'name = "dataset"\n[task.options]\n{options}')
    recipe = parse_recipe(text.format(model=tiny_folder), "tiny.toml", {"stage.steps": 1})
    link = resuming({1: "def score(text):\n    return len(text) % 2\n"}, file)
    go(recipe, tmp_path / "run", link)
    (paused,) = of(link, RunPaused)
    assert "`correct` failed on every answer" in paused.reason
    first, last = of(link, Evaluated)
    assert (first.step, last.step) == (0, 1)
    assert metrics.EVAL_ACCURACY in first.metrics and first.metrics[metrics.EVAL_PROBLEMS] > 0


def test_a_run_paused_by_a_bug_can_be_stopped(tiny_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def score(text):\n    return 1 / 0\n")
    link = resuming({}, file)
    go(with_own(tiny_folder, f"{file}:score"), tmp_path / "run", link)
    assert of(link, RunEnded)[0] == RunEnded(0, "stopped") and of(link, CheckpointSaved)


def test_a_function_that_cannot_be_imported_breaks_the_run_before_it_starts(tiny_folder: Path, tmp_path: Path) -> None:
    link = ListLink()
    with pytest.raises(RecipeError, match="ModuleNotFoundError"):
        go(with_own(tiny_folder, "no_such_module:score"), tmp_path, link)
    assert isinstance(link.events[-1], RunBroke) and not of(link, RunStarted)


def test_a_resumed_run_with_own_rewards_is_bit_identical(tiny_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def score(text):\n    return len(set(text)) / 10\n")
    recipe = with_own(tiny_folder, f"{file}:score", "at_once = 3\n", {"stage.steps": 4})
    whole = go(recipe, tmp_path / "whole")
    go(with_own(tiny_folder, f"{file}:score", overrides={"stage.steps": 2}), tmp_path / "halved")
    resumed = go(recipe, tmp_path / "halved")
    assert what_was_learnt(resumed) == what_was_learnt(whole, after=2)


def test_advantages_go_by_group_and_not_by_place(recipe: Recipe, tmp_path: Path) -> None:
    """Trap 17: however answers are shuffled, each is compared with those to its own prompt."""
    original = credit._compare_groups

    def shuffled(answers, *rest):  # type: ignore[no-untyped-def]  # a spy on a private function
        mixed = list(answers)
        random.Random(3).shuffle(mixed)
        original(mixed, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(credit, "_compare_groups", shuffled)
        mixed = of(go(recipe, tmp_path / "mixed"), GroupScored)
    assert mixed == of(go(recipe, tmp_path / "plain"), GroupScored)


@pytest.mark.parametrize(
    ("own", "said", "hint"),
    [
        ('[[rewards]]\nname = "length"\nfunction = "a:b"\n', "`length` is a built-in part", "name of its own"),
        ('[[rewards]]\nname = "x"\nfunction = "a:b"\n' * 2, "`x` is there twice", ""),
        ('[[rewards]]\nname = "x"\nfunction = "a"\n', "rewards[0].function", ""),
        ('[[rewards]]\nname = "x"\nfunction = "a:b"\nwieght = 2\n', "no key `wieght` in `[[rewards]]`", "`weight`"),
        ('[[rewards]]\nname = "x"\nfunction = "a:b"\nweight = 200\n', "rewards[0].weight` cannot be `200`", ""),
        ('[[rewards]]\nname = "x"\n', "`rewards[0].function` is missing", ""),
        ('[rewards]\nname = "x"\n', "must be a list of tables", "[[rewards]]"),
    ],
)  # fmt: skip
def test_a_part_that_cannot_be_is_refused_with_its_key(tiny_folder: Path, own: str, said: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(RECIPE.format(model=tiny_folder) + own, "tiny.toml")
    assert "`tiny.toml`" in caught.value.message and said in caught.value.message
    assert hint in caught.value.hint


def test_own_parts_survive_being_written_out(tiny_folder: Path) -> None:
    recipe = with_own(tiny_folder, "a folder/x.py:score", "timeout_s = 0.5\n")
    assert (recipe.rewards[0].weight, recipe.rewards[0].timeout_s) == (0.5, 0.5)
    assert parse_recipe(dump_recipe(recipe), "written") == recipe
