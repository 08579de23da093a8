"""The operations that bench/ counts by formula are those that PyTorch counts while it computes."""

from __future__ import annotations

import doctest

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench import figures, growth, peer_reward, sampling, spread
from bench.peer_work import costs_of, tiny_model, tiny_prompts, tiny_tokenizer

PROMPT, ANSWER = 5, 7


def counted(rows: int) -> float:
    """What PyTorch counts for a forward and a backward pass over rows of one length, the head on answers only."""
    model = tiny_model(width=32, layers=2, heads=4, kv_heads=2, inner=48)
    model.set_attn_implementation("eager")
    ids_BT = torch.randint(4, 128, (rows, PROMPT + ANSWER))
    with FlopCounterMode(display=False) as mode:
        hidden_BTD = model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state
        torch.autograd.backward(model.lm_head(hidden_BTD[:, PROMPT:]).sum())
    return float(mode.get_total_flops())


def unseen(rows: int) -> float:
    """Operations of attention on later positions: computed by eager attention, then masked, and so not useful."""
    model = tiny_model(width=32, layers=2, heads=4, kv_heads=2, inner=48)
    length = PROMPT + ANSWER
    return 3 * costs_of(model).look * rows * (length**2 - length * (length + 1) / 2)


def test_learning_costs_what_pytorch_counts_without_what_is_masked() -> None:
    model = tiny_model(width=32, layers=2, heads=4, kv_heads=2, inner=48)
    useful = costs_of(model).learning([PROMPT] * 3, [ANSWER] * 3)
    assert counted(3) - unseen(3) == pytest.approx(useful, rel=0.02)


def test_sampling_one_answer_a_prompt_costs_a_third_of_learning_it() -> None:
    costs = costs_of(tiny_model(width=32, layers=2))
    learning = costs.learning([PROMPT] * 4, [ANSWER] * 4)
    assert costs.sampling(PROMPT, ANSWER, prompts=4, group=1) == pytest.approx(learning / 3)
    assert costs.sampling(PROMPT, ANSWER, prompts=1, group=4) < learning / 3


def test_the_small_work_speaks_in_whole_words() -> None:
    tokenizer = tiny_tokenizer()
    for prompt in tiny_prompts(8):
        ids = tokenizer(prompt)["input_ids"]
        assert 12 <= len(ids) <= 20
        assert tokenizer.decode(ids) == prompt


@pytest.mark.parametrize("module", [figures, growth, peer_reward, sampling, spread])
def test_the_examples_of_bench_are_true(module: object) -> None:
    assert doctest.testmod(module, raise_on_error=False).failed == 0  # type: ignore[arg-type]  # it is a module
