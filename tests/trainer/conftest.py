"""A policy so small that a whole run takes a second: one layer, width 16, the countdown tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ponder.recipe import Recipe, parse_recipe
from trainer import builtin
from trainer.policy import Policy, make_policy
from trainer.tasks import countdown

RECIPE = """
[run]
name = "tiny"
seed = 7
[model]
path = "{model}"
[task]
name = "countdown"
[stage]
kind = "rl"
steps = 4
[compute]
device = "cpu"
[sampling]
prompts_per_step = 3
group_size = 4
max_new_tokens = 12
[policy]
drop_flat_groups = false
mask_truncated = false
[reward]
length = -0.5
format = 0.5
[kl]
coef = 0.05
[optim]
lr = 0.01
micro_batch_tokens = 100
[evaluation]
every_steps = 2
problems = 8
final_problems = 8
[saving]
every_steps = 2
keep = 3
"""


def make_tiny_model(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(countdown.VOCABULARY),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            initializer_range=0.3,
            bos_token_id=None,
            pad_token_id=countdown.VOCABULARY.index(countdown.PAD),
            eos_token_id=countdown.VOCABULARY.index(countdown.END),
        )
    )


@pytest.fixture
def policy() -> Policy:
    return make_policy(make_tiny_model(), builtin.countdown_tokenizer(), torch.device("cpu"))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_model().save_pretrained(folder)
    builtin.countdown_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def recipe(tiny_folder: Path) -> Recipe:
    return parse_recipe(RECIPE.format(model=tiny_folder), "tiny.toml")
