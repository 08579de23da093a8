"""Rankings, a reward model and RL on it, and DPO, as stages of a run: each begins with what the one before has left."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ponder import metrics
from ponder.errors import PonderError, RecipeError
from ponder.events import (
    CommandRefused,
    Evaluated,
    GroupScored,
    RunStarted,
    StageStarted,
    StepDone,
    TrainerEvent,
)  # fmt: skip
from ponder.recipe import Recipe, builtin_recipes, parse_recipe, read_recipe_text
from ponder.wire import KnobOrder, Order
from tests.trainer.chains import NO_MODELS, Told, figures_of, go, lay_out_kept, of, read_whole, same
from trainer.link import ListLink
from trainer.reward_model import load_reward_model

SHARED = """
[run]
name = "taste"
seed = 3
[model]
path = "builtin:countdown-base"
[task]
name = "countdown"
[compute]
device = "cpu"
[sampling]
prompts_per_step = 8
group_size = 4
max_new_tokens = 30
[policy]
mask_truncated = false
[optim]
lr = 1e-3
micro_batch_tokens = 2000
[supervised]
batch_tokens = 300
[evaluation]
every_steps = 0
problems = 4
final_problems = 8
[saving]
every_steps = 1
keep = 1
[[stages]]
kind = "rank"
steps = 3
"""
DATA = '[stages.data]\npath = "stage:rank"\nholdout = 0.3\n'
JUDGED = (
    SHARED
    + f'[[stages]]\nname = "taste"\nkind = "reward_model"\nsteps = 3\n{DATA}'
    + '[[stages]]\nkind = "rl"\nsteps = 2\n[stages.reward_model]\npath = "stage:taste"\n'
    + "[stages.reward]\nmodel = 1.0\ncorrect = 0.0\n"
)
DIRECT = SHARED + f'[[stages]]\nkind = "dpo"\nsteps = 4\n{DATA}'
TEXTS = {"judged": JUDGED, "direct": DIRECT}


def measured(events: list[TrainerEvent], name: str) -> list[float]:
    return [event.metrics[name] for event in events if isinstance(event, Evaluated) and name in event.metrics]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return read_whole(parse_recipe(JUDGED, "taste.toml"), tmp_path_factory.mktemp("judged"))


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return read_whole(parse_recipe(DIRECT, "taste.toml"), tmp_path_factory.mktemp("direct"))


def check_resumed(kind: str, whole: Told, step: int, again: Path) -> None:
    """A run that has nothing but what lay on disk after `step` ends as the whole one did."""
    folder, events = whole
    recipe = parse_recipe(TEXTS[kind], "taste.toml")
    lay_out_kept(folder, step, (3, 6), again)
    resumed = go(recipe, again)
    learnt = [(at, told) for at, told in figures_of(resumed) if at > step]
    assert learnt == [(at, told) for at, told in figures_of(events) if at > step]
    last = f"checkpoints/step-{recipe.steps:06d}"
    assert same(again / last, folder / last)
    (started,) = of(resumed, RunStarted)
    assert isinstance(started, RunStarted) and started.resumed_from == step


@pytest.mark.parametrize("step", range(2, 8))
def test_a_chain_with_a_reward_model_that_died_goes_on_as_if_it_had_not(
    judged: Told, step: int, tmp_path: Path
) -> None:
    check_resumed("judged", judged, step, tmp_path)


@pytest.mark.parametrize("step", range(2, 7))
def test_a_chain_with_dpo_that_died_goes_on_as_if_it_had_not(direct: Told, step: int, tmp_path: Path) -> None:
    check_resumed("direct", direct, step, tmp_path)


def test_only_declared_figures_are_told_and_rankings_are_measured(judged: Told, direct: Told) -> None:
    for kinds, measured_at, (_, events) in (
        (["rank", "reward_model", "rl"], [3, 6], judged),
        (["rank", "dpo"], [7], direct),
    ):
        assert all(metrics.find_metric(name) for _, told in figures_of(events) for name in told)
        assert [event.kind for event in events if isinstance(event, StageStarted)] == kinds
        assert len([told for step, told in figures_of(events) if step <= 6 and metrics.RANKING_LOSS in told]) == 3
        evaluations = [event for event in events if isinstance(event, Evaluated)]
        assert [event.step for event in evaluations if metrics.EVAL_PAIR_LOW in event.metrics] == measured_at


def test_the_score_of_the_reward_model_is_the_reward(judged: Told) -> None:
    folder, events = judged
    judge = load_reward_model(folder / "checkpoints/step-000006", device="cpu", models_folder=NO_MODELS)
    groups = [event for event in events if isinstance(event, GroupScored) and event.step > 6]
    assert len(groups) == 16
    for group in groups:
        prompt_ids = judge.policy.prompt_ids(group.prompt)
        for rollout in group.rollouts:
            ids = [
                int.from_bytes(rollout.token_ids[at : at + 4], "little") for at in range(0, len(rollout.token_ids), 4)
            ]
            (score,) = judge.judge([prompt_ids], [ids], 1000)
            assert rollout.parts["model"] == rollout.reward == pytest.approx(score, abs=1e-4)
    told = [told for step, told in figures_of(events) if step > 6]
    assert [metrics.PART_MODEL in one or metrics.EVAL_MODEL in one for one in told] == [True] * 3


def test_an_answer_without_a_score_has_no_reward_and_is_not_zero(judged: Told, tmp_path: Path) -> None:
    """A reward model whose context ends before the policy's answers do."""
    folder, _ = judged
    short = tmp_path / "short"
    shutil.copytree(folder / "checkpoints/step-000006", short)
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 18}))
    text = SHARED.replace("[[stages]]", "[stage]").replace('"rank"', '"rl"').replace("steps = 3", "steps = 1")
    recipe = parse_recipe(text + f'[reward_model]\npath = "{short}"\n[reward]\nmodel = 1.0\n', "rl.toml")
    rollouts = [r for e in go(recipe, tmp_path) if isinstance(e, GroupScored) for r in e.rollouts]
    unscored = [rollout for rollout in rollouts if rollout.reward is None]
    assert 0 < len(unscored) < len(rollouts)
    assert all("reward model: longer than its context" in rollout.error for rollout in unscored)
    assert all("model" not in rollout.parts and rollout.advantage == 0.0 for rollout in unscored)


