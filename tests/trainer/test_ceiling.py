"""Imitation has a ceiling, in miniature: of two ways on from one base, the imitating one stays below its expert."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from ponder import metrics
from ponder.events import Evaluated
from ponder.recipe import builtin_recipes, parse_recipe, read_recipe_text
from tests.trainer.chains import go
from trainer.place import spans
from trainer.tasks import told
from trainer.tasks.countdown import SKILL, Countdown


def test_the_expert_solves_two_problems_of_five_and_checks_without_fail() -> None:
    """One retry: 1 - (1 - skill)^2, and a verdict that is always true."""
    task = Countdown()
    problems = task.held_out(3000)
    texts = [told(task.expert_answer(problem, Random(place))) for place, problem in enumerate(problems)]
    right = [task.score(problem, text)["correct"] == 1.0 for problem, text in zip(problems, texts, strict=True)]
    assert sum(right) / 3000 == pytest.approx(1 - (1 - SKILL) ** 2, abs=0.03)
    assert all(text.endswith("ok") is is_right for text, is_right in zip(texts, right, strict=True))
    assert all(task.score(problem, text)["format"] == 1.0 for problem, text in zip(problems, texts, strict=True))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_reinforcement_passes_what_imitation_of_the_expert_comes_to(tmp_path: Path) -> None:
    path = builtin_recipes()["countdown-imitation"]
    few = {"stages.imitate.steps": "100", "stages.reinforce.steps": "50", "evaluation.every_steps": "0"}
    recipe = parse_recipe(read_recipe_text(path), str(path), {**few, "evaluation.final_problems": "512"})
    told_by_step = {e.step: e.metrics for e in go(recipe, tmp_path) if isinstance(e, Evaluated)}
    imitated, reinforced = (told_by_step[span.last] for span in spans(recipe))
    assert imitated[metrics.EVAL_HIGH] < imitated[metrics.EVAL_EXPERT_LOW]
    assert reinforced[metrics.EVAL_LOW] > imitated[metrics.EVAL_ACCURACY]
