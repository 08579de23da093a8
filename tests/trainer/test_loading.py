"""A model that cannot be used is refused before the first step, and says what to do."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import msgspec
import pytest
from safetensors.torch import load_file, save_file

from ponder.errors import NotFound, PonderError, RecipeError
from ponder.events import CommandRefused, RunBroke, StepDone
from ponder.recipe import LoraPart, ModelPart, Recipe, parse_recipe
from ponder.wire import KnobOrder
from tests.trainer.conftest import RECIPE
from tests.trainer.models import gpt2
from tests.trainer.test_loop import go, of, ordering
from trainer import builtin
from trainer.link import ListLink


def broken(folder: Path, how: str) -> None:
    weights = folder / "model.safetensors"
    match how:
        case "no tokenizer":
            for name in ("tokenizer.json", "tokenizer_config.json"):
                (folder / name).unlink()
        case "no weights":
            weights.unlink()
        case "half of the weights":
            weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
        case "a weight is missing":
            tensors = load_file(weights)
            del tensors["model.layers.0.mlp.up_proj.weight"]
            save_file(tensors, weights, metadata={"format": "pt"})
        case "another config":
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
        case "no config":
            (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("how", "words", "hint"),
    [
        ("no tokenizer", "no tokenizer", "tokenizer.json"),
        ("no weights", "cannot be loaded", "model.path"),
        ("half of the weights", "cannot be loaded", "model.path"),
        ("a weight is missing", "lacks 1 of its weights: `model.layers.0.mlp.up_proj.weight`", "anew"),
        ("another config", "do not fit its `config.json`", "ponder logs"),
        ("no config", "cannot be loaded", "model.path"),
    ],
)
def test_a_broken_model_folder_is_refused_before_the_first_step(
    tiny_folder: Path, tmp_path: Path, how: str, words: str, hint: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    broken(folder, how)
    link = ListLink()
    with pytest.raises(NotFound):
        go(parse_recipe(RECIPE.format(model=folder), "tiny.toml"), tmp_path / "run", link)
    (told,) = of(link, RunBroke)
    assert link.events == [told]
    assert told.step == 0 and words in told.message and hint in told.hint


@pytest.mark.parametrize(
    ("context", "words", "hint"),
    [(4, "longer than the model's context of 4", "shorter prompt"), (16, "max_new_tokens = 12", "max_new_tokens` to")],
)
def test_what_does_not_fit_the_context_is_refused_before_the_first_step(
    tmp_path: Path, context: int, words: str, hint: str
) -> None:
    gpt2(context).save_pretrained(tmp_path / "model")
    builtin.countdown_tokenizer().save_pretrained(tmp_path / "model")
    link = ListLink()
    with pytest.raises(RecipeError):
        go(parse_recipe(RECIPE.format(model=tmp_path / "model"), "tiny.toml"), tmp_path / "run", link)
    (told,) = of(link, RunBroke)
    assert link.events == [told]
    assert told.step == 0 and words in told.message and hint in told.hint


def test_a_live_limit_beyond_the_context_is_refused_and_the_run_goes_on(recipe: Recipe, tmp_path: Path) -> None:
    link = go(recipe, tmp_path, ordering({1: [KnobOrder("sampling.max_new_tokens", 500)]}))
    (refused,) = of(link, CommandRefused)
    assert "context of 128" in refused.message and "or less" in refused.hint
    assert of(link, StepDone)[-1].step == 4


def test_an_adapter_without_peft_is_refused_with_how_to_get_it(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    adapted = msgspec.structs.replace(recipe, model=ModelPart(recipe.model.path, lora=LoraPart(rank=2)))
    link = ListLink()
    with pytest.raises(PonderError, match="peft"):
        go(adapted, tmp_path, link)
    (told,) = of(link, RunBroke)
    assert told.step == 0 and "pip install 'ponder[lora]'" in told.hint
