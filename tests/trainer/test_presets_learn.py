"""Every preset learns a bandit, from the first token's reward alone; with the reward's sign turned it never does."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

import pytest

from ponder import metrics
from ponder.events import GroupScored, StepDone
from ponder.knobs import Preset
from ponder.presets import PRESETS
from ponder.recipe import Recipe, parse_recipe
from tests.trainer.conftest import RECIPE
from tests.trainer.test_loop import go, of
from trainer.tasks import Candidate, Problem
from trainer.tasks.countdown import Countdown


class Bandit(Countdown):
    """Say a number of one digit first: one token in eleven, to begin with."""

    def score(self, problem: Problem, text: str) -> Mapping[str, float | None]:  # noqa: ARG002  # Task's word
        first = text.split(" ")[0]
        return {"correct": float(first.isdigit() and len(first) == 1), "format": 0.0}

    def candidates(self, problem: Problem, text: str) -> list[Candidate]:  # noqa: ARG002
        return []


@pytest.fixture(autouse=True)
def bandit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.loop.find_task", lambda *_: Bandit())


def recipe_for(preset: Preset, folder: Path, **more: str) -> Recipe:
    text = "\n".join(
        line for line in RECIPE.format(model=folder).splitlines()
        if not line.startswith(("drop_flat", "mask_tr", "length", "format", "coef", "group_size"))
    )  # fmt: skip
    overrides = {
        "policy.preset": str(preset), "stage.steps": "40", "sampling.prompts_per_step": "8",
        "sampling.group_size": "8", "sampling.max_new_tokens": "2", "optim.lr": "0.02", "critic.lr": "0.02",
        "evaluation.every_steps": "0", "saving.every_steps": "0", "optim.micro_batch_tokens": "4000",
    }  # fmt: skip
    return parse_recipe(text, "bandit.toml", {**overrides, **{k.replace("__", "."): v for k, v in more.items()}})


def accuracies(recipe: Recipe, folder: Path) -> list[float]:
    return [event.metrics[metrics.CORRECT] for event in of(go(recipe, folder), StepDone)]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_learns_a_bandit(preset: Preset, tiny_folder: Path, tmp_path: Path) -> None:
    learnt = accuracies(recipe_for(preset, tiny_folder), tmp_path)
    assert learnt[0] < 0.2
    assert statistics.median(learnt[-15:]) > 0.9  # PPO's four passes at this rate stumble now and then, and get up


@pytest.mark.parametrize("preset", PRESETS)
def test_no_preset_learns_it_with_the_sign_turned(preset: Preset, tiny_folder: Path, tmp_path: Path) -> None:
    learnt = accuracies(recipe_for(preset, tiny_folder, reward__correct="-1"), tmp_path)
    assert max(learnt) < 0.4
    assert sum(learnt[-5:]) / 5 < 0.05


@pytest.mark.parametrize("control", [{"reward__shuffled": "true"}, {"optim__lr": "0"}], ids=["shuffled", "no-rl"])
def test_a_control_in_which_nothing_can_be_learnt_learns_nothing(
    control: Mapping[str, str], tiny_folder: Path, tmp_path: Path
) -> None:
    learnt = accuracies(recipe_for(Preset.GRPO, tiny_folder, **control), tmp_path)
    assert statistics.median(learnt[-15:]) < 0.3


def test_a_clip_holds_back_a_policy_whose_batch_is_stale(tiny_folder: Path, tmp_path: Path) -> None:
    stale = {"policy__updates_per_batch": "16", "stage__steps": "4"}
    farthest = {}
    for clip in ("ppo", "none"):
        link = go(recipe_for(Preset.GRPO, tiny_folder, policy__clip=clip, **stale), tmp_path / clip)
        farthest[clip] = max(event.metrics[metrics.RATIO_MAX] for event in of(link, StepDone))
    assert farthest["none"] > 2 * farthest["ppo"]


def test_dynamic_sampling_draws_until_enough_groups_have_spread_and_tells_them_all(
    tiny_folder: Path, tmp_path: Path
) -> None:
    more = {"sampling__prompts_per_step": "4", "sampling__group_size": "4", "stage__steps": "3"}
    link = go(recipe_for(Preset.DAPO, tiny_folder, optim__lr="0", sampling__max_rounds="3", **more), tmp_path)
    for event in of(link, StepDone):
        groups = [group for group in of(link, GroupScored) if group.step == event.step]
        assert [group.group for group in groups] == list(range(len(groups)))
        assert event.metrics[metrics.GROUPS_DRAWN] == len(groups) in (4, 8, 12)
        spread = [len({rollout.reward for rollout in group.rollouts}) > 1 for group in groups]
        assert sum(spread[:-4]) < 4
        assert len(groups) == 12 or sum(spread) >= 4
        assert event.metrics[metrics.GROUPS_MIXED] == sum(spread) / len(spread)
    assert max(event.metrics[metrics.GROUPS_DRAWN] for event in of(link, StepDone)) > 4
    assert len({group.prompt_id for group in of(link, GroupScored)}) > 12


def test_an_overlong_answer_is_punished_softly(tiny_folder: Path, tmp_path: Path) -> None:
    recipe = recipe_for(Preset.DAPO, tiny_folder, stage__steps="1", reward__overlong_share="0.5")
    rollouts = [rollout for group in of(go(recipe, tmp_path), GroupScored) for rollout in group.rollouts]
    for rollout in rollouts:
        assert rollout.parts["overlong"] == (-1.0 if rollout.length_tokens == 2 else 0.0)
        assert rollout.reward == rollout.parts["correct"] + rollout.parts["overlong"]
