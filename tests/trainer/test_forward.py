"""However an answer is forwarded (alone, padded, packed, in chunks, in bfloat16), it is the same answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor
from transformers import MistralConfig, MistralForCausalLM

from ponder.choices import Layout
from ponder.events import Finish
from ponder.knobs import KlPlace, Knobs, with_value
from ponder.recipe import Recipe
from tests.trainer.models import MAKERS, VOCABULARY, policy_of
from tests.trainer.test_learning import batch, gradient
from tests.trainer.test_loop import go, what_was_learnt
from trainer import builtin, rows
from trainer.attention import attend
from trainer.head import score_tokens
from trainer.learn import cut
from trainer.policy import Forward, Policy, make_policy, token_logps
from trainer.precision import computing
from trainer.rows import Text, count_positions, lay_out, pack
from trainer.sampler import LocalSampler, Sampled

PROMPTS = [[20, 21, 22], [30, 31, 32, 33, 34, 35], [40], [7, 8]]
ANSWERS = [[5, 6, 7, 8, 9, 10, 11, 2], [9, 2], [11, 12, 13, 14, 15], [3, 4, 5, 6, 2]]


def scored(policy: Policy, prompts: Sequence[list[int]] = PROMPTS, answers: Sequence[list[int]] = ANSWERS) -> Tensor:
    logp_N, entropy_N = token_logps(policy, policy.model, prompts, answers, 0.7, with_entropy=True)
    assert entropy_N is not None
    return torch.stack([logp_N, entropy_N])


def padded_on_the_left(policy: Policy) -> Tensor:
    """Log-probs as a sampler sees them: padding on the left, a mask, positions counted from the first real token."""
    texts = [p + a for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    longest = max(map(len, texts))
    ids_BT = torch.tensor([[0] * (longest - len(text)) + text for text in texts])
    mask_BT = torch.tensor([[0] * (longest - len(text)) + [1] * len(text) for text in texts])
    position_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
    logits_BTV = policy.model(input_ids=ids_BT, attention_mask=mask_BT, position_ids=position_BT).logits / 0.7
    logp_BT = torch.log_softmax(logits_BTV[:, :-1], -1).gather(2, ids_BT[:, 1:, None])[..., 0]
    return torch.cat([logp_BT[row, -len(answer) :] for row, answer in enumerate(ANSWERS)])


@pytest.fixture(params=list(MAKERS))
def any_policy(request: pytest.FixtureRequest) -> Policy:
    return policy_of(request.param)


@pytest.mark.parametrize("attention", ["ponder", "sdpa", "eager"])
def test_left_right_packed_and_alone_have_the_same_log_probs(any_policy: Policy, attention: str) -> None:
    any_policy.model.set_attn_implementation(attention)
    any_policy.forward = Forward(Layout.PADDED)
    padded = scored(any_policy)
    assert any_policy.can_pack
    any_policy.forward = Forward(Layout.PACKED)
    packed = scored(any_policy)
    alone = torch.cat([scored(any_policy, [p], [a]) for p, a in zip(PROMPTS, ANSWERS, strict=True)], dim=1)
    assert torch.allclose(packed, padded, atol=1e-5)
    assert torch.allclose(alone, padded, atol=1e-5)
    assert torch.allclose(padded_on_the_left(any_policy), padded[0], atol=1e-5)


def test_a_wrong_position_or_a_neighbour_in_the_row_would_show(any_policy: Policy) -> None:
    """The tests above prove something only if the mistakes that they look for change numbers."""
    ids = torch.tensor([[20, 21, 22, 5, 30, 31, 32, 9]])
    kept_apart = any_policy.model(input_ids=ids, position_ids=torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3]])).logits
    run_together = any_policy.model(input_ids=ids).logits
    assert (kept_apart[:, 4:] - run_together[:, 4:]).abs().max() > 0.01


def test_several_packed_rows_have_the_log_probs_of_padded_ones(
    any_policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    any_policy.forward = Forward(Layout.PADDED)
    padded = scored(any_policy)
    any_policy.forward = Forward(Layout.PACKED)
    monkeypatch.setattr(rows, "ROW_TOKENS", 13)
    laid = lay_out(PROMPTS, ANSWERS, pad_id=0, device=any_policy.device, layout=Layout.PACKED)
    assert 1 < len(laid.ids_BT) < len(ANSWERS)
    assert torch.allclose(scored(any_policy), padded, atol=1e-5)


def test_a_model_that_mixes_the_answers_of_a_row_is_found_out(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no row is kept apart (as before transformers 4.53), packing is not used, asked or not."""
    from trainer import policy as module

    whole = policy.model.forward

    def mixing(input_ids: Tensor, use_cache: bool, position_ids: Tensor | None = None) -> object:
        return whole(input_ids, torch.ones_like(input_ids), position_ids, use_cache=use_cache)

    monkeypatch.setattr(policy.model, "forward", mixing)
    assert not module._can_pack(policy.model, module._logits_alone(policy.model, policy.device))
    policy.can_pack, policy.forward = False, Forward(Layout.PACKED)
    assert policy.layout is Layout.PADDED


