"""The live reward model: fitted exactly, taken between batches, never inside one, and the same again after a crash."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path

import msgspec
import pytest
import torch

from daemon.fork import share_past
from ponder import metrics
from ponder.advantages import has_spread
from ponder.choices import Combine
from ponder.errors import StoreError
from ponder.events import AUDIT, CommandApplied, CommandRefused, GroupScored, StepDone
from ponder.knobs import Knobs
from ponder.paths import features_beside, reward_model_beside
from ponder.ranking import tiers
from ponder.recipe import ForkPart, Recipe, parse_recipe
from ponder.rlhf import PREFERENCE, PREFERENCE_BEFORE, PREFERENCE_RAW, PREFERENCE_SPREAD, Rlhf
from ponder.wire import Action, KnobOrder, RewardModelOrder
from tests.trainer.conftest import RECIPE
from tests.trainer.test_loop import go, of, ordering, state_of, tensors_of, what_was_learnt
from trainer.audits import Before
from trainer.features import kept_steps, load_features
from trainer.live_reward import (
    CENTERING,
    ENOUGH,
    HELD_OUT_SHARE,
    MOST_ORDERS,
    Basis,
    Fit,
    Label,
    _batches,
    _best_heads,
    _derivatives,
    _newton,
    fit,
    is_held_out,
    make_basis,
    strict_orders,
)
from trainer.preferences import centering, plackett_luce
from trainer.reward_versions import load_version, newest_version, sha256_of, version_path, write_basis, write_version
from trainer.rewards import Scored
from trainer.rewards.combine import combine
from trainer.tasks.order import place_of

DIMENSIONS = 6
KNOBS = Rlhf(min_rankings=20, heads=4, dimensions=DIMENSIONS)


@pytest.fixture(scope="module")
def basis() -> Basis:
    generator = torch.Generator().manual_seed(1)
    return make_basis(torch.randn(200, 20, generator=generator), DIMENSIONS)


def labels(basis: Basis, count: int, *, noise: float = 0.2, seed: int = 2) -> list[Label]:
    """Rankings of four by a hidden taste; partial ones, ties and sets that are all bad among them."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    taste = torch.randn(DIMENSIONS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = []
    for number in range(count):
        seen_KD = basis.project(torch.randn(4, 20, generator=generator))
        worth = [value + draw.gauss(0, noise) for value in (seen_KD @ taste).tolist()]
        order = sorted(range(4), key=lambda place: -worth[place])
        ranks: list[int | None] = [order.index(place) + 1 for place in range(4)]
        if number % 5 == 1:
            ranks = [rank if rank == 1 else None for rank in ranks]
        if number % 5 == 2:
            ranks = [1 if rank == 2 else rank for rank in ranks]
        is_bad = max(worth) < 0.5
        found.append(
            Label(
                f"ranking {number}", f"prompt {number}", number // 4, seen_KD, [None] * 4 if is_bad else ranks,
                [is_bad] * 4,
            )
        )  # fmt: skip
    return found


# ---- the fit


def test_a_fit_learns_a_hidden_taste_and_opens_its_gate(basis: Basis) -> None:
    found = fit(labels(basis, 200), basis, KNOBS, 50)
    assert found.is_open and found.figures["held_out"] > 0.9 and found.labels == 200
    assert found.figures["held_out_low"] > KNOBS.gate
    assert not found.threshold_H.isnan().any()


def test_the_gate_stays_closed_on_noise_and_on_too_few(basis: Basis) -> None:
    assert not fit(labels(basis, 19, noise=0.0), basis, KNOBS, 5).is_open
    shuffled = labels(basis, 200, noise=1e6)
    assert not fit(shuffled, basis, KNOBS, 50).is_open
    nothing = fit([], basis, KNOBS, 0)
    assert not nothing.is_open and nothing.weights_HD.abs().sum() == 0 and nothing.threshold_H.isnan().all()


