"""What an update promises: the same gradient however the batch is cut, and nothing from what must not teach."""

from __future__ import annotations

import dataclasses
import math

import msgspec
import pytest
import torch
from transformers import PreTrainedModel

from ponder import metrics
from ponder.events import Finish
from ponder.knobs import Knobs, Normaliser, Preset, with_value
from ponder.presets import PRESETS
from ponder.recipe import Recipe
from trainer.answers import Answer
from trainer.credit import give_credit
from trainer.learn import MicroBatch, choose_trained, cut, make_learner
from trainer.policy import Policy, token_logps
from trainer.reference import Reference
from trainer.reflection import Reflections
from trainer.rewards import Scored
from trainer.sampler import LocalSampler, Sampled
from trainer.tasks.countdown import pose


def answer_of(
    sampled: Sampled, *, prompt: list[int], group: int, advantage: float, reward: float | None = 0.0
) -> Answer:
    return Answer(
        problem=pose((1, 2, 3), 10), prompt_ids=prompt, group=group, index=0, sampled=sampled, text="",
        scored=Scored(reward, {}, ""), candidates=[], reflections=Reflections([], False, False, False),
        true_steps=0, written_steps=0, advantage=advantage,
    )  # fmt: skip


LENGTHS = (20, 3, 17, 8, 1, 20, 12, 5)


def shortened(one: Sampled, length: int) -> Sampled:
    """The first tokens of an answer: the tiny policy alone would write as far as it may, nearly always."""
    return Sampled(one.ids[:length], one.logps[:length], one.entropies[:length], one.finish)


def batch(policy: Policy) -> list[Answer]:
    """Two groups of four answers of very uneven lengths."""
    sampler = LocalSampler(policy.model, end_ids=policy.end_ids, pad_id=policy.pad_id)
    prompts = [[20, 21, 22], [30, 31, 32, 33, 34]]
    drawn = sampler.sample(
        prompts, group_size=4, max_new_tokens=20, temperature=1.0, generator=torch.Generator().manual_seed(0)
    )
    return [
        answer_of(
            shortened(one, LENGTHS[place]), prompt=prompts[place // 4], group=place // 4,
            advantage=(-1.0) ** place * (1 + place / 4),
        )
        for place, one in enumerate(drawn)
    ]  # fmt: skip


def knobs_with(recipe: Recipe, **changes: object) -> Knobs:
    knobs = recipe.knobs
    for name, value in {"optim_grad_clip": 0.0, **changes}.items():
        knobs = with_value(knobs, name.replace("_", ".", 1), value)
    return knobs


def gradient(policy: Policy, answers: list[Answer], knobs: Knobs) -> torch.Tensor:
    make_learner(policy, knobs).learn(
        answers,
        msgspec.structs.replace(knobs, optim=msgspec.structs.replace(knobs.optim, lr=0.0)),
        Reference(lambda: policy.model),
    )
    return torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None])


@pytest.mark.parametrize("normaliser", list(Normaliser))
def test_the_gradient_does_not_depend_on_how_the_batch_is_cut(
    policy: Policy, recipe: Recipe, normaliser: Normaliser
) -> None:
    answers = batch(policy)
    whole, in_rows, uneven = (
        gradient(policy, answers, knobs_with(recipe, optim_micro_batch_tokens=tokens, policy_normaliser=normaliser))
        for tokens in (100_000, 16, 60)
    )
    assert whole.abs().sum() > 0
    assert torch.allclose(whole, in_rows, atol=1e-6)
    assert torch.allclose(whole, uneven, atol=1e-6)


def test_answers_of_flat_groups_truncated_and_unscored_ones_do_not_teach(policy: Policy, recipe: Recipe) -> None:
    ended = Sampled([20, policy.end_ids[0]], [-1.0, -1.0], [1.0, 1.0], Finish.END)
    cut_off = Sampled([20, 21], [-1.0, -1.0], [1.0, 1.0], Finish.TRUNCATED)
    kept = answer_of(ended, prompt=[30], group=0, advantage=1.0)
    sibling = answer_of(ended, prompt=[30], group=0, advantage=0.0)
    flat = answer_of(ended, prompt=[30], group=1, advantage=0.0)
    truncated = answer_of(cut_off, prompt=[30], group=0, advantage=1.0)
    unscored = answer_of(ended, prompt=[30], group=0, advantage=0.0, reward=None)
    everything = [kept, sibling, flat, truncated, unscored]
    strict = knobs_with(recipe, policy_drop_flat_groups=True, policy_mask_truncated=True)
    loose = knobs_with(recipe, policy_drop_flat_groups=False, policy_mask_truncated=False)
    assert choose_trained(everything, strict) == [kept, sibling]
    assert choose_trained(everything, loose) == [kept, sibling, flat, truncated]


