"""Effects of the gallery whose direction shows in seconds, and that have no better home.

The shipped models and recipes, a few quick steps with a fixed seed, and bounds far from what comes out. Deliberately
left out: figures (`bench.gallery`), and rows whose quick form stands with what they show (docs/GALLERY.md lists all).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

from ponder import metrics
from ponder.events import CheckpointSaved, StepDone
from ponder.recipe import Recipe, builtin_recipes, parse_recipe, read_recipe_text
from tests.trainer.chains import go
from tests.trainer.test_hidden_thoughts import keep, searched
from trainer.tasks.countdown import Countdown

QUICK = """
run = {{ name = "quick", seed = 1 }}
model = {{ path = "{model}" }}
task = {{ name = "countdown", options = {{ numerals = "{numerals}" }} }}
compute = {{ device = "cpu", threads = 1 }}
sampling = {{ prompts_per_step = 16, group_size = 8, max_new_tokens = 60 }}
policy = {{ mask_truncated = false }}
optim = {{ lr = {lr}, micro_batch_tokens = 4096 }}
evaluation = {{ every_steps = 0, problems = 8, final_problems = 8 }}
saving = {{ every_steps = 0 }}
"""


def steps_of_rl(recipe: Recipe, folder: Path) -> list[Mapping[str, float]]:
    told = [event.metrics for event in go(recipe, folder) if isinstance(event, StepDone)]
    return [figures for figures in told if metrics.CORRECT in figures]


def shipped(name: str, variant: str = "", **values: str) -> Recipe:
    path = builtin_recipes()[name]
    few = {
        "stage.steps": "1", "sampling.prompts_per_step": "4", "evaluation.every_steps": "0",
        "evaluation.final_problems": "8", "saving.every_steps": "0",
    }  # fmt: skip
    return parse_recipe(read_recipe_text(path), str(path), {**few, **values}, variant)


def test_rl_makes_a_habit_grow_that_the_base_has_and_that_pays(tmp_path: Path) -> None:
    """A base that has seen three batches of honest searches, and then the outcome alone: R1-Zero's two curves."""
    task, dice, shown = Countdown(), random.Random(1), tmp_path / "searches.jsonl"
    golds = [searched(task.training_problem(1, place), dice) for place in range(300)]
    keep([gold for gold in golds if len(gold.text.split()) < 80], shown)
    sft = f'kind = "sft", steps = 3, optim = {{ lr = 5e-4 }}, data = {{ path = "{shown}" }}'
    stages = f'stages = [{{ {sft}, supervised = {{ batch_tokens = 800 }} }}, {{ kind = "rl", steps = 6 }}]'
    text = QUICK.format(model="builtin:countdown-base", numerals="digits", lr="3e-4") + stages
    first, *_, before, last = steps_of_rl(parse_recipe(text, "habit.toml"), tmp_path)
    for name, times in (("reflection/rate", 1.25), ("length/mean", 1.2)):
        assert (before[name] + last[name]) / 2 > times * first[name]


def test_a_reward_for_one_language_ends_the_mixing(tmp_path: Path) -> None:
    rest = 'stage = { kind = "rl", steps = 5 }\nreward = { correct = 0.0, language = 1.0 }\n'
    text = QUICK.format(model="builtin:countdown-both", numerals="both", lr="1e-3") + rest
    first, *_, last = steps_of_rl(parse_recipe(text, "language.toml"), tmp_path)
    assert first["part/language"] < 0.75
    assert last["part/language"] > 0.9


def test_without_its_siblings_an_answer_is_pushed_where_all_are_alike(tmp_path: Path) -> None:
    """All have the same reward: nothing can be learnt of that, and only the group knows it."""
    alike = {"reward.correct": "0", "reward.language": "1", "kl.coef": "0"}
    for variant, is_skipped in (("", 1.0), ("no-baseline", 0.0)):
        (told,) = steps_of_rl(shipped("countdown-ablation", variant, **alike), tmp_path / (variant or "grpo"))
        assert (told["reward/min"], told["reward/max"]) == (1.0, 1.0)
        assert told["optim/skipped"] == is_skipped
        assert (told.get("optim/grad_norm", 0.0) > 0.1) == (not is_skipped)


def test_a_critic_is_a_second_thing_to_store(tmp_path: Path) -> None:
    sizes = {}
    for variant in ("", "ppo", "ppo-separate"):
        events = go(shipped("countdown-critic", variant), tmp_path / (variant or "grpo"))
        *_, sizes[variant] = (event.size_bytes for event in events if isinstance(event, CheckpointSaved))
    assert sizes[""] < sizes["ppo"] < 1.1 * sizes[""]
    assert sizes["ppo-separate"] > 1.8 * sizes[""]