def test_a_model_whose_attention_is_not_ours_is_padded(any_policy: Policy) -> None:
    layouts = [any_policy.layout]
    any_policy.model.set_attn_implementation("eager")
    assert [*layouts, any_policy.layout] == [Layout.SHARED, Layout.PADDED]
    assert not make_policy(any_policy.model, any_policy.tokenizer, any_policy.device).can_share


def test_a_saved_model_knows_nothing_of_our_attention(any_policy: Policy, tmp_path: Path) -> None:
    any_policy.model.save_pretrained(tmp_path)
    assert "ponder" not in (tmp_path / "config.json").read_text()


def test_a_window_that_slides_is_kept_where_prompts_are_shared() -> None:
    torch.manual_seed(3)
    config = MistralConfig(
        vocab_size=VOCABULARY, hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.3, sliding_window=4, eos_token_id=2,
        bos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    policy = make_policy(MistralForCausalLM(config), builtin.countdown_tokenizer(), torch.device("cpu"))
    assert policy.can_share
    shared = scored(policy)
    policy.forward = Forward(Layout.PADDED)
    assert torch.allclose(shared, scored(policy), atol=1e-5)
    policy.model.config.sliding_window = None
    for layer in policy.model.model.layers:
        layer.self_attn.sliding_window = None
    assert (shared - scored(policy)).abs().max() > 0.01


def test_what_attention_is_told_and_cannot_do_in_blocks_is_an_error(policy: Policy) -> None:
    laid = lay_out(PROMPTS, ANSWERS, pad_id=0, device=policy.device, layout=Layout.SHARED)
    states = torch.zeros(1, 2, laid.ids_BT.shape[1], 4)
    with pytest.raises(ValueError, match="softcap"):
        attend(policy.model, states, states, states, None, blocks=laid.blocks, softcap=30.0)


def test_a_prompt_is_read_once_for_all_its_answers() -> None:
    prompts, answers = [[5, 6, 7], [8], [5, 6, 7], [8]], [[1, 2], [3, 4, 9, 9], [4], [7, 7, 7]]
    laid = lay_out(prompts, answers, pad_id=0, device=torch.device("cpu"), layout=Layout.SHARED)
    assert laid.ids_BT.tolist() == [[8, 5, 6, 7, 1, 7, 7, 3, 4, 9]]
    assert laid.position_BT is not None
    assert laid.position_BT.tolist() == [[0, 0, 1, 2, 3, 1, 2, 1, 2, 3]]
    assert laid.place_N.tolist() == [3, 4, 0, 7, 8, 9, 3, 0, 5, 6]


def test_blocks_of_attention_hold_little_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BLOCK_TOKENS", 0)
    lengths = [500, 20, 30, 480, 10, 300, 200, 500]
    laid = lay_out(
        [[1]] * 8, [[2] * length for length in lengths], pad_id=0, device=torch.device("cpu"), layout=Layout.SHARED
    )
    assert laid.blocks is not None
    assert laid.ids_BT.numel() <= len(laid.blocks.query) < rows.BLOCK_SLACK * laid.ids_BT.numel()
    assert laid.blocks.query[laid.blocks.own].tolist() == list(range(laid.ids_BT.numel()))


def with_knobs(recipe: Recipe, **values: object) -> Knobs:
    knobs = recipe.knobs
    for name, value in {"optim_grad_clip": 0.0, **values}.items():
        knobs = with_value(knobs, name.replace("_", ".", 1), value)
    return knobs


def test_the_gradient_is_the_same_packed_and_in_chunks(any_policy: Policy, recipe: Recipe) -> None:
    answers = batch(any_policy)
    plain = gradient(
        any_policy, answers, with_knobs(recipe, optim_micro_batch_tokens=100_000, optim_layout=Layout.PADDED)
    )
    assert plain.abs().sum() > 0
    for changes in (
        {"optim_layout": Layout.PACKED},
        {"optim_layout": Layout.PACKED, "optim_micro_batch_tokens": 60},
        {"optim_layout": Layout.SHARED},
        {"optim_layout": Layout.SHARED, "optim_micro_batch_tokens": 60},
        {"optim_layout": Layout.SHARED, "optim_micro_batch_tokens": 16},
        {"optim_layout": Layout.PADDED, "optim_head_chunk_tokens": 7},
        {"optim_layout": Layout.PACKED, "optim_head_chunk_tokens": 16, "policy_entropy_bonus": 0.0},
    ):
        changed = gradient(any_policy, answers, with_knobs(recipe, **changes))
        assert torch.allclose(changed, plain, atol=1e-5), changes


@pytest.mark.parametrize("layout", list(Layout))
def test_micro_batches_stay_within_their_budget_and_lose_nobody(policy: Policy, recipe: Recipe, layout: Layout) -> None:
    answers = batch(policy)
    pieces = cut(answers, with_knobs(recipe, optim_micro_batch_tokens=50), layout=layout)
    assert sorted(id(answer) for piece in pieces for answer in piece.answers) == sorted(map(id, answers))
    for piece in pieces:
        assert len(piece.answers) == 1 or count_positions(piece.answers, layout)[0] <= 50


def test_packing_forwards_fewer_positions_and_every_answer_once() -> None:
    lengths = [500, 20, 30, 480, 10, 300, 200]
    assert sorted(place for row in pack(lengths) for place in row) == list(range(len(lengths)))
    texts = [Text([1], length) for length in lengths]
    packed, filled = count_positions(texts, Layout.PACKED)
    assert filled == sum(lengths) <= packed < 0.6 * count_positions(texts, Layout.PADDED)[0]


def test_chunks_of_the_head_change_rounding_only() -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(32, 4000, bias=False)
    target_N = torch.randint(4000, (50,))
    results = []
    for chunk in (50, 7):
        hidden_ND = torch.randn(50, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
        head.zero_grad()
        logp_N, entropy_N = score_tokens(hidden_ND, head, target_N, 0.9, chunk_tokens=chunk, with_entropy=True)
        assert entropy_N is not None
        torch.autograd.backward((logp_N.sin() + 0.1 * entropy_N).sum())
        assert hidden_ND.grad is not None and head.weight.grad is not None
        results.append((logp_N.detach(), entropy_N.detach(), hidden_ND.grad, head.weight.grad))
    for plain, chunked in zip(*results, strict=True):
        assert torch.allclose(plain, chunked, atol=2e-6 if plain.dim() == 1 else 1e-5)


def test_the_entropy_is_that_of_the_whole_distribution() -> None:
    logp_V = torch.log_softmax(torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(0)), -1)
    identity = torch.nn.Identity()
    _, entropy_N = score_tokens(logp_V[None], identity, torch.tensor([3]), 1.0, chunk_tokens=9, with_entropy=True)
    assert entropy_N is not None
    assert entropy_N.item() == pytest.approx(-(logp_V.exp() * logp_V).sum().item(), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sampled_log_probs_are_learnt_ones_in_every_precision(any_policy: Policy, dtype: torch.dtype) -> None:
    any_policy.dtype = dtype
    sampler = LocalSampler(
        any_policy.model, end_ids=any_policy.end_ids, pad_id=any_policy.pad_id, dtype=dtype,
        has_plain_head=any_policy.has_plain_head,
    )  # fmt: skip
    drawn = sampler.sample(
        PROMPTS, group_size=4, max_new_tokens=20, temperature=1.0, generator=torch.Generator().manual_seed(0)
    )
    asked = [prompt for prompt in PROMPTS for _ in range(4)]
    logp_N, _ = token_logps(any_policy, any_policy.model, asked, [one.ids for one in drawn], 1.0)
    away_N = (logp_N - torch.tensor([logp for one in drawn for logp in one.logps])).abs()
    assert logp_N.dtype is torch.float32
    if dtype is torch.float32:
        assert away_N.max() < 1e-4
    else:
        assert 0 < away_N.mean() < 0.02


def test_weights_and_gradients_stay_float32_in_bfloat16(policy: Policy) -> None:
    policy.dtype = torch.bfloat16
    logp_N, _ = token_logps(policy, policy.model, PROMPTS, ANSWERS, 1.0)
    torch.autograd.backward(logp_N.sum())
    assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.float32}
    assert {p.grad.dtype for p in policy.model.parameters() if p.grad is not None} == {torch.float32}


def test_small_updates_are_lost_in_bfloat16_weights_and_not_in_float32_ones() -> None:
    changed = {}
    for dtype in (torch.float32, torch.bfloat16):
        weight = torch.nn.Parameter((0.02 * torch.randn(4000, generator=torch.Generator().manual_seed(0))).to(dtype))
        before = weight.detach().clone()
        optimizer = torch.optim.AdamW([weight], lr=1e-6, weight_decay=0.0)
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        changed[dtype] = (weight.detach() != before).float().mean().item()
    assert changed[torch.float32] > 0.99
    assert changed[torch.bfloat16] < 0.1


def test_a_permuted_batch_has_the_same_entropy(any_policy: Policy) -> None:
    order = [2, 0, 3, 1]
    straight = scored(any_policy)[1].mean()
    permuted = scored(any_policy, [PROMPTS[i] for i in order], [ANSWERS[i] for i in order])[1].mean()
    assert permuted.item() == pytest.approx(straight.item(), abs=1e-6)


def test_float32_is_no_context_at_all(policy: Policy) -> None:
    with computing(policy.device, torch.float32):
        assert not torch.is_autocast_enabled("cpu")


def test_no_cache_of_any_model_survives_an_update(any_policy: Policy) -> None:
    def sampler_of(policy: Policy) -> LocalSampler:
        return LocalSampler(policy.model, end_ids=policy.end_ids, pad_id=policy.pad_id)

    def draw(sampler: LocalSampler) -> list[Sampled]:
        return sampler.sample(
            PROMPTS, group_size=2, max_new_tokens=8, temperature=1.0, generator=torch.Generator().manual_seed(4)
        )

    kept = sampler_of(any_policy)
    before = draw(kept)
    with torch.no_grad():
        for parameter in any_policy.model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    model = type(any_policy.model)(any_policy.model.config)
    model.load_state_dict(any_policy.model.state_dict())
    after = draw(kept)
    assert after == draw(sampler_of(make_policy(model, any_policy.tokenizer, any_policy.device)))
    assert after != before


def test_masked_truncated_answers_change_nothing_of_the_gradient(any_policy: Policy, recipe: Recipe) -> None:
    answers = batch(any_policy)
    cut_off = answers[::3]
    whole = [answer for answer in answers if answer not in cut_off]
    for answer in answers:
        finish = Finish.TRUNCATED if answer in cut_off else Finish.END
        answer.sampled = Sampled(answer.sampled.ids, answer.sampled.logps, answer.sampled.entropies, finish)
    knobs = with_knobs(recipe, policy_mask_truncated=True, kl_coef=0.0)
    masked, without = (gradient(any_policy, some, knobs) for some in (answers, whole))
    assert masked.abs().sum() > 0
    assert torch.equal(masked, without)


def test_a_packed_and_chunked_run_resumes_to_the_bit(recipe: Recipe, tmp_path: Path) -> None:
    """With the divergence in the reward, so that the reference is asked before the first update of an attempt."""
    optim = msgspec.structs.replace(recipe.optim, layout=Layout.PACKED, head_chunk_tokens=8)
    kl = msgspec.structs.replace(recipe.kl, where=KlPlace.REWARD)
    packed = msgspec.structs.replace(recipe, optim=optim, kl=kl)
    whole = go(packed, tmp_path / "whole")
    go(msgspec.structs.replace(packed, stage=msgspec.structs.replace(packed.stage, steps=2)), tmp_path / "halved")
    assert what_was_learnt(go(packed, tmp_path / "halved")) == what_was_learnt(whole, after=2)
