"""Our own pass over a flat row gives the states and gradients of transformers', or is not used."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ponder.choices import Layout
from ponder.recipe import LoraPart, ModelPart
from tests.trainer.models import gpt2
from tests.trainer.test_decoder import KNOWN, mistral
from trainer import block_attention, body, builtin, layer, policy
from trainer.adapter import add_adapter
from trainer.policy import Policy, load_policy, make_policy, token_logps

PROMPTS = [[20, 21, 22], [30, 31], [20, 21, 22], [20, 21, 22], [40]]
ANSWERS = [[7, 8, 9, 7, 8, 9, 7], [8, 9], [9], [10, 11, 12, 13, 14], [7, 7, 7]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[PreTrainedModel]:
    """The models that were read by our own pass."""
    models: list[PreTrainedModel] = []

    def read(model: PreTrainedModel, *rest: Tensor) -> Tensor:
        models.append(model)
        return body.read_row(model, *rest)  # type: ignore[arg-type]  # blocks ride along

    monkeypatch.setattr(policy, "read_row", read)
    return models


def policy_of(model: PreTrainedModel) -> Policy:
    return make_policy(model, builtin.countdown_tokenizer(), torch.device("cpu"))


def learnt(learner: Policy) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probs of the answers, and the gradient of a loss in which each token counts differently."""
    learner.model.zero_grad()
    logp_N, entropy_N = token_logps(learner, learner.model, PROMPTS, ANSWERS, 0.7, with_entropy=True)
    assert entropy_N is not None
    torch.autograd.backward((torch.linspace(-1, 2, len(logp_N)) * logp_N).sum() + 0.3 * entropy_N.sum())
    return logp_N.detach(), {name: w.grad for name, w in learner.model.named_parameters() if w.grad is not None}


def alone(learner: Policy) -> tuple[Tensor, dict[str, Tensor]]:
    """The same through transformers, an answer at a time."""
    learner.model.zero_grad()
    parts = []
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        logits_TV = learner.model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0] / 0.7
        parts.append(torch.log_softmax(logits_TV[len(prompt) - 1 : -1], -1))
    logp_NV = torch.cat(parts)
    logp_N = logp_NV.gather(1, torch.tensor(list(chain.from_iterable(ANSWERS)))[:, None])[:, 0]
    entropy_N = -(logp_NV.exp() * logp_NV).sum(-1)
    torch.autograd.backward((torch.linspace(-1, 2, len(logp_N)) * logp_N).sum() + 0.3 * entropy_N.sum())
    return logp_N.detach(), {name: w.grad for name, w in learner.model.named_parameters() if w.grad is not None}


@pytest.mark.parametrize("kind", KNOWN)
def test_states_and_gradients_are_those_of_each_answer_alone(kind: str, calls: list[PreTrainedModel]) -> None:
    torch.manual_seed(5)
    learner = policy_of(KNOWN[kind]())
    logp_N, gradients = learnt(learner)
    assert calls == [learner.model]
    alone_N, wanted = alone(learner)
    torch.testing.assert_close(logp_N, alone_N, rtol=0, atol=1e-4)
    assert gradients.keys() == wanted.keys() == dict(learner.model.named_parameters()).keys()
    for name, gradient in gradients.items():
        assert (gradient - wanted[name]).abs().max() < 1e-4 * wanted[name].abs().max(), name


@pytest.mark.parametrize("tokens", [1, 5])
def test_pieces_of_any_size_give_the_same(
    tokens: int, calls: list[PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the layers, and of attention: spans of two tokens, one sequence at a time."""
    monkeypatch.setattr(layer, "PIECE_TOKENS", tokens)
    monkeypatch.setattr(block_attention, "QUERIES", 2)
    monkeypatch.setattr(block_attention, "SCORES", tokens)
    test_states_and_gradients_are_those_of_each_answer_alone("qwen2", calls)


def test_an_update_is_never_missed(calls: list[PreTrainedModel]) -> None:
    torch.manual_seed(5)
    learner = policy_of(KNOWN["grouped keys"]())
    before_N, _ = learnt(learner)
    with torch.no_grad():
        for weight in learner.model.parameters():
            weight.mul_(1.1)
    after_N, _ = learnt(learner)
    assert (after_N - before_N).abs().max() > 0.01
    torch.testing.assert_close(after_N, alone(learner)[0], rtol=0, atol=1e-4)
    assert len(calls) == 2


def test_frozen_weights_have_no_gradient(calls: list[PreTrainedModel]) -> None:
    torch.manual_seed(5)
    learner = policy_of(KNOWN["qwen2"]())
    frozen = {name for name, _ in learner.model.named_parameters() if "mlp" in name or "k_proj" in name}
    for name, weight in learner.model.named_parameters():
        weight.requires_grad_(name not in frozen)
    _, gradients = learnt(learner)
    _, wanted = alone(learner)
    assert gradients.keys() == wanted.keys() == dict(learner.model.named_parameters()).keys() - frozen
    for name, gradient in gradients.items():
        assert (gradient - wanted[name]).abs().max() < 1e-4 * wanted[name].abs().max(), name
    assert calls


def test_what_it_does_not_know_goes_through_transformers(tmp_path: Path, calls: list[PreTrainedModel]) -> None:
    """Another architecture, sliding windows, an adapter, other arithmetic, another layout."""
    torch.manual_seed(5)
    learnt(policy_of(gpt2()))
    learnt(policy_of(mistral(sliding_window=4)))
    part = ModelPart("builtin:countdown-base", lora=LoraPart(rank=2))
    adapted = load_policy(part, device="cpu", models_folder=tmp_path)
    add_adapter(adapted.model, part.lora, seed=1)
    learnt(adapted)
    half = policy_of(KNOWN["grouped keys"]())
    half.dtype = torch.bfloat16
    learnt(half)
    padded = policy_of(KNOWN["grouped keys"]())
    padded.forward = policy.Forward(Layout.PADDED)
    learnt(padded)
    assert calls == []


@pytest.mark.parametrize("piece", ["_turn_back", "_norm_gradient", "_inverse_rms"])
def test_a_pass_that_is_not_the_models_own_is_not_used(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial sees a fault in the states and one that is in the gradient alone."""
    sound = getattr(layer, piece)

    def spoilt(*given: object) -> object:
        made = sound(*given)
        return (made[0] * 1.01, *made[1:]) if isinstance(made, tuple) else made * 1.01

    assert policy_of(KNOWN["grouped keys"]()).has_own_pass
    monkeypatch.setattr(layer, piece, spoilt)
    assert not policy_of(KNOWN["grouped keys"]()).has_own_pass
