"""What samples and what learns are one policy, whatever draws: the conformance suite, for every engine.

Ponder's own passes more than this (`test_sampler`): an engine need not hear worlds, keep alternatives or tell tokens
one by one.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any  # Any: `generate` is untyped in transformers

import pytest
import torch
from torch import Tensor

from ponder import metrics
from ponder.errors import RecipeError
from ponder.events import CheckpointSaved, Finish, StepDone
from ponder.recipe import LoraPart, Recipe, dump_recipe, parse_recipe
from tests.trainer.models import policy_of
from tests.trainer.test_loop import go, of, tensors_of, what_was_learnt
from trainer.adapter import WithoutAdapter, add_adapter
from trainer.engines import cb, make_sampler
from trainer.engines.cb import CbSampler
from trainer.policy import Policy, token_logps
from trainer.sampler import Sampled, Sampler, sampler_of
from trainer.tasks import find_task

RAGGED = [[20, 21, 22], [30, 31, 32, 33, 34, 35], [40]]
LONG = [[20 + at % 60 for at in range(80)], [20 + at % 60 for at in range(70)]]
"""Two that have whole pages of a cache in common."""

Make = Callable[[Policy], Sampler]
ENGINES: dict[str, Make] = {"local": sampler_of, "cb": lambda policy: CbSampler(policy, 200)}


@pytest.fixture(params=list(ENGINES))
def make(request: pytest.FixtureRequest) -> Make:
    return ENGINES[request.param]


@pytest.fixture(params=["llama", "gpt2"])
def policy(request: pytest.FixtureRequest) -> Policy:
    """Learned positions, too: rotary ones would hide a wrong position."""
    return policy_of(request.param)


def draw(
    sampler: Sampler, prompts: list[list[int]] = RAGGED, *, group: int = 3, seed: int = 0, temperature: float = 1.0,
    tokens: int = 12,
) -> list[Sampled]:  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    return sampler.sample(
        prompts, group_size=group, max_new_tokens=tokens, temperature=temperature, generator=generator
    )


def far(policy: Policy, prompts: list[list[int]], drawn: list[Sampled], group: int, temperature: float) -> float:
    """How far log-probs and entropies are from those of a plain forward pass, an answer at a time."""
    worst = 0.0
    for row, one in enumerate(drawn):
        logp_T, entropy_T = token_logps(
            policy, policy.model, [prompts[row // group]], [one.ids], temperature, with_entropy=True
        )
        assert entropy_T is not None
        worst = max(worst, (logp_T - torch.tensor(one.logps)).abs().max().item())
        worst = max(worst, (entropy_T - torch.tensor(one.entropies)).abs().max().item())
    return worst


@torch.no_grad()
def move(policy: Policy) -> None:
    for parameter in policy.model.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_are_a_plain_forward_pass_s_and_still_are_right_after_an_update(
    make: Make, policy: Policy, temperature: float
) -> None:
    sampler = make(policy)
    for prompts, group in ((RAGGED, 3), (LONG if policy.context_tokens == 128 else RAGGED, 2)):
        assert (
            far(policy, prompts, draw(sampler, prompts, group=group, temperature=temperature), group, temperature)
            < 1e-4
        )
    move(policy)
    for prompts, group in ((RAGGED, 3), (LONG if policy.context_tokens == 128 else RAGGED, 2)):
        assert (
            far(policy, prompts, draw(sampler, prompts, group=group, temperature=temperature), group, temperature)
            < 1e-4
        )


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")  # peft's, of GPT-2's transposed layers
def test_an_adapter_samples_as_it_learns_before_and_after_an_update(make: Make, policy: Policy) -> None:
    pytest.importorskip("peft")
    add_adapter(policy.model, LoraPart(rank=2), seed=1)
    sampler = make(policy)
    assert far(policy, RAGGED, draw(sampler), 3, 1.0) < 1e-4
    move(policy)
    drawn = draw(sampler)
    assert far(policy, RAGGED, drawn, 3, 1.0) < 1e-4
    with WithoutAdapter(policy.model).switched():
        assert far(policy, RAGGED, drawn, 3, 1.0) > 1e-2, "the adapter has a say"


def test_greedy_is_what_generate_says(make: Make, policy: Policy) -> None:
    drawn = draw(make(policy), group=2, temperature=1e-4)
    for row, one in enumerate(drawn):
        prompt = RAGGED[row // 2]
        model: Any = policy.model
        whole = model.generate(
            torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=list(policy.end_ids),
            pad_token_id=policy.pad_id, attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        )  # fmt: skip
        assert one.ids == whole[0, len(prompt) :].tolist()


def test_the_same_generator_state_gives_the_same_answers_and_nobody_else_notices(make: Make, policy: Policy) -> None:
    torch.manual_seed(5)
    undisturbed = torch.rand(3)
    torch.manual_seed(5)
    sampler = make(policy)
    first = draw(sampler, seed=5)
    assert torch.equal(torch.rand(3), undisturbed)
    assert draw(sampler, seed=5) == first == draw(make(policy), seed=5)
    assert draw(sampler, seed=6) != first


def test_the_end_token_belongs_to_the_answer_and_a_cut_answer_is_marked(make: Make, policy: Policy) -> None:
    drawn = draw(make(policy), RAGGED * 8, tokens=6)
    assert {one.finish for one in drawn} == {Finish.END, Finish.TRUNCATED}
    for one in drawn:
        assert (one.ids[-1] in policy.end_ids) == (one.finish is Finish.END)
        assert not set(one.ids[:-1]) & set(policy.end_ids)
        assert len(one.ids) == len(one.logps) == len(one.entropies) <= 6
        assert len(one.ids) == 6 or one.finish is Finish.END


def test_draws_follow_the_distribution(make: Make, policy: Policy) -> None:
    drawn = draw(make(policy), [[20, 21]], group=600, tokens=1, temperature=0.7)
    logits_V = policy.model(torch.tensor([[20, 21]])).logits[0, -1]
    p_V = torch.softmax(logits_V / 0.7, -1)
    share_V = torch.bincount(torch.tensor([one.ids[0] for one in drawn]), minlength=len(p_V)) / len(drawn)
    assert (share_V - p_V).abs().max() < 0.08


def test_nothing_is_cut_off_whatever_the_models_own_settings_ask_for(make: Make, policy: Policy) -> None:
    plain = draw(make(policy))
    wishes = policy.model.generation_config
    wishes.do_sample, wishes.top_k, wishes.top_p = True, 1, 0.1
    wishes.temperature, wishes.repetition_penalty = 0.1, 5.0
    assert draw(make(policy)) == plain


def test_the_model_is_left_as_it_was(make: Make, policy: Policy) -> None:
    policy.model.train()
    before = policy.model.config._attn_implementation
    draw(make(policy))
    assert policy.model.training and policy.model.config._attn_implementation == before
    copy.deepcopy(policy.model)  # as a reference is made


def test_a_listener_hears_every_answer(make: Make, policy: Policy) -> None:
    heard: dict[int, list[int]] = {}
    done: set[int] = set()

    def listen(rows_A: Tensor, token_A: Tensor, ended_A: Tensor, alive_A: Tensor) -> None:
        for row, token, has_ended, is_alive in zip(
            *(t.tolist() for t in (rows_A, token_A, ended_A, alive_A)), strict=True
        ):
            if is_alive:
                heard.setdefault(row, []).append(token)
            if has_ended:
                done.add(row)

    drawn = make(policy).sample(
        RAGGED, group_size=3, max_new_tokens=12, temperature=1.0, generator=torch.Generator().manual_seed(0),
        listener=listen,
    )  # fmt: skip
    assert heard == {row: one.ids for row, one in enumerate(drawn)}
    assert done == {row for row, one in enumerate(drawn) if one.finish is Finish.END}


def test_more_answers_than_have_room_wait_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cb, "ROWS_AT_ONCE", 2)
    policy = policy_of("llama")
    drawn = draw(CbSampler(policy, 200), group=4)
    assert len(drawn) == 12
    assert far(policy, RAGGED, drawn, 4, 1.0) < 1e-4


def test_blocks_that_are_not_evicted_would_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above proves something only if old blocks change numbers: trap 4."""
    policy = policy_of("llama")
    sampler = CbSampler(policy, 200)
    draw(sampler, LONG, group=2)
    monkeypatch.setattr(cb, "CAN_EVICT", False)
    move(policy)
    assert far(policy, LONG, draw(sampler, LONG, group=2), 2, 1.0) > 1e-2