def test_a_batch_without_anything_to_learn_changes_nothing_and_is_counted(policy: Policy, recipe: Recipe) -> None:
    flat = batch(policy)
    for answer in flat:
        answer.advantage = 0.0
    before = [parameter.clone() for parameter in policy.model.parameters()]
    learner = make_learner(policy, recipe.knobs)
    figures = learner.learn(flat, knobs_with(recipe, policy_drop_flat_groups=True), Reference(lambda: policy.model))
    assert figures[metrics.SKIPPED] == 1.0
    assert learner.version == 0
    assert all(torch.equal(a, b) for a, b in zip(before, policy.model.parameters(), strict=True))


def test_a_gradient_that_is_not_finite_is_not_applied(policy: Policy, recipe: Recipe) -> None:
    answers = batch(policy)
    answers[0].advantage = math.nan
    before = [parameter.clone() for parameter in policy.model.parameters()]
    learner = make_learner(policy, recipe.knobs)
    figures = learner.learn(answers, knobs_with(recipe), Reference(lambda: policy.model))
    assert figures[metrics.SKIPPED] == 1.0
    assert all(torch.equal(a, b) for a, b in zip(before, policy.model.parameters(), strict=True))


def test_the_first_update_has_ratio_one_and_later_ones_move_away(policy: Policy, recipe: Recipe) -> None:
    answers = batch(policy)
    once = make_learner(policy, recipe.knobs).learn(answers, knobs_with(recipe), Reference(lambda: policy.model))
    assert once[metrics.RATIO_MEAN] == pytest.approx(1.0, abs=1e-6)
    assert once[metrics.CLIP_LOW] == once[metrics.CLIP_HIGH] == 0.0
    many = knobs_with(recipe, policy_updates_per_batch=4, optim_lr=0.05)
    moved = make_learner(policy, many).learn(answers, many, Reference(lambda: policy.model))
    assert moved[metrics.CLIP_LOW] + moved[metrics.CLIP_HIGH] > 0.0


def test_what_was_sampled_is_what_is_learnt(policy: Policy, recipe: Recipe) -> None:
    figures = make_learner(policy, recipe.knobs).learn(batch(policy), recipe.knobs, Reference(lambda: policy.model))
    assert figures[metrics.MISMATCH] < 1e-5


def test_micro_batches_stay_within_their_budget_and_lose_nobody(policy: Policy, recipe: Recipe) -> None:
    answers = batch(policy)
    knobs = knobs_with(recipe, optim_micro_batch_tokens=50)
    pieces = cut(answers, knobs)
    assert sorted(id(answer) for piece in pieces for answer in piece.answers) == sorted(map(id, answers))
    for piece in pieces:
        longest = max(len(answer.prompt_ids) + answer.length for answer in piece.answers)
        assert len(piece.answers) == 1 or len(piece.answers) * longest <= 50


def test_an_entropy_bonus_raises_entropy(policy: Policy, recipe: Recipe) -> None:
    answers = batch(policy)
    for answer in answers:
        answer.advantage = 0.0
    knobs = knobs_with(recipe, policy_entropy_bonus=1.0, optim_lr=0.01, kl_coef=0.0)
    learner = make_learner(policy, knobs)
    sampler = LocalSampler(policy.model, end_ids=policy.end_ids, pad_id=policy.pad_id)

    def entropy() -> float:
        drawn = sampler.sample(
            [[20, 21]], group_size=64, max_new_tokens=10, temperature=1.0, generator=torch.Generator().manual_seed(1)
        )
        return sum(sum(one.entropies) for one in drawn) / sum(len(one.ids) for one in drawn)

    before = entropy()
    for _ in range(5):
        learner.learn(answers, knobs, Reference(lambda: policy.model))
    assert entropy() > before