def test_a_fit_is_where_the_loss_is_least_for_every_head(basis: Basis) -> None:
    learnt = [label for label in labels(basis, 120) if not label.is_held_out]
    batches = _batches(learnt, KNOBS, 30)
    heads_HP = _best_heads(batches, KNOBS.heads, DIMENSIONS)
    gradient_HP, hessian_HPP = _derivatives(batches, heads_HP)
    assert gradient_HP.abs().max() < 1e-8
    assert torch.linalg.eigvalsh(hessian_HPP).min() > 0.9
    far_HP = torch.randn(heads_HP.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(_newton(batches, far_HP, ENOUGH), heads_HP, rtol=0, atol=1e-9)


def test_the_loss_is_plackett_luce_and_its_derivatives_are_its_slope_and_its_curve(basis: Basis) -> None:
    given = labels(basis, 100)
    (batch,) = _batches(given, KNOBS, 30)
    score = torch.randn(4, 100, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    loss = batch.loss(score)
    for place, label in enumerate(given):
        if any(label.bad):
            alike = torch.nn.functional.softplus(score[:, place, :-1] - score[:, place, -1:]).sum(-1)
        else:
            ranked = torch.stack([plackett_luce(head[place, :-1], label.ranks) for head in score])
            best = torch.tensor([rank == min(r for r in label.ranks if r) for rank in label.ranks])
            alike = ranked + (torch.nn.functional.softplus(score[:, place, -1:] - score[:, place, :-1]) * best).sum(-1)
        centred = CENTERING * (2 * score[:, place, :-1].mean(-1)) ** 2
        torch.testing.assert_close(loss[:, place], alike + centred, rtol=0, atol=1e-12)
    slope, curve = batch.derivatives(score)
    for k in range(5):
        nudge = torch.zeros_like(score)
        nudge[..., k] = 1e-5
        rise = (batch.loss(score + nudge) - batch.loss(score - nudge)) / 2e-5
        torch.testing.assert_close(slope[..., k], rise, rtol=0, atol=1e-8)
        turn = (batch.derivatives(score + nudge)[0] - batch.derivatives(score - nudge)[0]) / 2e-5
        torch.testing.assert_close(curve[..., k], turn, rtol=0, atol=1e-8)


@pytest.mark.parametrize("answers", [2, 3, 4])
def test_both_homes_of_plackett_luce_say_the_same_of_every_ranking(answers: int) -> None:
    generator = torch.Generator().manual_seed(answers)
    every = [list(ranks) for ranks in product([1, 2, 3, None], repeat=answers) if len(tiers(list(ranks))) > 1]
    seen_RKD = torch.randn(len(every), answers, DIMENSIONS, generator=generator, dtype=torch.float64)
    given = [Label(f"{n}", f"{n}", n, seen_RKD[n], ranks, [False] * answers) for n, ranks in enumerate(every)]
    (batch,) = _batches(given, KNOBS, 30)
    score = 3.0 * torch.randn(1, len(every), answers + 1, dtype=torch.float64, generator=generator)
    loss, (slope, _) = batch.loss(score), batch.derivatives(score)
    for place, ranks in enumerate(every):
        own_K = score[0, place, :-1].clone().requires_grad_()
        alike = plackett_luce(own_K, ranks) + CENTERING * centering(own_K)
        torch.autograd.backward(alike)
        torch.testing.assert_close(loss[0, place], alike.detach(), rtol=0, atol=1e-9)
        torch.testing.assert_close(slope[0, place, :-1], own_K.grad, rtol=0, atol=1e-9)


def test_a_tie_of_many_is_learnt_from_some_of_its_orders() -> None:
    ranks = [1, 1, 1, 1, 1, None]
    orders = strict_orders(ranks)
    assert len(orders) == MOST_ORDERS == len({tuple(order) for order in orders})
    first = [sum(order[0] == place for order in orders) for place in range(5)]
    assert all(order[-1] == 5 for order in orders) and max(first) - min(first) <= 1
    generator = torch.Generator().manual_seed(0)
    wide = make_basis(torch.randn(100, 8, generator=generator), 4)
    given = [
        Label(f"{n}", f"{n}", n, wide.project(torch.randn(6, 8, generator=generator)), ranks, [False] * 6)
        for n in range(40)
    ]
    assert fit(given, wide, KNOBS, 5).weights_HD.isfinite().all()


@pytest.mark.parametrize("taken_back", [0, 7, 58])
def test_a_ranking_that_was_taken_back_leaves_no_trace(basis: Basis, taken_back: int) -> None:
    given = labels(basis, 60)
    without = [label for place, label in enumerate(given) if place != taken_back]
    never = fit(without, basis, KNOBS, 20)
    fit(given, basis, KNOBS, 20)
    again = fit([label for label in given if label.ranking != given[taken_back].ranking], basis, KNOBS, 20)
    assert all(
        torch.equal(getattr(never, name), getattr(again, name)) for name in ("weights_HD", "threshold_H", "offset_H")
    )
    assert never.deviation == again.deviation and never.figures == again.figures


def test_the_order_in_which_answers_were_shown_changes_nothing_but_rounding(basis: Basis) -> None:
    given = labels(basis, 80)
    turned = [
        replace(label, components_KD=label.components_KD.flip(0), ranks=label.ranks[::-1], bad=label.bad[::-1])
        for label in given
    ]
    one, other = (fit(some, basis, KNOBS, 20) for some in (given, turned))
    torch.testing.assert_close(one.weights_HD, other.weights_HD, rtol=0, atol=1e-9)


def test_whole_prompts_are_held_out_and_teach_nothing(basis: Basis) -> None:
    given = labels(basis, 200)
    held_out = [label for label in given if label.is_held_out]
    assert len(held_out) == pytest.approx(200 * HELD_OUT_SHARE, abs=20)
    turned = [replace(label, ranks=[None] * 4, bad=[False] * 4) if label.is_held_out else label for label in given]
    one, other = (fit(some, basis, KNOBS, 20) for some in (given, turned))
    assert torch.equal(one.weights_HD, other.weights_HD)
    assert one.figures["held_out_pairs"] > 0 and other.figures["held_out_pairs"] == 0 and not other.is_open


@pytest.mark.parametrize("holdout", [0.1, 0.3])
def test_a_fifth_of_the_prompts_is_held_out_whatever_the_task_has_held_out_before(holdout: float) -> None:
    asked = [prompt for prompt in (f"What is {n}?" for n in range(3000)) if place_of(prompt) >= holdout]
    assert sum(map(is_held_out, asked)) / len(asked) == pytest.approx(HELD_OUT_SHARE, abs=0.03)


def test_old_rankings_weigh_less_and_never_nothing(basis: Basis) -> None:
    given = labels(basis, 40)
    young, old, ancient = (_batches(given, KNOBS, step)[0].weight_HR for step in (0, 200, 100_000))
    assert (old < young).all() and (ancient >= 0.0999 * young).all() and (ancient <= 0.1001 * young).all()


def test_an_open_gate_stays_open_while_nobody_knows_better(basis: Basis) -> None:
    given = labels(basis, 200)
    figures = fit(given, basis, KNOBS, 50).figures
    low, high = figures["held_out_low"], figures["held_out_high"]
    for gate, expected in ((low - 0.01, [True, True]), ((low + high) / 2, [False, True]), (high + 1e-6, [False] * 2)):
        knobs = msgspec.structs.replace(KNOBS, gate=gate)
        assert [fit(given, basis, knobs, 50, was_open=was_open).is_open for was_open in (False, True)] == expected


def test_only_blindly_drawn_rankings_open_the_gate(basis: Basis) -> None:
    chosen = [replace(label, is_unbiased=False) for label in labels(basis, 200)]
    assert not fit(chosen, basis, KNOBS, 50).is_open


# ---- versions on disk


def test_a_version_is_read_back_as_it_was_and_no_other_is(basis: Basis, tmp_path: Path) -> None:
    folder = tmp_path / "reward_model"
    found = fit(labels(basis, 100), basis, KNOBS, 25)
    sha256 = write_version(folder, 3, found, 25, write_basis(folder, basis))
    assert newest_version(folder) == 3 and sha256_of(version_path(folder, 3)) == sha256
    version = load_version(folder, 3, sha256)
    assert torch.equal(version.tensors["weights"], found.weights_HD)
    assert (version.number, version.is_open, version.labels) == (3, found.is_open, 100)
    above, _ = version.judge(basis.sample_ND @ found.weights_HD.T)
    assert above.mean().abs() < 1e-9 and above.std(correction=0) == pytest.approx(1.0)
    with pytest.raises(StoreError):
        load_version(folder, 3, "0" * 64)
    with pytest.raises(StoreError):
        load_version(folder, 4)
    write_basis(folder, replace(basis, mean_F=basis.mean_F + 1))
    with pytest.raises(StoreError, match="basis"):
        load_version(folder, 3, sha256)


# ---- what parts make together


def scored(correct: float, preference: float, *, weight: float = 1.0) -> Scored:
    parts = {"correct": correct, PREFERENCE: preference}
    return Scored(correct + weight * preference, parts, "", {"correct": 1.0, PREFERENCE: weight})


def test_what_is_verified_wrong_never_gets_more_than_what_is_verified_right() -> None:
    group = [scored(0.0, 9.0), scored(1.0, -1.0), scored(1.0, 0.5), scored(0.0, -4.0)]
    for how in Combine:
        rewards = [one.reward or 0.0 for one in combine(group, how)]
        assert max(rewards[0], rewards[3]) <= min(rewards[1], rewards[2]) and rewards[3] < rewards[1]
    alone = [replace(one, weights={PREFERENCE: 1.0}) for one in group]
    assert [one.reward for one in combine(alone, Combine.SUM)] == [9.0, -1.0, 0.5, -4.0]


def test_a_source_with_a_larger_scale_wins_no_more_when_parts_are_normalised() -> None:
    group = [scored(float(place % 2), value) for place, value in enumerate((1.0, 2.0, 3.0, 5.0))]
    scaled = [scored(float(place % 2), 1000.0 * value) for place, value in enumerate((1.0, 2.0, 3.0, 5.0))]
    one, other = ([s.reward for s in combine(some, Combine.NORMALISED)] for some in (group, scaled))
    assert one == pytest.approx(other, abs=1e-4)
    flat = [replace(scored(0.0, 0.1), weights={PREFERENCE: 1.0}) for _ in range(3)]
    assert not has_spread([one.reward for one in combine(flat, Combine.NORMALISED)])


# ---- a run


@pytest.fixture(scope="module")
def live(tiny_folder: Path) -> Recipe:
    overrides = {
        "rlhf.live": "true", "rlhf.audits": "2", "rlhf.lag": "2", "rlhf.ramp_steps": "2", "rlhf.dimensions": "6",
        "rlhf.heads": "4", "stage.steps": "6", "reward.preference": "0.5", "optim.lr": "0.02",
    }  # fmt: skip
    return parse_recipe(RECIPE.format(model=tiny_folder), "tiny.toml", overrides)


@pytest.fixture(scope="module")
def versions(live: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two versions that like long answers and short ones, made from the features of a run."""
    folder = tmp_path_factory.mktemp("versions")
    link = go(live, folder / "checkpoints")
    found = [load_features(features_beside(folder / "checkpoints"), step) for step in (1, 2)]
    basis = make_basis(torch.cat([step.features_AF for step in found if step]), DIMENSIONS)
    basis_sha256 = write_basis(folder / "reward_model", basis)
    for version, sign in ((1, 1), (2, -1)):
        given = []
        for group in of(link, GroupScored):
            step = load_features(features_beside(folder / "checkpoints"), group.step)
            if group.purpose or step is None:
                continue
            rows = [step.row(group.group, rollout.index) for rollout in group.rollouts]
            seen_KD = basis.project(torch.stack([row for row in rows if row is not None]))
            ranks = [sign * rollout.length_tokens + 1000 for rollout in group.rollouts]
            prompt = f"{group.step} {group.group}"
            given.append(Label(prompt, prompt, group.step, seen_KD, ranks, [False] * len(ranks)))
        fitted: Fit = replace(fit(given, basis, live.rlhf, 6), is_open=True)
        write_version(folder / "reward_model", version, fitted, 6, basis_sha256)
    return folder / "reward_model"


def prepared(versions: Path, folder: Path) -> Path:
    """The checkpoints' folder of a run that has these versions beside it."""
    shutil.copytree(versions, reward_model_beside(folder / "checkpoints"))
    return folder / "checkpoints"


def swaps(versions: Path) -> dict[int, list[Action]]:
    return {
        1: [RewardModelOrder(1, sha256_of(version_path(versions, 1)))],
        4: [RewardModelOrder(2, sha256_of(version_path(versions, 2)))],
    }


def test_features_of_all_answers_and_audits_are_on_disk_before_a_group_is_told(live: Recipe, tmp_path: Path) -> None:
    link, checkpoints = ordering({}), tmp_path / "checkpoints"
    seen: list[bool] = []

    def look(event: object) -> None:
        if isinstance(event, GroupScored):
            found = load_features(features_beside(checkpoints), event.step)
            rows = [found.row(event.group, rollout.index) if found else None for rollout in event.rollouts]
            seen.append(all(row is not None and row.isfinite().all() for row in rows))

    link.on_event = look
    go(live, checkpoints, link)
    assert all(seen) and len(seen) == 6 * (3 + 2)
    assert kept_steps(features_beside(checkpoints)) == [6, 5, 4, 3, 2, 1]


def test_a_live_run_without_a_version_learns_what_any_run_learns_but_for_rounding(live: Recipe, tmp_path: Path) -> None:
    plain = msgspec.structs.replace(live, rlhf=Rlhf(), reward=msgspec.structs.replace(live.reward, preference=0.0))
    one, other = go(live, tmp_path / "one" / "checkpoints"), go(plain, tmp_path / "other" / "checkpoints")
    texts = [[[r.text for r in g.rollouts] for g in of(link, GroupScored) if not g.purpose] for link in (one, other)]
    assert texts[0] == texts[1]
    for mine, theirs in zip(of(one, StepDone), of(other, StepDone), strict=True):
        assert mine.metrics[metrics.REWARD_MEAN] == theirs.metrics[metrics.REWARD_MEAN]
        assert mine.metrics[metrics.KL_K3] == pytest.approx(theirs.metrics[metrics.KL_K3], rel=1e-3, abs=1e-6)


def test_each_batch_is_scored_with_one_version_which_changes_between_batches_only(
    live: Recipe, versions: Path, tmp_path: Path
) -> None:
    link = go(live, prepared(versions, tmp_path), ordering(swaps(versions)))
    assert [(e.step, e.verb, e.name, e.old, e.new) for e in of(link, CommandApplied)] == [
        (1, "reward_model", "version", 0, 1), (4, "reward_model", "version", 1, 2),
    ]  # fmt: skip
    by_step = {event.step: event.metrics for event in of(link, StepDone)}
    assert [by_step[step][metrics.RM_VERSION] for step in range(1, 7)] == [0, 1, 1, 1, 2, 2]
    assert [by_step[step][metrics.RM_WEIGHT] for step in range(1, 7)] == [0, 0.25, 0.5, 0.5, 0.5, 0.5]
    assert [by_step[step][metrics.RM_AGE] for step in range(1, 7)] == [0, 1, 2, 3, 1, 2]
    for group in of(link, GroupScored):
        assert group.reward_model == by_step[group.step][metrics.RM_VERSION]
        for rollout in group.rollouts:
            assert (PREFERENCE_RAW in rollout.parts) is (group.reward_model > 0)
            if group.reward_model and not group.purpose and not any(r.is_correct for r in group.rollouts):
                weight = by_step[group.step][metrics.RM_WEIGHT]
                base = 0.5 * rollout.parts["format"] - 0.5 * rollout.length_tokens / 12
                assert rollout.reward == pytest.approx(base + weight * rollout.parts[PREFERENCE])


def test_the_second_version_likes_what_the_first_did_not(versions: Path) -> None:
    checkpoints = versions.parent / "checkpoints"
    found = load_features(features_beside(checkpoints), 1)
    assert found is not None
    scores = [load_version(versions, number).raw(found.features_AF).mean(1) for number in (1, 2)]
    assert torch.corrcoef(torch.stack(scores))[0, 1] < -0.9


def test_audits_ask_the_same_again_and_compare_under_one_version(live: Recipe, versions: Path, tmp_path: Path) -> None:
    link = go(live, prepared(versions, tmp_path), ordering(swaps(versions)))
    audits: dict[int, list[GroupScored]] = {}
    for group in of(link, GroupScored):
        if group.purpose == AUDIT:
            audits.setdefault(group.step, []).append(group)
    assert all(len(found) == 2 and all(len(g.rollouts) == 1 for g in found) for found in audits.values())
    for step in range(3, 7):
        assert [g.prompt_id for g in audits[step]] == [g.prompt_id for g in audits[step - 2]]
    older = load_features(features_beside(tmp_path / "checkpoints"), 3)
    version = load_version(reward_model_beside(tmp_path / "checkpoints"), 2)
    assert older is not None
    for new, old in zip(audits[5], audits[3], strict=True):
        row = older.row(old.group, 0)
        assert row is not None
        assert new.rollouts[0].parts[PREFERENCE_BEFORE] == version.raw(row[None]).mean().item()
    assert all(PREFERENCE_BEFORE not in g.rollouts[0].parts for step in (1, 2) for g in audits[step])


@pytest.mark.parametrize("steps", [2, 4])
def test_a_resumed_run_scores_with_the_same_versions_at_the_same_steps_to_the_bit(
    live: Recipe, versions: Path, tmp_path: Path, steps: int
) -> None:
    whole = go(live, prepared(versions, tmp_path / "whole"), ordering(swaps(versions)))
    crashed = prepared(versions, tmp_path / "crashed")
    short = msgspec.structs.replace(live, stage=msgspec.structs.replace(live.stage, steps=steps))
    go(short, crashed, ordering({step: orders for step, orders in swaps(versions).items() if step < steps}))
    resumed = go(live, crashed, replay=(*of(whole, CommandApplied),))
    assert not of(resumed, CommandApplied)
    assert what_was_learnt(resumed) == what_was_learnt(whole, after=steps)
    for name, tensor in tensors_of(tmp_path / "whole" / "checkpoints", 6).items():
        assert torch.equal(tensor, tensors_of(crashed, 6)[name]), name
    assert state_of(tmp_path / "whole" / "checkpoints", 6) == state_of(crashed, 6)
    one, other = (load_features(features_beside(folder), 6) for folder in (tmp_path / "whole" / "checkpoints", crashed))
    assert one and other and torch.equal(one.features_AF, other.features_AF) and one.places == other.places


def test_a_version_that_is_not_what_was_told_of_is_refused_and_the_run_goes_on(
    live: Recipe, versions: Path, tmp_path: Path
) -> None:
    orders: dict[int, list[Action]] = {1: [RewardModelOrder(1, "0" * 64)], 2: [RewardModelOrder(9, "")]}
    link = go(live, prepared(versions, tmp_path), ordering(orders))
    assert [(e.step, e.verb) for e in of(link, CommandRefused)] == [(1, "reward_model"), (2, "reward_model")]
    assert {event.metrics[metrics.RM_VERSION] for event in of(link, StepDone)} == {0.0}
    plain = msgspec.structs.replace(live, rlhf=Rlhf(), reward=msgspec.structs.replace(live.reward, preference=0.0))
    dead = go(plain, prepared(versions, tmp_path / "plain"), ordering(swaps(versions)))
    assert "no live reward model" in of(dead, CommandRefused)[0].message


@pytest.mark.parametrize(("name", "value"), [("reward.preference", 2.0), ("reward.combine", "normalised"),
                                             ("rlhf.penalty", 1.0), ("rlhf.ramp_steps", 0)])  # fmt: skip
def test_its_knobs_act_from_the_next_step_on(
    live: Recipe, versions: Path, tmp_path: Path, name: str, value: float | str
) -> None:
    first = [*swaps(versions)[1]]
    plain = go(live, prepared(versions, tmp_path / "plain"), ordering({1: first}))
    turned = go(live, prepared(versions, tmp_path / "turned"), ordering({1: [*first, KnobOrder(name, value)]}))
    rewards = [
        [[r.reward for r in g.rollouts] for g in of(link, GroupScored) if g.step == 2 and not g.purpose]
        for link in (plain, turned)
    ]
    assert rewards[0] != rewards[1]


def test_a_spread_is_how_far_the_heads_disagree(live: Recipe, versions: Path, tmp_path: Path) -> None:
    link = go(live, prepared(versions, tmp_path), ordering(swaps(versions)))
    spreads = [r.parts[PREFERENCE_SPREAD] for g in of(link, GroupScored) if g.reward_model for r in g.rollouts]
    assert min(spreads) > 0.0


def test_what_was_answered_before_is_looked_up_at_its_very_step() -> None:
    before = Before()
    before.remember(torch.ones(2, 3), 4, 2)
    assert before.look_up(5, 2, 2) == [None, None]
    found = before.look_up(6, 2, 3)
    assert found[2] is None and all(row is not None for row in found[:2])
    before.remember(torch.zeros(1, 3), 6, 2)
    restored = Before.restored(before.steps, before.tensors())
    assert restored.steps == before.steps == {"0 0": 6}


def test_the_knobs_of_the_human_loop_are_those_of_a_recipe() -> None:
    assert Knobs().rlhf == Rlhf() and not Knobs().rlhf.live


def test_a_fork_scores_with_the_version_that_its_past_had_taken(live: Recipe, versions: Path, tmp_path: Path) -> None:
    whole = go(live, prepared(versions, tmp_path / "whole"), ordering(swaps(versions)))
    share_past(tmp_path / "whole", 2, tmp_path / "fork")
    forked = msgspec.structs.replace(live, fork=ForkPart("whole", 2))
    link = go(forked, tmp_path / "fork" / "checkpoints", ordering({4: swaps(versions)[4]}))
    assert what_was_learnt(link) == what_was_learnt(whole, after=2)
    assert [event.new for event in of(link, CommandApplied)] == [2]
