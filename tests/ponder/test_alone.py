"""One stage of a recipe can be run again alone, from what an earlier run left."""

from __future__ import annotations

from pathlib import Path

import pytest

from ponder.alone import stage_alone
from ponder.errors import NotFound
from ponder.paths import Paths, checkpoint_name
from ponder.recipe import Recipe, dump_recipe, parse_recipe

CHAIN = """
[run]
name = "chain"
[model]
path = "builtin:countdown-base"
[task]
name = "countdown"
[[stages]]
kind = "reject"
steps = 2
[[stages]]
kind = "sft"
steps = 4
data.path = "stage:reject"
[[stages]]
kind = "rl"
steps = 5
"""


@pytest.fixture
def recipe() -> Recipe:
    return parse_recipe(CHAIN, "chain.toml")


@pytest.fixture
def paths(tmp_path: Path, recipe: Recipe) -> Paths:
    """Three runs: the first ended all, the second two stages, of which one was shorter; the third nothing."""
    paths = Paths(tmp_path, tmp_path)
    shorter = parse_recipe(CHAIN, "chain.toml", {"stages.sft.steps": "1"})
    for run, what, ends in (("chain-1", recipe, (2, 6, 11)), ("chain-2", shorter, (2, 3)), ("chain-10", recipe, ())):
        paths.run(run).mkdir(parents=True)
        paths.run_recipe(run).write_text(dump_recipe(what))
        for step in ends:
            (paths.checkpoints(run) / checkpoint_name(step)).mkdir(parents=True)
        if ends:
            paths.sets(run).mkdir()
            (paths.sets(run) / "reject.jsonl").write_text("{}")
    return paths


def test_the_newest_run_that_has_what_the_stage_begins_with_is_taken(recipe: Recipe, paths: Paths) -> None:
    sft = stage_alone(recipe, "sft", paths)
    assert sft.stages == [sft] and sft.steps == 4
    assert sft.model.path == str(paths.checkpoints("chain-2") / "step-000002")
    assert sft.stage.data.path == str(paths.sets("chain-2") / "reject.jsonl")
    assert stage_alone(recipe, "rl", paths).model.path == str(paths.checkpoints("chain-2") / "step-000003")


def test_a_run_that_is_named_is_taken(recipe: Recipe, paths: Paths) -> None:
    assert stage_alone(recipe, "rl", paths, "chain-1").model.path == str(paths.checkpoints("chain-1") / "step-000006")


def test_the_first_stage_needs_no_run(recipe: Recipe, tmp_path: Path) -> None:
    assert stage_alone(recipe, "reject", Paths(tmp_path, tmp_path)).model.path == "builtin:countdown-base"


@pytest.mark.parametrize(
    ("stage", "run", "said"),
    [
        ("rk", "", "no stage `rk`"),
        ("sft", "chain-7", "no run `chain-7`"),
        ("rl", "chain-10", "has not ended its stage `sft`"),
    ],
)
def test_what_is_not_there_is_said(recipe: Recipe, paths: Paths, stage: str, run: str, said: str) -> None:
    with pytest.raises(NotFound) as caught:
        stage_alone(recipe, stage, paths, run)
    assert said in caught.value.message


def test_without_any_run_the_whole_recipe_is_the_way(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="`stage:reject`") as caught:
        stage_alone(recipe, "sft", Paths(tmp_path, tmp_path))
    assert "ponder run chain" in caught.value.hint


def test_a_stage_alone_is_judged_by_the_reward_model_of_an_earlier_run(tmp_path: Path) -> None:
    text = CHAIN.replace('kind = "reject"', 'kind = "rank"').replace('kind = "sft"', 'kind = "reward_model"')
    text = text.replace("stage:reject", "stage:rank") + '[stages.reward_model]\npath = "stage:reward_model"\n'
    recipe, paths = parse_recipe(text, "chain.toml"), Paths(tmp_path, tmp_path)
    paths.run("chain-1").mkdir(parents=True)
    paths.run_recipe("chain-1").write_text(dump_recipe(recipe))
    for step in (2, 6):
        (paths.checkpoints("chain-1") / checkpoint_name(step)).mkdir(parents=True)
    rl = stage_alone(recipe, "rl", paths)
    assert rl.reward_model.path == str(paths.checkpoints("chain-1") / "step-000006")
    assert rl.model.path == str(paths.checkpoints("chain-1") / "step-000002")
