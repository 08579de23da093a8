"""What the arithmetic task promises on the kind of text that real models write."""

from __future__ import annotations

import pytest

from ponder.errors import NotFound, RecipeError
from trainer.tasks import Problem, find_task
from trainer.tasks.arithmetic import Arithmetic

TASK = Arithmetic()
PROBLEM = Problem("arithmetic 7 + 15", "What is 7 + 15?", (7, 15), 22)


@pytest.mark.parametrize(
    ("text", "correct"),
    [
        ("22", 1.0),
        ("The answer is 22.", 1.0),
        ("7 + 15 = 22", 1.0),
        ("First 7 + 10 = 17, then 17 + 5 = 22.", 1.0),
        ("The answer is **22**.", 1.0),
        ("The answer is \\boxed{22}", 1.0),
        ("7 + 15 = 21. Wait, 7 + 15 = 22.", 1.0),
        ("7 + 15 = 22. No, the answer is 23.", 0.0),
        ("The answer is 22.5", 0.0),
        ("I do not know.", 0.0),
        ("", 0.0),
        ("\x1b[2J 22 \u202e", 1.0),
        ("9" * 5000, 0.0),
        ("is " * 3000, 0.0),
    ],
)
def test_the_last_stated_number_is_the_answer(text: str, correct: float) -> None:
    assert TASK.score(PROBLEM, text)["correct"] == correct


def test_written_steps_are_checked() -> None:
    assert TASK.true_steps("7 + 10 = 17, 17 + 5 = 23, 3 × 4 = 12 and -2 - 3 = -5") == (3, 4)


def test_held_out_sums_never_occur_in_training() -> None:
    held_out = {problem.key for problem in TASK.held_out(300)}
    assert not held_out & {TASK.training_problem(1, index).key for index in range(3000)}


def test_a_recipe_chooses_the_numbers() -> None:
    task = find_task("arithmetic", {"largest": 3, "operators": "-"})
    problems = [task.training_problem(1, index) for index in range(50)]
    assert all(max(problem.numbers) <= 3 and " - " in problem.prompt for problem in problems)


@pytest.mark.parametrize("options", [{"largest": 1}, {"operators": "/"}, {"biggest": 9}])
def test_unknown_options_are_refused(options: dict[str, bool | int | float | str]) -> None:
    with pytest.raises(RecipeError, match="arithmetic"):
        find_task("arithmetic", options)
    with pytest.raises(RecipeError, match="no option"):
        find_task("countdown", options)


def test_an_unknown_task_is_not_found() -> None:
    with pytest.raises(NotFound, match="chess"):
        find_task("chess", {})
