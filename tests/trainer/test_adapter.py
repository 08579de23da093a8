"""What an adapter promises: it starts as nothing, learns alone, is its own reference, and resumes to the bit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any  # a layer of a family

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ponder import metrics
from ponder.errors import RecipeError
from ponder.events import StepDone
from ponder.recipe import LoraPart, ModelPart, Recipe
from ponder.stage import DataPart, StageKind
from tests.trainer.test_forward import ANSWERS, PROMPTS, scored
from tests.trainer.test_loop import go, of, tensors_of, what_was_learnt
from trainer import adapter, body
from trainer.adapter import WithoutAdapter, add_adapter, dropouts, has_adapter
from trainer.checkpoint import save_checkpoint
from trainer.policy import Policy, load_policy, token_logps
from trainer.reward_model import load_reward_model, make_reward_model

pytest.importorskip("peft")
# peft asks torch for what torch has renamed; nothing of ours
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning:peft")

LORA = LoraPart(rank=4, alpha=8.0, targets=["q_proj", "up_proj"])


@pytest.fixture
def adapted(recipe: Recipe) -> Recipe:
    return msgspec.structs.replace(recipe, model=ModelPart(recipe.model.path, lora=LORA))


def wake(policy: Policy) -> None:
    """Give the adapter something to say."""
    for name, parameter in policy.model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.3)


def test_a_fresh_adapter_changes_nothing_and_only_it_learns(policy: Policy) -> None:
    before = scored(policy)
    add_adapter(policy.model, LORA, seed=1)
    torch.testing.assert_close(scored(policy), before, rtol=0, atol=1e-5)  # another path has other last bits
    learning = [name for name, parameter in policy.model.named_parameters() if parameter.requires_grad]
    assert learning and all(".lora_" in name and ("q_proj" in name or "up_proj" in name) for name in learning)


def test_no_targets_are_every_linear_layer_but_the_head(policy: Policy) -> None:
    add_adapter(policy.model, LoraPart(rank=2), seed=1)
    adapted = {
        name.split(".lora_")[0].rpartition(".")[2] for name, _ in policy.model.named_parameters() if ".lora_" in name
    }
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_the_same_seed_draws_the_same_adapter_and_leaves_the_generator_alone(recipe: Recipe) -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(9)
        policy = load_policy(recipe.model, device="cpu", models_folder=Path("none"))
        state = torch.get_rng_state()
        add_adapter(policy.model, LORA, seed=5)
        assert torch.equal(torch.get_rng_state(), state)
        drawn.append([p.detach().clone() for n, p in policy.model.named_parameters() if ".lora_A." in n])
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))


def test_the_reference_is_the_policy_with_its_adapter_off(policy: Policy) -> None:
    before = scored(policy)[0]
    add_adapter(policy.model, LORA, seed=1)
    wake(policy)
    assert (scored(policy)[0] - before).abs().max() > 0.01
    with torch.no_grad():
        off, _ = token_logps(policy, WithoutAdapter(policy.model), PROMPTS, ANSWERS, 0.7)
    torch.testing.assert_close(off, before, rtol=0, atol=1e-5)
    assert all(p.requires_grad for n, p in policy.model.named_parameters() if ".lora_" in n)


def test_a_reference_pass_between_forward_and_backward_leaves_the_gradient(policy: Policy) -> None:
    add_adapter(policy.model, LORA, seed=1)
    wake(policy)
    gradients = []
    for asks_reference in (False, True):
        policy.model.zero_grad()
        logp_N, _ = token_logps(policy, policy.model, PROMPTS, ANSWERS, 1.0)
        if asks_reference:
            with torch.no_grad():
                token_logps(policy, WithoutAdapter(policy.model), PROMPTS, ANSWERS, 1.0)
        torch.autograd.backward(logp_N.sum())
        gradients.append([p.grad.clone() for p in policy.model.parameters() if p.grad is not None])
    assert gradients[0]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_dropout_acts_while_learning_only(policy: Policy) -> None:
    add_adapter(policy.model, LoraPart(rank=4, dropout=0.5), seed=1)
    wake(policy)
    policy.waking += dropouts(policy.model)
    with torch.no_grad():
        assert torch.equal(scored(policy), scored(policy))
    assert not torch.equal(scored(policy), scored(policy))
    policy.model.eval()
    with torch.no_grad():
        assert torch.equal(scored(policy), scored(policy))


def test_an_adapted_run_learns_saves_only_its_adapter_and_resumes_to_the_bit(adapted: Recipe, tmp_path: Path) -> None:
    whole = go(adapted, tmp_path / "whole")
    halved = msgspec.structs.replace(adapted, stage=msgspec.structs.replace(adapted.stage, steps=2))
    go(halved, tmp_path / "halved")
    assert what_was_learnt(go(adapted, tmp_path / "halved")) == what_was_learnt(whole, after=2)
    folder = tmp_path / "whole" / "step-000004"
    assert not (folder / "model.safetensors").exists()
    one, other = (
        load_file(tmp_path / run / "step-000004" / "adapter_model.safetensors") for run in ("whole", "halved")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    steps = of(whole, StepDone)
    assert steps[0].metrics[metrics.KL_K3] == pytest.approx(0, abs=1e-6)
    assert steps[-1].metrics[metrics.KL_K3] > 1e-6
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 4


def test_a_refreshed_reference_of_an_adapted_run_is_part_of_the_checkpoint(adapted: Recipe, tmp_path: Path) -> None:
    refreshing = msgspec.structs.replace(adapted, kl=msgspec.structs.replace(adapted.kl, refresh_steps=1))
    whole = go(refreshing, tmp_path / "whole")
    halved = msgspec.structs.replace(refreshing, stage=msgspec.structs.replace(adapted.stage, steps=2))
    go(halved, tmp_path / "halved")
    assert what_was_learnt(go(refreshing, tmp_path / "halved")) == what_was_learnt(whole, after=2)


def test_an_adapters_checkpoint_is_a_model_to_start_from(adapted: Recipe, tmp_path: Path) -> None:
    go(adapted, tmp_path)
    folder = tmp_path / "step-000004"
    merged = load_policy(ModelPart(str(folder)), device="cpu", models_folder=Path("none"))
    assert not has_adapter(merged.model)
    assert all(parameter.requires_grad for parameter in merged.model.parameters())
    beside = load_policy(adapted.model, device="cpu", models_folder=Path("none"))
    base = scored(beside)
    add_adapter(beside.model, LORA, seed=1)
    with torch.no_grad():
        own = dict(beside.model.named_parameters())
        for name, tensor in adapter.in_model_names(load_file(folder / "adapter_model.safetensors")).items():
            own[name].copy_(tensor)
    assert torch.allclose(scored(merged), scored(beside), atol=1e-5)
    assert not torch.allclose(scored(merged), base, atol=1e-3)


def test_an_unknown_target_is_refused_with_the_known_ones(policy: Policy) -> None:
    with pytest.raises(RecipeError, match="query") as refused:
        add_adapter(policy.model, LoraPart(rank=2, targets=["query"]), seed=1)
    assert "q_proj" in refused.value.hint


def test_gradient_checkpointing_leaves_every_bit_of_a_run(recipe: Recipe, adapted: Recipe, tmp_path: Path) -> None:
    """But for the first update of a batch, which has nothing to make again where sampling left its states."""
    for name, whole in (("full", recipe), ("adapted", adapted)):
        plain = msgspec.structs.replace(whole, compute=msgspec.structs.replace(whole.compute, reuse_mb=0))
        compute = msgspec.structs.replace(plain.compute, gradient_checkpointing=True)
        saving = go(msgspec.structs.replace(plain, compute=compute), tmp_path / name / "saving")
        assert what_was_learnt(saving) == what_was_learnt(go(plain, tmp_path / name / "plain"))


def test_gradient_checkpointing_really_computes_layers_twice(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.equip import equip

    read_layer = body._read_layer
    seen: list[object] = []

    def counting(layer: object, *rest: Any) -> Tensor:
        seen.append(layer)
        return read_layer(layer, *rest)

    monkeypatch.setattr(body, "_read_layer", counting)
    compute = msgspec.structs.replace(recipe.compute, gradient_checkpointing=True)
    for asked, calls in ((recipe, 1), (msgspec.structs.replace(recipe, compute=compute), 2)):
        policy = equip(load_policy(recipe.model, device="cpu", models_folder=Path("none")), asked)
        seen.clear()
        logp_N, _ = token_logps(policy, policy.model, PROMPTS, ANSWERS, 1.0)
        torch.autograd.backward(logp_N.sum())
        assert seen.count(policy.model.model.layers[0]) == calls


def test_a_run_in_bfloat16_learns_and_keeps_float32_weights(recipe: Recipe, tmp_path: Path) -> None:
    compute = msgspec.structs.replace(recipe.compute, dtype="bfloat16")
    link = go(msgspec.structs.replace(recipe, compute=compute), tmp_path)
    steps = of(link, StepDone)
    assert len(steps) == 4
    assert all(0 < step.metrics[metrics.MISMATCH] < 0.02 for step in steps)
    assert {tensor.dtype for tensor in tensors_of(tmp_path, 4).values()} == {torch.float32}


def test_a_reward_model_can_be_an_adapter_and_is_the_same_from_disk(adapted: Recipe, tmp_path: Path) -> None:
    policy = load_policy(adapted.model, device="cpu", models_folder=tmp_path)
    add_adapter(policy.model, LORA, seed=1)
    wake(policy)
    reward_model = make_reward_model(policy, seed=1)
    assert all(".lora_" in name or name == "reward_head.weight" for name in reward_model.parameters())
    saved = save_checkpoint(
        tmp_path, 1, model=policy.model, tokenizer=policy.tokenizer, tensors=reward_model.tensors(),
        files=reward_model.files(), state={}, keep=1,
    )  # fmt: skip
    loaded = load_reward_model(tmp_path / saved.folder, device="cpu", models_folder=tmp_path)
    assert loaded.raw(PROMPTS, ANSWERS, 1000) == pytest.approx(reward_model.raw(PROMPTS, ANSWERS, 1000), abs=1e-5)


def test_dpo_of_an_adapter_has_the_model_without_it_for_its_reference(adapted: Recipe, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    pairs = [{"prompt": f"solve {n} 2 3 -> 10 :", "chosen": "1 + 2", "rejected": "ok"} for n in range(1, 30)]
    rows.write_text("\n".join(map(json.dumps, pairs)))
    stage = msgspec.structs.replace(
        adapted.stage, kind=StageKind.DPO, data=DataPart(str(rows), template="none"), steps=3
    )  # fmt: skip
    supervised = msgspec.structs.replace(adapted.supervised, batch_tokens=100)
    link = go(msgspec.structs.replace(adapted, stage=stage, supervised=supervised), tmp_path / "run")
    told = [event.metrics for event in of(link, StepDone)]
    assert told[0][metrics.RANKING_LOSS] == pytest.approx(math.log(2.0), abs=1e-7)
    assert told[0][metrics.PAIR_MARGIN] == 0.0 < told[-1][metrics.PAIR_MARGIN]
    folder = next((tmp_path / "run").glob("step-000003"))
    assert not (folder / "model.safetensors").exists() and (folder / "adapter_model.safetensors").is_file()
