"""What a run tells, worked out once more from what it kept: chances, losses, lengths, and a reference made new."""

from __future__ import annotations

import math
import statistics
import struct
from pathlib import Path

import pytest
from msgspec.structs import replace

from ponder import metrics
from ponder.choices import Preset
from ponder.events import GroupLearnt, GroupScored, Rollout, StepDone
from ponder.recipe import Recipe, parse_recipe
from tests.trainer.conftest import RECIPE
from tests.trainer.test_loop import NO_MODELS, go, of
from trainer.policy import token_logps
from trainer.talk import load_talk

HALF = 2.0**-11
"""A figure of a token is kept in half precision: a log-prob to this share of itself."""
SHORT = {"steps = 4": "steps = 2", "coef = 0.05": "", "drop_flat_groups = false": "", "mask_truncated = false": ""}


def told_lengths(rollout: Rollout) -> int:
    return len(rollout.token_ids) // 4


def test_the_chance_that_is_shown_of_a_token_is_the_checkpoints_own(recipe: Recipe, tmp_path: Path) -> None:
    link = go(recipe, tmp_path)
    for step, folder in ((1, None), (3, tmp_path / "step-000002")):
        talk, _ = load_talk(folder, recipe, device="cpu", models_folder=NO_MODELS)
        for group in (event for event in of(link, GroupScored) if event.step == step):
            prompt = talk.policy.prompt_ids(group.prompt)
            ids = [list(struct.unpack(f"<{told_lengths(one)}I", one.token_ids)) for one in group.rollouts]
            logp_N, _ = token_logps(talk.policy, talk.policy.model, [prompt] * len(ids), ids, 1.0)
            shown = [logp for one in group.rollouts for logp in struct.unpack(f"<{told_lengths(one)}e", one.logps)]
            for told, own in zip(shown, logp_N.tolist(), strict=True):
                assert math.exp(told) == pytest.approx(math.exp(own), abs=1e-5 + HALF * abs(own) * math.exp(own))


@pytest.mark.parametrize("preset", [Preset.GRPO, Preset.DR_GRPO, Preset.DAPO, Preset.GSPO])
def test_each_answers_share_adds_up_to_the_loss_by_every_formula(
    tiny_folder: Path, tmp_path: Path, preset: Preset
) -> None:
    text = RECIPE.format(model=tiny_folder)
    for old, new in SHORT.items():
        text = text.replace(old, new)
    recipe = parse_recipe(text.replace("[policy]", f'[policy]\npreset = "{preset}"').replace("[kl]", ""), "tiny.toml")
    link = go(recipe, tmp_path)
    parts = recipe.policy.minibatches  # each has a loss of its own, whose mean is told
    groups = {(event.step, event.group): event for event in of(link, GroupScored)}
    for done in of(link, StepDone):
        learnt = [event for event in of(link, GroupLearnt) if event.step == done.step]
        told = [answer.loss for event in learnt for answer in event.answers]
        assert told and math.fsum(told) / parts == pytest.approx(done.metrics[metrics.POLICY_LOSS], abs=1e-5)
        for event in learnt:
            for answer in event.answers:
                rollout = groups[event.step, event.group].rollouts[answer.index]
                if answer.ratio_min == answer.ratio_max == 1.0:
                    by_hand = -answer.weight * rollout.length_tokens * rollout.advantage
                    assert answer.loss == pytest.approx(by_hand, abs=1e-5)


def test_lengths_are_those_of_the_tokens_that_were_kept(recipe: Recipe, tmp_path: Path) -> None:
    link = go(recipe, tmp_path)
    for done in of(link, StepDone):
        answers = [one for event in of(link, GroupScored) if event.step == done.step for one in event.rollouts]
        kinds = {
            metrics.LENGTH_MEAN: answers,
            metrics.LENGTH_RIGHT: [one for one in answers if one.is_correct],
            metrics.LENGTH_WRONG: [one for one in answers if one.is_correct is False],
        }
        for name, some in kinds.items():
            assert (name in done.metrics) is bool(some)
            if some:
                assert done.metrics[name] == pytest.approx(statistics.fmean(map(told_lengths, some)))


def test_the_divergence_is_nothing_from_a_new_reference_and_the_smaller_the_more_it_is_charged(
    recipe: Recipe, tmp_path: Path
) -> None:
    def divergences(coef: float, refresh_steps: int) -> list[float]:
        kl = replace(recipe.kl, coef=coef, refresh_steps=refresh_steps)
        longer = replace(recipe, kl=kl, stage=replace(recipe.stage, steps=8))
        link = go(longer, tmp_path / f"{coef} {refresh_steps}")
        return [step.metrics[metrics.KL_K3] for step in of(link, StepDone)]

    assert max(map(abs, divergences(0.05, 1))) < 1e-6
    free, held = divergences(1e-6, 0), divergences(1.0, 0)
    assert free[0] == held[0] == pytest.approx(0.0, abs=1e-6)
    assert statistics.fmean(held[4:]) < 0.7 * statistics.fmean(free[4:])
