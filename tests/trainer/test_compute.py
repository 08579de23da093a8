"""A step's cost is what its matrices multiply, as torch itself counts it, and what its tokens add up to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from torch.utils.flop_counter import FlopCounterMode

from ponder import metrics
from ponder.events import GroupScored, StepDone
from ponder.recipe import Recipe
from tests.trainer.models import MAKERS
from tests.trainer.test_loop import go, of
from trainer import builtin
from trainer.compute import cost, multiplied_weights

T = 12


@pytest.mark.parametrize("name", ["countdown", *MAKERS])
def test_two_flops_a_weight_and_token_is_what_torch_counts_forwards_and_four_more_backwards(name: str) -> None:
    torch.manual_seed(0)
    model = builtin.countdown_model() if name == "countdown" else MAKERS[name]()
    model.set_attn_implementation("eager")  # else torch does not count attention, on a CPU
    ids_BT = torch.randint(3, 60, (4, T))
    with FlopCounterMode(display=False) as forward:
        logits_BTV = model(ids_BT, use_cache=False).logits
    with FlopCounterMode(display=False) as backward:
        logits_BTV.sum().backward()
    tokens = ids_BT.numel()
    read = cost(model, read=tokens, learnt=0, tokens=tokens)[metrics.COMPUTE_FLOPS]
    learnt = cost(model, read=0, learnt=tokens, tokens=tokens)[metrics.COMPUTE_FLOPS]
    attention = 4 * T * model.config.num_hidden_layers * model.config.hidden_size * tokens  # which is left out
    assert forward.get_total_flops() - attention == read
    assert forward.get_total_flops() + backward.get_total_flops() - 3 * attention == learnt


def test_an_embedding_that_is_looked_up_only_is_not_multiplied() -> None:
    for name, is_tied in (("qwen2", False), ("llama", True)):
        model = MAKERS[name]()
        matrices = sum(weight.numel() for weight in model.parameters() if weight.dim() > 1)
        embedding = sum(weight.numel() for weight in model.get_input_embeddings().parameters())
        assert multiplied_weights(model) == matrices - (0 if is_tied else embedding)


def test_a_step_counts_prompts_answers_the_reference_and_what_is_learnt(recipe: Recipe, tmp_path: Path) -> None:
    found = {}
    for coef in (0.0, 0.1):
        link = go(replace(recipe, kl=replace(recipe.kl, coef=coef)), tmp_path / str(coef))
        found[coef] = of(link, StepDone)[0].metrics
        answers = [rollout for event in of(link, GroupScored) if event.step == 1 for rollout in event.rollouts]
        assert found[coef][metrics.COMPUTE_TOKENS] == sum(rollout.length_tokens for rollout in answers)
        assert found[coef][metrics.COMPUTE_FLOPS] > 0
    assert found[0.1][metrics.COMPUTE_FLOPS] > found[0.0][metrics.COMPUTE_FLOPS]