def with_engine(recipe: Recipe, engine: str, **more: str) -> Recipe:
    text = dump_recipe(recipe).replace("[mismatch]\ntruncate = 0.0\ngate = 0.0\n", "")
    told = {name.replace("_", ".", 1): value for name, value in more.items()}
    return parse_recipe(text, "tiny.toml", {"sampling.engine": engine, **told})


def test_a_run_by_continuous_batching_is_corrected_and_goes_on_to_the_bit_where_it_was_stopped(
    recipe: Recipe, tmp_path: Path
) -> None:
    batched = with_engine(recipe, "cb")
    whole = go(batched, tmp_path / "whole")
    steps = of(whole, StepDone)
    assert max(step.metrics[metrics.MISMATCH_MAX] for step in steps) < 1e-4
    assert {step.metrics[metrics.MISMATCH_GATED] for step in steps} == {0.0}
    assert {round(step.metrics[metrics.MISMATCH_WEIGHT], 4) for step in steps} == {1.0}
    shutil.copytree(tmp_path / "whole" / "step-000002", tmp_path / "again" / "step-000002")
    resumed = go(batched, tmp_path / "again")
    assert [event.step for event in of(resumed, StepDone)] == [3, 4]
    assert what_was_learnt(resumed) == what_was_learnt(whole, after=2)
    assert of(resumed, CheckpointSaved)
    last, again = tensors_of(tmp_path / "whole", 4), tensors_of(tmp_path / "again", 4)
    assert all(torch.equal(last[name], again[name]) for name in last)


def test_an_engine_that_hears_no_world_is_refused_where_the_task_answers(recipe: Recipe) -> None:
    policy = policy_of("llama")
    with pytest.raises(RecipeError, match="in the middle of a text"):
        make_sampler(policy, with_engine(recipe, "cb"), find_task("nim", {}, recipe.reflection), lambda: 0)
