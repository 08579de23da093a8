"""What pre-training promises: it learns, is the same for the same seed, and leaves a model like any other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ponder import metrics
from ponder.errors import NotFound
from ponder.events import Evaluated, RunEnded, StepDone
from ponder.recipe import ModelPart, Recipe, builtin_recipes, parse_recipe, read_recipe_text
from ponder.wire import Order, StopOrder
from trainer import builtin
from trainer.evaluate import evaluate
from trainer.link import ListLink
from trainer.policy import load_policy
from trainer.sampler import LocalSampler
from trainer.stages import run
from trainer.tasks.countdown import Countdown

NO_MODELS = Path("no-models")


def base_recipe(**overrides: str) -> Recipe:
    path = builtin_recipes()["countdown-base"]
    few = {"stage.steps": "6", "supervised.batch_tokens": "600", "evaluation.final_problems": "8"}
    return parse_recipe(read_recipe_text(path), str(path), {**few, **overrides})


def test_pretraining_learns_and_leaves_a_model_like_any_other(tmp_path: Path) -> None:
    link = ListLink()
    assert run(base_recipe(), tmp_path, link, models_folder=NO_MODELS) == "finished"
    losses = [event.metrics[metrics.LOSS] for event in link.events if isinstance(event, StepDone)]
    assert losses[-1] < losses[0]
    assert isinstance(link.events[-1], RunEnded)
    policy = load_policy(ModelPart(str(tmp_path / "step-000006")), device="cpu", models_folder=NO_MODELS)
    assert policy.tokenizer.convert_ids_to_tokens(policy.prompt_ids("solve 1 2 3 -> 10 :"))[0] == "solve"


def test_the_same_seed_makes_the_same_model(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(base_recipe(), tmp_path / name, ListLink(), models_folder=NO_MODELS)
    one, two = (load_file(tmp_path / name / "step-000006" / "model.safetensors") for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_pretraining_can_be_stopped(tmp_path: Path) -> None:
    link = ListLink()
    link.waiting.append(Order("1", StopOrder()))
    assert run(base_recipe(), tmp_path, link, models_folder=NO_MODELS) == "stopped"
    assert (tmp_path / "step-000000" / "model.safetensors").is_file()


def test_a_model_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="cannot be made") as caught:
        run(base_recipe(**{"model.path": "new:./elsewhere"}), tmp_path, ListLink(), models_folder=NO_MODELS)
    assert "new:countdown-base" in caught.value.hint


def test_the_shipped_base_is_small_and_reflects_rarely_and_idly() -> None:
    folder = builtin.WEIGHTS / "countdown-base"
    assert (folder / "model.safetensors").stat().st_size < 4_000_000
    policy = load_policy(ModelPart("builtin:countdown-base"), device="cpu", models_folder=NO_MODELS)
    assert policy.parameters < 5_000_000
    sampler = LocalSampler(policy.model, end_ids=policy.end_ids, pad_id=policy.pad_id)
    knobs = base_recipe().knobs
    figures, _ = evaluate(policy, sampler, Countdown(), knobs, problems=512, seed=1, step=0)
    assert 0.04 < figures[metrics.EVAL_ACCURACY] < 0.15
    assert figures[metrics.EVAL_REFLECT] < 0.15
    assert figures[metrics.EVAL_RESCUED] < 0.02
    assert figures[metrics.EVAL_STEP_TRUTH] > 0.98


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_reinforcement_learning_alone_makes_the_base_reflect_and_solve_more(tmp_path: Path) -> None:
    path = builtin_recipes()["countdown-zero"]
    few = {"stage.steps": "40", "evaluation.final_problems": "256", "evaluation.every_steps": "0"}
    link = ListLink(keeps=True)
    run(parse_recipe(read_recipe_text(path), str(path), few), tmp_path, link, models_folder=NO_MODELS)
    before, after = (event.metrics for event in link.events if isinstance(event, Evaluated))
    assert after[metrics.EVAL_ACCURACY] > 2 * before[metrics.EVAL_ACCURACY]
    assert after[metrics.EVAL_REFLECT] > 3 * before[metrics.EVAL_REFLECT]