@pytest.mark.parametrize(
    ("text", "before", "after", "said", "hint"),
    [
        (JUDGED, '"stage:taste"', '"stage:tase"', "no stage `tase` before it leaves that", "`taste`"),
        (JUDGED, '"stage:taste"', '"stage:rank"', "no stage `rank` before it leaves that", "`taste`"),
        (JUDGED, '[stages.reward_model]\npath = "stage:taste"\n', "", "there is no reward model", "[reward_model]"),
        (JUDGED, '"stage:rank"', '"stage:taste"', "no stage `taste` before it leaves that", "`rank`"),
        (DIRECT, DATA, "", "the stage `dpo` has no data", "[stages.data]"),
        (DIRECT, 'kind = "dpo"', 'kind = "sft"', "no stage `rank` before it leaves that", ""),
        (
            DIRECT,
            "[supervised]",
            "[preference]\nbeta = 0.0\n[supervised]",
            "`preference.beta` cannot be",
            "0.0001 .. 100",
        ),
    ],
)
def test_a_chain_without_its_input_is_refused_before_it_starts(
    text: str, before: str, after: str, said: str, hint: str
) -> None:
    assert before in text
    with pytest.raises(RecipeError) as refused:
        parse_recipe(text.replace(before, after, 1), "taste.toml")
    assert "taste.toml" in refused.value.message and said in refused.value.message
    assert hint in refused.value.hint


def test_a_bad_row_and_a_group_too_large_are_refused_before_the_first_step(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "q", "chosen": "1", "rejected": "2"}\n{"prompt": "q", "chosen": "1"}\n')
    one = DIRECT.partition("[[stages]]")[0] + f'[stage]\nkind = "dpo"\nsteps = 1\n[stage.data]\npath = "{rows}"\n'
    large = SHARED.replace("group_size = 4", "group_size = 32")
    for text, said in ((one, "row 2 has no column `rejected`"), (large, "`sampling.group_size` cannot be `32`")):
        link = ListLink()
        with pytest.raises(PonderError, match=said):
            go(parse_recipe(text, "taste.toml"), tmp_path / said[:5], link)
        assert not of(link.events, StepDone)


def test_the_weight_of_a_reward_model_acts_from_the_next_step_on(tmp_path: Path) -> None:
    def turn(event: TrainerEvent) -> None:
        if isinstance(event, StepDone) and event.step == 7:
            link.waiting.append(Order("1", KnobOrder("reward.model", 0.5)))

    link = ListLink(turn)
    events = go(parse_recipe(JUDGED, "judged.toml"), tmp_path, link)
    for step, weight in ((7, 1.0), (8, 0.5)):
        groups = [event for event in events if isinstance(event, GroupScored) and event.step == step]
        scored = [rollout for group in groups for rollout in group.rollouts if rollout.reward is not None]
        assert scored and all(one.reward == pytest.approx(weight * one.parts["model"]) for one in scored)


def test_the_weight_of_a_reward_model_that_is_not_there_cannot_be_set(tmp_path: Path) -> None:
    text = SHARED.replace("[[stages]]", "[stage]").replace('"rank"', '"rl"').replace("steps = 3", "steps = 1")
    link = ListLink()
    link.waiting.append(Order("1", KnobOrder("reward.model", 0.5)))
    (refused,) = of(go(parse_recipe(text, "rl.toml"), tmp_path, link), CommandRefused)
    assert isinstance(refused, CommandRefused) and "there is no reward model" in refused.message


def shipped(name: str, **overrides: str) -> Recipe:
    path = builtin_recipes()[name]
    return parse_recipe(read_recipe_text(path), str(path), overrides)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_rl_on_what_a_reward_model_has_learnt_from_rankings_solves_more(tmp_path: Path) -> None:
    events = go(shipped("countdown-rm", **{"stages.rl.steps": "30"}), tmp_path)
    pairs, low = measured(events, metrics.EVAL_PAIR_ACCURACY), measured(events, metrics.EVAL_PAIR_LOW)
    assert 0.3 < pairs[0] < 0.7 and low[-1] > 0.9
    accuracy = measured(events, metrics.EVAL_ACCURACY)
    assert accuracy[-1] > 2 * accuracy[0]
    weighed = [told[metrics.REWARD_MEAN] for _, told in figures_of(events) if metrics.PART_MODEL in told]
    assert weighed[-1] > weighed[0] + 0.5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_dpo_widens_the_margin_and_solves_more_than_the_base(tmp_path: Path) -> None:
    events = go(shipped("countdown-dpo", **{"stages.dpo.steps": "40"}), tmp_path)
    margins, low = measured(events, metrics.EVAL_PAIR_MARGIN), measured(events, metrics.EVAL_PAIR_LOW)
    assert margins[-1] > margins[0] + 0.1 and low[-1] > 0.6
    with_high = measured(events, metrics.EVAL_LOW)[-1], measured(events, metrics.EVAL_HIGH)[0]
    assert with_high[0] > with_high[1]  # the intervals of before and after do not meet
