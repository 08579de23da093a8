"""The fast decode step is the model's own arithmetic, or is not used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any  # Any: a config's own options

import pytest
import torch
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from ponder.events import Finish
from tests.trainer.models import gpt2
from trainer import matrices
from trainer.sampler import LocalSampler, Sampled, draw

ENDS = list(range(2, 12))
RAGGED = [[20, 21, 22], [30, 31, 32, 33, 34, 35], [40]]
EVEN = [[20, 21], [30, 31]]
ONES = [[7], [8], [9]]
SIZES: dict[str, Any] = {
    "vocab_size": 115, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 128, "initializer_range": 0.3, "bos_token_id": None, "pad_token_id": 0,
    "eos_token_id": ENDS,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32}


def llama(**options: Any) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SIZES, **{"num_key_value_heads": 2, **options}))


def mistral(**options: Any) -> PreTrainedModel:
    return MistralForCausalLM(MistralConfig(**SIZES, num_key_value_heads=2, **{"sliding_window": None, **options}))


def qwen2(**options: Any) -> PreTrainedModel:
    model: PreTrainedModel = Qwen2ForCausalLM(Qwen2Config(**SIZES, num_key_value_heads=2, **options))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(0.0, 0.3)
    return model


def qwen3() -> PreTrainedModel:
    model: PreTrainedModel = Qwen3ForCausalLM(Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=12))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 1.5)
    return model


KNOWN: dict[str, Callable[[], PreTrainedModel]] = {
    "grouped keys": llama,
    "one key head": lambda: llama(num_key_value_heads=1),
    "a key head each": lambda: llama(num_key_value_heads=4, tie_word_embeddings=True),
    "wide heads": lambda: llama(head_dim=24),
    "biases everywhere": lambda: llama(attention_bias=True, mlp_bias=True),
    "llama3 rotation": lambda: llama(rope_parameters=LLAMA3),
    "yarn rotation": lambda: llama(rope_parameters=YARN),
    "mistral": mistral,
    "qwen2": qwen2,
    "qwen3": qwen3,
}


@pytest.fixture(params=KNOWN)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(5)
    model = KNOWN[request.param]()
    model.eval()
    return model


@pytest.fixture(params=[True, False], ids=["packed", "plain"])
def any_matrix(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU with oneDNN, and elsewhere."""
    if not request.param:
        monkeypatch.setattr(matrices, "_has_onednn", lambda _: False)


def sampler_of(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch, *, decodes: bool = True) -> LocalSampler:
    sampler = LocalSampler(model, end_ids=ENDS, pad_id=0)
    if not decodes:
        monkeypatch.setattr(sampler, "_weights", lambda: None)
    return sampler


def sample(
    sampler: LocalSampler, prompts: list[list[int]], *, temperature: float = 1.0, tokens: int = 24, group: int = 3
) -> list[Sampled]:
    return sampler.sample(
        prompts, group_size=group, max_new_tokens=tokens, temperature=temperature,
        generator=torch.Generator().manual_seed(3),
    )  # fmt: skip


