"""Randomly initialised models of several architectures, small and sharp enough that a wrong position shows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from tests.trainer.conftest import make_tiny_model
from trainer import builtin
from trainer.policy import Policy, make_policy
from trainer.tasks import countdown

VOCABULARY = len(countdown.VOCABULARY)


def gpt2(context: int = 64) -> PreTrainedModel:
    """Learned positions, dropout in the config, tied head."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY, n_positions=context, n_embd=16, n_layer=2, n_head=2, initializer_range=0.3,
            resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1, bos_token_id=2, eos_token_id=2,
        )
    )  # fmt: skip


def qwen2() -> PreTrainedModel:
    """Rotary positions, biases, grouped keys, a head of its own."""
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=VOCABULARY, hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=False, initializer_range=0.3,
            bos_token_id=None, pad_token_id=0, eos_token_id=2,
        )
    )  # fmt: skip


MAKERS: dict[str, Callable[[], PreTrainedModel]] = {"llama": make_tiny_model, "gpt2": gpt2, "qwen2": qwen2}


def policy_of(name: str, seed: int = 3) -> Policy:
    """A policy of the architecture, the same for the same seed."""
    torch.manual_seed(seed)
    return make_policy(MAKERS[name](), builtin.countdown_tokenizer(), torch.device("cpu"))
