"""What a reward model promises: one number an answer whatever is beside it, the same from disk, None for none."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ponder.choices import Layout
from ponder.errors import NotFound, RecipeError
from ponder.stage import REWARD_MODEL_CARD
from tests.trainer.models import MAKERS, policy_of
from trainer.checkpoint import save_checkpoint
from trainer.policy import Forward, Policy
from trainer.reward_model import HEAD, RewardModel, check_reward_model, load_reward_model, make_reward_model

EVERY = pytest.mark.parametrize("name", list(MAKERS))
PROMPTS = [[3, 9, 11], [5, 4], [7, 7, 8, 20, 21], [6]]
ANSWERS = [[30, 31, 2], [40], [33, 12, 50, 51, 2], [9, 9, 2]]
NO_MODELS = Path("no-models")


def reward_model_of(name: str) -> RewardModel:
    return make_reward_model(policy_of(name), seed=5)


def save(reward_model: RewardModel, folder: Path) -> Path:
    """As the last checkpoint of its stage does; the folder."""
    policy = reward_model.policy
    saved = save_checkpoint(
        folder, 1, model=policy.model, tokenizer=policy.tokenizer, tensors=reward_model.tensors(),
        files=reward_model.files(), state={}, keep=1,
    )  # fmt: skip
    return folder / saved.folder


def alone(reward_model: RewardModel, prompt: list[int], answer: list[int], pad_left: int = 0) -> float:
    """The score as its definition says, of one row with so much masked padding on its left."""
    policy = reward_model.policy
    ids = torch.tensor([[policy.pad_id] * pad_left + prompt + answer])
    mask = torch.tensor([[0] * pad_left + [1] * (len(prompt) + len(answer))])
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        hidden: Tensor = policy.model.base_model(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state
        return float(reward_model.head(hidden[0, -1]))


@EVERY
@pytest.mark.parametrize("layout", list(Layout))
def test_a_score_depends_on_the_answer_alone(name: str, layout: Layout) -> None:
    reward_model = reward_model_of(name)
    reward_model.policy.forward = Forward(layout)
    by_hand = [alone(reward_model, prompt, answer) for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)]
    left = [alone(reward_model, prompt, answer, 4) for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)]
    assert left == pytest.approx(by_hand, abs=1e-5)
    for budget in (1, 12, 10_000):
        assert reward_model.raw(PROMPTS, ANSWERS, budget) == pytest.approx(by_hand, abs=1e-5)
    backwards = reward_model.raw(PROMPTS[::-1], ANSWERS[::-1], 12)
    assert backwards[::-1] == pytest.approx(by_hand, abs=1e-5)
    with torch.no_grad():
        assert reward_model.scores(PROMPTS, ANSWERS).tolist() == pytest.approx(by_hand, abs=1e-5)
    assert len({round(score, 3) for score in by_hand}) == 4


def test_what_does_not_fit_or_is_not_finite_has_no_score() -> None:
    reward_model = reward_model_of("gpt2")
    context = reward_model.policy.context_tokens
    assert context == 64
    prompts, answers = [[3], [3], [3]], [[9] * (context - 1), [9] * context, []]
    first, second, third = reward_model.raw(prompts, answers, 1000)
    assert first is not None and second is None and third is None
    with torch.no_grad():
        reward_model.head.weight.fill_(math.inf)
    assert reward_model.judge([[3]], [[9, 2]], 1000) == [None]


def test_gradients_reach_the_head_and_the_backbone_but_no_output_head() -> None:
    reward_model = reward_model_of("qwen2")
    torch.autograd.backward(reward_model.scores(PROMPTS, ANSWERS).sum())
    learnt = {name for name, weight in reward_model.parameters().items() if weight.grad is not None}
    assert set(reward_model.parameters()) - learnt == {"lm_head.weight"}


def test_the_head_is_drawn_from_its_seed_and_no_random_number_is_lost() -> None:
    policy = policy_of("llama")
    before = torch.get_rng_state()
    heads = [make_reward_model(policy, seed).head.weight.detach() for seed in (1, 1, *range(2, 62))]
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    width = heads[0].shape[1]
    assert float(torch.cat(heads).std()) == pytest.approx(1 / math.sqrt(width + 1), rel=0.1)


@EVERY
def test_a_saved_reward_model_is_the_same_again(name: str, tmp_path: Path) -> None:
    reward_model = reward_model_of(name)
    scores = [score for score in reward_model.raw(PROMPTS, ANSWERS, 1000) if score is not None]
    reward_model.measure(scores)
    loaded = load_reward_model(save(reward_model, tmp_path), device="cpu", models_folder=NO_MODELS)
    assert loaded.raw(PROMPTS, ANSWERS, 1000) == scores
    judged = [score or 0.0 for score in loaded.judge(PROMPTS, ANSWERS, 1000)]
    assert judged == reward_model.judge(PROMPTS, ANSWERS, 1000)
    assert sum(judged) == pytest.approx(0.0, abs=1e-5)
    assert sum(score**2 for score in judged) / 4 == pytest.approx(1.0, abs=1e-5)


def test_equal_scores_have_a_scale_all_the_same() -> None:
    reward_model = reward_model_of("llama")
    reward_model.measure([2.0, 2.0])
    assert reward_model.scale.tolist() == [2.0, 1.0]


def test_a_folder_that_is_none_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no such folder"):
        check_reward_model(tmp_path / "none")
    folder = save(reward_model_of("llama"), tmp_path)
    check_reward_model(folder)
    card = folder / REWARD_MODEL_CARD
    assert "reward model" in json.loads(card.read_text())["is_a"]
    for content, said in (('{"format": 2}', "format 2"), ("{", "cannot be read")):
        card.write_text(content)
        with pytest.raises(NotFound, match=said):
            check_reward_model(folder)
    (folder / f"{HEAD}.safetensors").unlink()
    with pytest.raises(NotFound, match=f"it lacks `{HEAD}.safetensors`"):
        check_reward_model(folder)


def test_another_models_head_is_refused(tmp_path: Path) -> None:
    one, other = (save(reward_model_of(name), tmp_path / name) for name in ("llama", "qwen2"))
    (one / f"{HEAD}.safetensors").write_bytes((other / f"{HEAD}.safetensors").read_bytes())
    with pytest.raises(NotFound, match="cannot be read"):
        load_reward_model(one, device="cpu", models_folder=NO_MODELS)


def test_a_model_without_a_backbone_of_its_own_is_refused(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(policy.model), "base_model_prefix", "", raising=False)
    with pytest.raises(RecipeError, match="no backbone"):
        make_reward_model(policy, seed=1)
