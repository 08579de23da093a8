"""Pre-training, fine-tuning, reinforcement: each stage begins where the one before ended, and ends above it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ponder import metrics
from ponder.events import Evaluated
from ponder.recipe import Recipe, builtin_recipes, parse_recipe, read_recipe_text
from ponder.stage import StageKind
from tests.trainer.chains import go
from tests.trainer.test_dataset import write_rows
from trainer.place import spans

NUMBERS = range(6)
"""What can be asked for, `solve 3 47 ->`, and answered; the second number is of no matter."""
SKILL = 0.5
CHAIN = """
run = {{ name = "chain", seed = 1 }}
model = {{ path = "new:{model}" }}
task = {{ name = "dataset", options = {{ path = "{rows}", template = "none", verifier = "number", holdout = 0.2 }} }}
compute = {{ device = "cpu" }}
sampling = {{ prompts_per_step = 16, group_size = 8, max_new_tokens = 3 }}
policy = {{ mask_truncated = false }}
optim = {{ lr = 0.01, micro_batch_tokens = 4000 }}
supervised = {{ batch_tokens = 600 }}
evaluation = {{ every_steps = 0, problems = 100, final_problems = 100 }}
stages = [
    {{ kind = "pretrain", steps = 30, data = {{ path = "{pages}" }} }},
    {{ kind = "sft", steps = 80, data = {{ path = "{shown}", template = "none" }} }},
    {{ kind = "rl", steps = 40 }},
]
"""


def ask(number: int, other: int) -> str:
    return f"solve {number} {other} ->"


@pytest.fixture
def chain(tiny_folder: Path, tmp_path: Path) -> Recipe:
    """Pages whose answers are drawn blindly; an expert who knows half of them; rows that a verifier knows."""
    dice = random.Random(1)
    asked = [(number, other) for number in NUMBERS for other in range(100)]
    dice.shuffle(asked)
    pages = [{"text": f"{ask(*one)} {dice.choice(NUMBERS)}"} for one in asked]
    shown = [
        {"prompt": ask(*one), "response": str(one[0] if dice.random() < SKILL else dice.choice(NUMBERS))}
        for one in asked
    ]
    rows = [{"prompt": ask(*one), "answer": one[0]} for one in asked]
    files = {name: write_rows(tmp_path / f"{name}.jsonl", part) for name, part in (
        ("pages", pages), ("shown", shown), ("rows", rows))}  # fmt: skip
    return parse_recipe(CHAIN.format(model=tiny_folder, **files), "chain.toml")


def test_imitation_knows_what_the_expert_knows_and_reinforcement_more(chain: Recipe, tmp_path: Path) -> None:
    come_to = {e.step: e.metrics[metrics.EVAL_ACCURACY] for e in go(chain, tmp_path) if isinstance(e, Evaluated)}
    pretrained, tuned, reinforced = (come_to[span.last] for span in spans(chain))
    expert = SKILL + (1 - SKILL) / len(NUMBERS)
    assert pretrained < 0.3 < tuned < expert + 0.15
    assert reinforced > expert + 0.2


def test_the_recipe_has_the_three_and_measures_them_on_the_same_problems() -> None:
    path = builtin_recipes()["countdown-stages"]
    recipe = parse_recipe(read_recipe_text(path), str(path))
    assert [part.stage.kind for part in recipe.stages] == [StageKind.PRETRAIN, StageKind.SFT, StageKind.RL]
    assert all(part.task == recipe.task for part in recipe.stages)
    assert len({(part.evaluation.problems, part.evaluation.final_problems) for part in recipe.stages}) == 1