def same(one: list[Sampled], other: list[Sampled]) -> bool:
    return all(
        a.ids == b.ids
        and a.finish == b.finish
        and a.logps == pytest.approx(b.logps, abs=1e-4)
        and a.entropies == pytest.approx(b.entropies, abs=1e-4)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.usefixtures("any_matrix")
@pytest.mark.parametrize("prompts", [RAGGED, EVEN, ONES], ids=["ragged", "even", "ones"])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_decoder_writes_what_the_models_own_forward_pass_writes(
    model: PreTrainedModel, prompts: list[list[int]], temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast, slow = sampler_of(model, monkeypatch), sampler_of(model, monkeypatch, decodes=False)
    assert fast._weights() is not None
    drawn = sample(fast, prompts, temperature=temperature)
    assert len({len(one.ids) for one in drawn}) > 1
    assert same(drawn, sample(slow, prompts, temperature=temperature))


@pytest.mark.usefixtures("any_matrix")
def test_an_update_between_two_calls_is_seen(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    fast, slow = sampler_of(model, monkeypatch), sampler_of(model, monkeypatch, decodes=False)
    before = sample(fast, RAGGED)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    after = sample(fast, RAGGED)
    assert after != before
    assert same(after, sample(slow, RAGGED))


@pytest.mark.parametrize("tokens", [1, 2])
def test_the_shortest_answers_are_right_too(
    model: PreTrainedModel, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast, slow = sampler_of(model, monkeypatch), sampler_of(model, monkeypatch, decodes=False)
    assert same(sample(fast, RAGGED, tokens=tokens), sample(slow, RAGGED, tokens=tokens))


def test_all_answers_may_end_at_once(model: PreTrainedModel) -> None:
    fast = LocalSampler(model, end_ids=range(115), pad_id=0)
    drawn = sample(fast, RAGGED)
    assert all(len(one.ids) == 1 and one.finish is Finish.END for one in drawn)


@pytest.mark.parametrize("prompts", [RAGGED, EVEN], ids=["ragged", "even"])
def test_the_likeliest_tokens_are_those_of_generate(model: PreTrainedModel, prompts: list[list[int]]) -> None:
    drawn = sample(LocalSampler(model, end_ids=ENDS, pad_id=0), prompts, temperature=1e-4, group=1)
    longest = max(len(prompt) for prompt in prompts)
    for prompt, one in zip(prompts, drawn, strict=True):
        pads = longest - len(prompt)
        mask_BT = torch.tensor([[0] * pads + [1] * len(prompt)])
        whole = model.generate(  # type: ignore[operator]  # transformers types it as a tensor
            input_ids=torch.tensor([[0] * pads + prompt]), attention_mask=mask_BT,
            do_sample=False, max_new_tokens=24, eos_token_id=ENDS, pad_token_id=0,
        )  # fmt: skip
        assert one.ids == whole[0, longest:].tolist()


def gemma() -> PreTrainedModel:
    return GemmaForCausalLM(GemmaConfig(**SIZES, num_key_value_heads=2, head_dim=8))


class Louder(LlamaForCausalLM):
    """A Llama in everything but one number that no config tells."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        told = super().forward(*args, **kwargs)
        told.logits = told.logits * 1.5
        return told


UNKNOWN: dict[str, Callable[[], PreTrainedModel]] = {
    "gpt2": gpt2,
    "gemma": gemma,
    "a sliding window": lambda: mistral(sliding_window=8),
    "half of the layers with a window": lambda: qwen2(use_sliding_window=True, sliding_window=8, max_window_layers=1),
    "a rotation that changes with the length": lambda: llama(
        rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    ),
    "another activation": lambda: llama(hidden_act="gelu"),
    "logits that are changed": lambda: Louder(LlamaConfig(**SIZES)),
}


@pytest.mark.parametrize("make", UNKNOWN.values(), ids=list(UNKNOWN))
def test_a_model_that_is_not_known_is_read_by_itself(
    make: Callable[[], PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(5)
    model = make()
    model.eval()
    assert sampler_of(model, monkeypatch)._weights() is None
    drawn = sample(sampler_of(model, monkeypatch), RAGGED)
    assert same(drawn, sample(sampler_of(model, monkeypatch, decodes=False), RAGGED))


@pytest.mark.parametrize("vocabulary", [5, 128, 1000])
def test_no_chance_draws_a_token_that_cannot_be(vocabulary: int) -> None:
    """Nor does a chance of 0, or of almost 1, fall out of the vocabulary."""
    logits_AV = torch.full((4, vocabulary), -torch.inf)
    possible = [1, vocabulary - 2]
    logits_AV[:, possible] = 0.0
    chance_A = torch.tensor([0.0, 0.25, 0.75, 1 - 2**-53], dtype=torch.float64)
    token_A, logp_A, entropy_A = draw(logits_AV, 1.0, chance_A)
    assert token_A.tolist() == [possible[0], possible[0], possible[1], possible[1]]
    assert torch.allclose(logp_A, torch.tensor(0.5).log().expand(4))
    assert torch.allclose(entropy_A, torch.tensor(2.0).log().expand(4))


def test_draws_over_a_large_vocabulary_follow_the_distribution() -> None:
    logits_V = 2 * torch.randn(5000, generator=torch.Generator().manual_seed(0))
    p_V = torch.softmax(logits_V.double(), -1)
    order = p_V.argsort(descending=True)
    draws = 100_000
    chance_A = torch.rand(draws, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    counts_V = torch.zeros(5000, dtype=torch.float64)
    for chance in chance_A.chunk(1000):  # rows that stay in the cache
        token_A, _, _ = draw(logits_V.expand(len(chance), -1), 1.0, chance)
        counts_V += torch.bincount(token_A, minlength=5000)
    parts = order.chunk(50)
    expected = torch.stack([p_V[part].sum() for part in parts]) * draws
    seen = torch.stack([counts_V[part].sum() for part in parts])
    chi_squared = ((seen - expected) ** 2 / expected).sum().item()
    assert chi_squared < 85.4  # 0.999 of the distribution with 49 degrees of freedom


def test_an_answer_does_not_depend_on_how_rows_are_batched(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = sample(sampler_of(model, monkeypatch), RAGGED)
    monkeypatch.setattr("trainer.sampler.ROWS_AT_ONCE", 3)
    monkeypatch.setattr("trainer.sampler.COMPACT_BELOW", 0.0)
    assert same(sample(sampler_of(model, monkeypatch), RAGGED), together)
