"""A checkpoint that is handed out is a model that transformers loads by itself, and it says the same."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from ponder.errors import NotFound, UsageError
from ponder.recipe import LoraPart, ModelPart, Recipe
from ponder.stage import REWARD_MODEL_CARD
from tests.trainer.test_loop import NO_MODELS, go
from trainer.adapter import has_adapter
from trainer.hand_out import write_model
from trainer.policy import load_policy
from trainer.tasks import countdown

IDS = torch.arange(3, 11)[None]


@torch.no_grad()
def logits(folder: Path, **options: object) -> Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, **options)
    assert not has_adapter(model)
    found: Tensor = model.eval()(IDS).logits.float()
    return found


@torch.no_grad()
def own_logits(checkpoint: Path) -> Tensor:
    """As ponder itself loads it."""
    policy = load_policy(ModelPart(path=str(checkpoint)), device="cpu", models_folder=NO_MODELS)
    found: Tensor = policy.model.eval()(IDS).logits
    return found


@pytest.fixture
def learnt(recipe: Recipe, tmp_path: Path) -> Path:
    go(recipe, tmp_path / "run")
    return tmp_path / "run" / "step-000004"


def test_a_whole_model_is_handed_out_to_the_bit(learnt: Path, tmp_path: Path) -> None:
    files = write_model(learnt, tmp_path / "out", "float32", models_folder=NO_MODELS)
    assert {path.name for path in files} >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert not {path.name for path in files} & {"state.json", "manifest.json", "optimizer.safetensors"}
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (learnt / "model.safetensors").read_bytes()
    torch.testing.assert_close(logits(tmp_path / "out"), own_logits(learnt), rtol=0, atol=0)
    text = countdown.VOCABULARY[5]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer(text)["input_ids"] == AutoTokenizer.from_pretrained(learnt)(text)["input_ids"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_smaller_dtype_is_rounded_once_and_said_in_the_config(learnt: Path, tmp_path: Path, dtype: str) -> None:
    write_model(learnt, tmp_path / "out", dtype, models_folder=NO_MODELS)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert str(model.dtype) == f"torch.{dtype}"
    whole = AutoModelForCausalLM.from_pretrained(learnt).state_dict()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, whole[name].to(weight.dtype)), name


# peft asks torch for what torch has renamed; nothing of ours
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning:peft")
def test_an_adapter_is_added_into_its_model(recipe: Recipe, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    lora = LoraPart(rank=4, alpha=8.0, targets=["q_proj", "up_proj"])
    go(msgspec.structs.replace(recipe, model=ModelPart(recipe.model.path, lora=lora)), tmp_path / "run")
    checkpoint = tmp_path / "run" / "step-000004"
    assert (checkpoint / "adapter_model.safetensors").is_file()
    write_model(checkpoint, tmp_path / "out", "float32", models_folder=NO_MODELS)
    assert not list((tmp_path / "out").glob("adapter*"))
    merged = logits(tmp_path / "out")
    torch.testing.assert_close(merged, own_logits(checkpoint), rtol=0, atol=1e-6)
    assert (merged - logits(Path(recipe.model.path))).abs().max() > 1e-3, "it has learnt something"


def test_what_cannot_be_handed_out_is_refused_and_leaves_nothing(learnt: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(UsageError, match="is there already"):
        write_model(learnt, tmp_path / "full", "float32", models_folder=NO_MODELS)
    with pytest.raises(UsageError, match="--dtype"):
        write_model(learnt, tmp_path / "out", "int3", models_folder=NO_MODELS)
    (learnt / REWARD_MODEL_CARD).write_text("{}")
    with pytest.raises(NotFound, match="reward model"):
        write_model(learnt, tmp_path / "out", "float32", models_folder=NO_MODELS)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*.tmp"))