def test_the_update_ratio_is_that_of_the_weights_before_and_after(policy: Policy, recipe: Recipe) -> None:
    knobs = knobs_with(recipe, optim_lr=0.01, optim_weight_decay=0.1)
    learner = make_learner(policy, knobs)
    for _ in range(3):
        before = [parameter.detach().clone() for parameter in policy.model.parameters()]
        figures = learner.learn(batch(policy), knobs, Reference(lambda: policy.model))
        after = list(policy.model.parameters())
        changed = math.sqrt(sum(((a - b) ** 2).sum().item() for a, b in zip(after, before, strict=True)))
        whole = math.sqrt(sum((a**2).sum().item() for a in after))
        assert figures[metrics.UPDATE_RATIO] == pytest.approx(changed / whole, rel=5e-3)  # decays what is there now


def test_the_mismatch_is_measured_three_ways(policy: Policy, recipe: Recipe) -> None:
    answers = batch(policy)
    for answer in answers:
        answer.sampled.logps[:] = [logp - 0.1 for logp in answer.sampled.logps]
    figures = make_learner(policy, recipe.knobs).learn(answers, recipe.knobs, Reference(lambda: policy.model))
    assert figures[metrics.MISMATCH] == pytest.approx(0.1, abs=1e-4)
    assert figures[metrics.MISMATCH_MAX] == pytest.approx(0.1, abs=1e-4)
    assert figures[metrics.MISMATCH_K3] == pytest.approx(math.exp(0.1) - 0.1 - 1, abs=1e-4)


def test_the_first_ratio_is_one_even_in_a_model_with_dropout(recipe: Recipe) -> None:
    """And the model is left as it was found: dropout off in sampling and learning alike."""
    from tests.trainer.conftest import make_tiny_model
    from trainer import builtin
    from trainer.policy import make_policy

    model = make_tiny_model()
    model.config.attention_dropout = 0.5
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    noisy = make_policy(model.train(), builtin.countdown_tokenizer(), torch.device("cpu"))
    answers = batch(noisy)
    figures = make_learner(noisy, recipe.knobs).learn(answers, knobs_with(recipe), Reference(lambda: noisy.model))
    assert figures[metrics.RATIO_MEAN] == 1.0
    assert figures[metrics.MISMATCH] < 1e-5
    assert not noisy.model.training


@pytest.mark.parametrize("choice", [{"policy_updates_per_batch": 3}, {"policy_minibatches": 4}], ids=str)
def test_several_updates_use_the_old_policy_of_before_the_first(
    policy: Policy, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, choice: dict[str, object]
) -> None:
    """Whether the batch is gone over again or cut into parts: the ratio is against what sampled."""
    answers, seen = batch(policy), []
    knobs = knobs_with(recipe, optim_lr=0.02, kl_coef=0.0, **choice)
    learner = make_learner(policy, knobs)
    accumulate = learner._accumulate

    def spy(piece: MicroBatch, knobs: Knobs) -> None:
        accumulate(piece, knobs)
        seen.append(piece)

    monkeypatch.setattr(learner, "_accumulate", spy)
    figures = learner.learn(answers, knobs, Reference(lambda: policy.model))
    assert [learner.version] == [*choice.values()]
    assert abs(figures[metrics.RATIO_MEAN] - 1.0) > 1e-3
    assert figures[metrics.MISMATCH] < 1e-5
    for piece in seen:
        sampled = [logp for answer in piece.answers for logp in answer.sampled.logps]
        assert piece.old_logp_N is not None
        assert piece.old_logp_N.tolist() == pytest.approx(sampled, abs=1e-4)


def test_one_part_is_the_whole_batch_to_the_bit_and_parts_lose_nobody(policy: Policy, recipe: Recipe) -> None:
    answers = batch(policy)
    knobs = knobs_with(recipe, policy_minibatches=3)
    parts = make_learner(policy, knobs)._parts(answers, knobs)
    assert len(parts) == 3
    told = [id(answer) for batches in parts for piece in batches for answer in piece.answers]
    assert sorted(told) == sorted(map(id, answers))
    for batches in parts:
        total = sum(w * a.length for piece in batches for w, a in zip(piece.weights, piece.answers, strict=True))
        assert total == pytest.approx(1.0)
    before = torch.get_rng_state()
    make_learner(policy, knobs)._parts(answers, knobs_with(recipe))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("preset", list(PRESETS))
