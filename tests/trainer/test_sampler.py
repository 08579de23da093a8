"""What samples and what learns are one policy: the conformance suite that every engine must pass."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from ponder.events import Finish
from tests.trainer.conftest import make_tiny_model
from trainer import builtin
from trainer.policy import Policy, make_policy, token_logps
from trainer.sampler import LocalSampler, Sampled, draw
from trainer.tasks import countdown

RAGGED = [[20, 21, 22], [30, 31, 32, 33, 34, 35], [40]]


def gpt2_policy() -> Policy:
    """Learned positions: rotary ones would hide a wrong position."""
    torch.manual_seed(3)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(countdown.VOCABULARY), n_positions=64, n_embd=16, n_layer=2, n_head=2, initializer_range=0.3,
            resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1, bos_token_id=2, eos_token_id=2,
        )
    )  # fmt: skip
    return make_policy(model, builtin.countdown_tokenizer(), torch.device("cpu"))


def sample(
    policy: Policy, prompts: list[list[int]], *, seed: int = 0, temperature: float = 1.0, tokens: int = 20,
    sampler: LocalSampler | None = None,
) -> list[Sampled]:  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    sampler = sampler or LocalSampler(policy.model, end_ids=policy.end_ids, pad_id=policy.pad_id)
    return sampler.sample(prompts, group_size=3, max_new_tokens=tokens, temperature=temperature, generator=generator)


@pytest.fixture(params=["llama", "gpt2"])
def either_policy(request: pytest.FixtureRequest) -> Policy:
    if request.param == "gpt2":
        return gpt2_policy()
    return make_policy(make_tiny_model(), builtin.countdown_tokenizer(), torch.device("cpu"))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("prompts", [RAGGED, [[20, 21], [30, 31]]])
def test_sampled_log_probs_are_those_that_learning_computes(
    either_policy: Policy, temperature: float, prompts: list[list[int]]
) -> None:
    drawn = sample(either_policy, prompts, temperature=temperature)
    asked = [prompt for prompt in prompts for _ in range(3)]
    logp_N, entropy_N = token_logps(
        either_policy, either_policy.model, asked, [one.ids for one in drawn], temperature, with_entropy=True
    )
    assert entropy_N is not None
    assert torch.allclose(logp_N, torch.tensor([logp for one in drawn for logp in one.logps]), atol=1e-4)
    assert torch.allclose(entropy_N, torch.tensor([e for one in drawn for e in one.entropies]), atol=1e-4)


def test_alternatives_are_the_most_probable_tokens_and_change_nothing_that_is_drawn(either_policy: Policy) -> None:
    policy = either_policy
    sampler = LocalSampler(policy.model, end_ids=policy.end_ids, pad_id=policy.pad_id)

    def drawn(alternatives: int) -> list[Sampled]:
        return sampler.sample(
            RAGGED, group_size=3, max_new_tokens=20, temperature=0.7, generator=torch.Generator().manual_seed(3),
            alternatives=alternatives,
        )  # fmt: skip

    plain, rich = drawn(0), drawn(4)
    assert [(one.ids, one.logps) for one in plain] == [(one.ids, one.logps) for one in rich]
    assert not any(one.alternative_ids for one in plain)
    for one in rich:
        assert len(one.alternative_ids) == len(one.alternative_logps) == len(one.ids)
        for token, logp, others, logps in zip(
            one.ids, one.logps, one.alternative_ids, one.alternative_logps, strict=True
        ):
            assert len(others) == 4 and logps == sorted(logps, reverse=True)
            if token in others:
                assert logps[others.index(token)] == pytest.approx(logp, abs=1e-4)
            else:
                assert logp <= logps[-1] + 1e-4


def test_an_answer_alone_has_the_log_probs_it_has_among_others(either_policy: Policy) -> None:
    drawn = sample(either_policy, RAGGED)
    asked = [prompt for prompt in RAGGED for _ in range(3)]
    together, _ = token_logps(either_policy, either_policy.model, asked, [one.ids for one in drawn], 1.0)
    alone = [
        token_logps(either_policy, either_policy.model, [p], [one.ids], 1.0)[0]
        for p, one in zip(asked, drawn, strict=True)
    ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def test_the_end_token_belongs_to_the_answer_and_a_cut_answer_is_marked(policy: Policy) -> None:
    drawn = sample(policy, RAGGED * 20, tokens=6)
    ended = [one for one in drawn if one.finish is Finish.END]
    cut = [one for one in drawn if one.finish is Finish.TRUNCATED]
    assert ended and cut
    for one in ended:
        assert one.ids[-1] in policy.end_ids
        assert not set(one.ids[:-1]) & set(policy.end_ids)
    for one in cut:
        assert len(one.ids) == 6
        assert not set(one.ids) & set(policy.end_ids)
    assert all(len(one.ids) == len(one.logps) == len(one.entropies) for one in drawn)


def test_the_same_generator_state_gives_the_same_answers(policy: Policy) -> None:
    assert sample(policy, RAGGED, seed=5) == sample(policy, RAGGED, seed=5)
    assert sample(policy, RAGGED, seed=5) != sample(policy, RAGGED, seed=6)


def test_no_cache_survives_an_update(policy: Policy) -> None:
    """Trap 4: the sampler of a run stays the same while its policy changes."""
    kept = LocalSampler(policy.model, end_ids=policy.end_ids, pad_id=policy.pad_id)
    before = sample(policy, RAGGED, seed=9, sampler=kept)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    fresh = make_policy(make_tiny_model(), policy.tokenizer, policy.device)
    fresh.model.load_state_dict(policy.model.state_dict())
    after = sample(policy, RAGGED, seed=9, sampler=kept)
    assert after == sample(fresh, RAGGED, seed=9)
    assert after != before


def test_sampling_leaves_the_training_mode_as_it_was(policy: Policy) -> None:
    policy.model.train()
    sample(policy, RAGGED)
    assert policy.model.training


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0])
    chance = torch.rand(40_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tokens, logp, entropy = draw(logits.repeat(40_000, 1), 1.0, chance)
    p = torch.softmax(logits, -1)
    shares = torch.bincount(tokens, minlength=4) / 40_000
    assert torch.allclose(shares, p, atol=0.01)
    assert logp[0].item() == pytest.approx(math.log(p[tokens[0]].item()), abs=1e-6)
    assert entropy[0].item() == pytest.approx(-(p * p.log()).sum().item(), abs=1e-6)


def test_nothing_is_cut_off_whatever_the_models_own_settings_ask_for(either_policy: Policy) -> None:
    """Trap 3: a model brings its `generation_config`; what learns would know nothing of a top-k in it."""
    plain = sample(either_policy, RAGGED)
    wishes = either_policy.model.generation_config
    wishes.do_sample, wishes.top_k, wishes.top_p = True, 1, 0.1
    wishes.temperature, wishes.repetition_penalty = 0.1, 5.0
    assert sample(either_policy, RAGGED) == plain


def test_a_listener_hears_every_answer_token_by_token(either_policy: Policy) -> None:
    kept: list[tuple[Tensor, ...]] = []
    drawn = LocalSampler(either_policy.model, end_ids=either_policy.end_ids, pad_id=either_policy.pad_id).sample(
        RAGGED, group_size=3, max_new_tokens=20, temperature=1.0, generator=torch.Generator().manual_seed(0),
        listener=lambda *told: kept.append(told),
    )  # fmt: skip
    heard: dict[int, list[int]] = {row: [] for row in range(len(drawn))}
    done: set[int] = set()
    for told in kept:  # looked at when all is over: they are the listener's
        for row, token, has_ended, was_alive in zip(*(one.tolist() for one in told), strict=True):
            if was_alive:
                heard[row].append(token)
            if has_ended:
                done.add(row)
    assert heard == {row: sampled.ids for row, sampled in enumerate(drawn)}
    assert done == {row for row, sampled in enumerate(drawn) if sampled.finish is Finish.END}


def test_text_is_what_the_tokenizer_decodes(policy: Policy) -> None:
    ids = policy.tokenizer("3 + 7 = 10 no wait 5 <end>")["input_ids"]
    text, offsets = policy.text(ids), policy.offsets(ids)
    assert text == "3 + 7 = 10 no wait 5"
    assert text[offsets[6] :].strip().startswith("wait")