def test_no_preset_depends_on_how_the_batch_is_cut(policy: Policy, recipe: Recipe, preset: Preset) -> None:
    """Gradient and figures to 1e-5, with the preset's own loss; one part, for parts are drawn."""
    knobs, answers, found = recipe.knobs, batch(policy), []
    for place, answer in enumerate(answers):
        answer.scored = Scored(float(place % 3), {}, "")
    for name, setting in sorted(PRESETS[preset].settings.items(), reverse=True):
        knobs = with_value(knobs, name, setting.value)
    knobs = with_value(with_value(with_value(knobs, "policy.minibatches", 1), "optim.grad_clip", 0.0), "optim.lr", 0.0)
    figures = []
    for tokens in (100_000, 16, 60):
        cut_so = with_value(knobs, "optim.micro_batch_tokens", tokens)
        reference, learner = Reference(make_tiny_reference), make_learner(policy, cut_so)
        reference.prepare(cut_so)
        learner.prepare(cut_so, make_tiny_reference)
        give_credit(
            answers, cut_so, policy=policy, reference=reference, critic=learner.critic, kl=learner.kl.weight(cut_so.kl)
        )
        figures.append(learner.learn(answers, cut_so, reference))
        found.append(torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None]))
    assert found[0].abs().max() > 1e-4
    for other in found[1:]:
        assert (found[0] - other).abs().max() < 1e-5
    alike = [
        {
            name: value
            for name, value in told.items()
            if name != metrics.PAD_SHARE and not name.startswith(metrics.MACHINE)
        }
        for told in figures
    ]  # padding is of the cut, and time of the clock
    for told in alike:
        assert told == pytest.approx(alike[0], rel=1e-5, abs=1e-5)


def make_tiny_reference() -> PreTrainedModel:
    from tests.trainer.conftest import make_tiny_model

    return make_tiny_model(seed=1)


def test_a_batch_without_a_scored_answer_changes_nothing_with_a_critic_either(policy: Policy, recipe: Recipe) -> None:
    answers = batch(policy)
    for answer in answers:
        answer.scored = Scored(None, {}, "broken")
    knobs = knobs_with(recipe, policy_advantage_scale="batch", policy_advantage="gae")
    learner = make_learner(policy, knobs)
    learner.prepare(knobs, make_tiny_reference)
    nothing = Reference(lambda: policy.model)
    assert give_credit(answers, knobs, policy=policy, reference=nothing, critic=learner.critic, kl=0.0) == {}
    assert learner.learn(answers, knobs, nothing)[metrics.SKIPPED] == 1.0
    assert learner.version == 0


def test_the_end_token_teaches_and_nothing_behind_it_even_where_it_is_the_padding_too(
    policy: Policy, recipe: Recipe
) -> None:
    """What is learnt from comes from lengths, never from token values."""
    end = policy.end_ids[0]
    same = dataclasses.replace(policy, pad_id=end)
    short = answer_of(Sampled([20, end], [-1.0] * 2, [1.0] * 2, Finish.END), prompt=[30, 31], group=0, advantage=1.0)
    long = answer_of(
        Sampled([21, 22, 23, end], [-1.0] * 4, [1.0] * 4, Finish.END), prompt=[30, 31], group=0, advantage=-1.0
    )
    with torch.no_grad():
        together, _ = token_logps(same, same.model, [[30, 31]] * 2, [short.sampled.ids, long.sampled.ids], 1.0)
        alone, _ = token_logps(policy, policy.model, [[30, 31]], [short.sampled.ids], 1.0)
    assert len(together) == 6
    assert together[:2].tolist() == pytest.approx(alone.tolist(), abs=1e-6)
    knobs = knobs_with(recipe)
    assert torch.allclose(gradient(same, [short, long], knobs), gradient(policy, [short, long], knobs), atol=1e-7)


def test_the_log_prob_of_a_token_comes_from_the_place_before_it(policy: Policy) -> None:
    """Against the model's own table of next tokens, the end token included."""
    prompt, ids = [30, 31], [20, 21, policy.end_ids[0]]
    with torch.no_grad():
        table = torch.log_softmax(policy.model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0], -1)
        got, _ = token_logps(policy, policy.model, [prompt], [ids], 1.0)
    assert got.tolist() == pytest.approx([table[1 + place, token].item() for place, token in enumerate(ids)], abs=1e-5)
