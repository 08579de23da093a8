"""Stages that follow each other: each begins with what the one before left, at every step that a crash may choose."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import msgspec
import pytest
import torch

from ponder import metrics
from ponder.events import (
    CommandApplied,
    Evaluated,
    GroupScored,
    RunEnded,
    RunStarted,
    StageStarted,
    StepDone,
    TrainerEvent,
)  # fmt: skip
from ponder.recipe import ForkPart, ModelPart, Recipe, parse_recipe
from ponder.wire import KnobOrder, Order, SaveOrder, StopOrder
from tests.trainer.chains import NO_MODELS, figures_of, go, lay_out_kept, of, read_whole, same
from trainer.corpus import make_corpus
from trainer.link import ListLink
from trainer.policy import load_policy
from trainer.stages import run

CHAIN = """
[run]
name = "chain"
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
max_new_tokens = 40
[optim]
lr = 1e-3
micro_batch_tokens = 2000
[evaluation]
every_steps = 0
problems = 4
final_problems = 16
[saving]
every_steps = 1
keep = 1
[[stages]]
kind = "reject"
steps = 3
keep = 1
[[stages]]
kind = "sft"
steps = 3
[stages.data]
path = "stage:reject"
[stages.supervised]
batch_tokens = 100
[[stages]]
kind = "rl"
steps = 2
[stages.optim]
lr = 1e-4
"""


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return parse_recipe(CHAIN, "chain.toml")


@pytest.fixture(scope="module")
def whole(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[TrainerEvent]]:
    """The run's folder and its events, never interrupted; every checkpoint kept beside it."""
    return read_whole(recipe, tmp_path_factory.mktemp("whole"))


def learnt(events: list[TrainerEvent]) -> list[tuple[int, dict[str, float]]]:
    return figures_of(events, (StepDone,))


def test_the_stages_follow_each_other_and_count_on(whole: tuple[Path, list[TrainerEvent]]) -> None:
    _, events = whole
    begun = of(events, StageStarted)
    assert [(b.step, b.name, b.number, b.steps) for b in begun if isinstance(b, StageStarted)] == [
        (0, "reject", 1, 3), (3, "sft", 2, 3), (6, "rl", 3, 2),
    ]  # fmt: skip
    assert [step for step, _ in learnt(events)] == list(range(1, 9))
    assert len(of(events, RunStarted)) == 1
    assert isinstance(events[-1], RunEnded) and events[-1].step == 8


def test_a_policy_is_measured_once_where_a_stage_hands_it_on(whole: tuple[Path, list[TrainerEvent]]) -> None:
    _, events = whole
    measured = [(event.step, event.is_final) for event in events if isinstance(event, Evaluated)]
    assert measured == [(0, False), (6, False), (8, True)]


def test_what_a_stage_came_to_is_not_replaced_by_the_model_that_the_next_one_begins_with(tmp_path: Path) -> None:
    imitate = '[[stages]]\nkind = "sft"\nsteps = 2\ndata = { path = "task:expert" }\n'
    elsewhere = '[[stages]]\nkind = "rl"\nsteps = 1\n[stages.model]\npath = "builtin:countdown-base"\n'
    recipe = parse_recipe(f"{CHAIN.partition('[[stages]]')[0]}{imitate}{elsewhere}", "two-ways.toml")
    events = go(recipe, tmp_path)
    assert [event.step for event in events if isinstance(event, Evaluated)] == [0, 2, 3]


def test_rejection_learns_nothing_and_keeps_only_what_is_right(whole: tuple[Path, list[TrainerEvent]]) -> None:
    folder, events = whole
    assert same(folder / "kept/step-000001", folder / "kept/step-000003")
    rows = [json.loads(line) for line in (folder / "sets/reject.jsonl").read_text().splitlines()]
    groups = [event for event in events if isinstance(event, GroupScored) and event.step <= 3]
    right = {(g.prompt, r.text) for g in groups for r in g.rollouts if r.is_correct}
    assert rows and {(row["prompt"], row["response"]) for row in rows} <= right
    assert len(rows) == sum(any(r.is_correct for r in g.rollouts) for g in groups)  # keep = 1, all prompts differ
    last = next(figures for step, figures in learnt(events) if step == 3)
    assert last[metrics.SET_SIZE] == len(rows)
    shortest = {g.prompt: min(r.length_tokens for r in g.rollouts if r.is_correct) for g in groups if any(
        r.is_correct for r in g.rollouts)}  # fmt: skip
    lengths = {(g.prompt, r.text): r.length_tokens for g in groups for r in g.rollouts}
    assert all(lengths[row["prompt"], row["response"]] == shortest[row["prompt"]] for row in rows)


def test_what_is_fine_tuned_was_asked_as_it_was_when_it_was_sampled(
    recipe: Recipe, whole: tuple[Path, list[TrainerEvent]]
) -> None:
    """A set keeps the task's own prompt, which for a model without a chat template is not `auto`'s."""
    folder, events = whole
    policy = load_policy(recipe.model, device="cpu", models_folder=NO_MODELS)
    sft = recipe.stages[1]
    data = msgspec.structs.replace(sft.stage.data, path=str(folder / "sets/reject.jsonl"), holdout=0.0)
    stage = msgspec.structs.replace(sft.stage, data=data)
    examples = make_corpus(msgspec.structs.replace(sft, stage=stage), policy).examples(0)
    asked = {tuple(policy.prompt_ids(event.prompt)) for event in events if isinstance(event, GroupScored)}
    assert {tuple(example.prompt_ids) for example in itertools.islice(examples, 5)} <= asked


def test_what_a_stage_left_is_kept_until_the_run_ends(whole: tuple[Path, list[TrainerEvent]]) -> None:
    folder, _ = whole
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [
        "step-000003", "step-000006", "step-000008",
    ]  # fmt: skip


@pytest.mark.parametrize("step", range(1, 8))
def test_a_run_that_died_after_any_checkpoint_goes_on_as_if_it_had_not(
    recipe: Recipe, whole: tuple[Path, list[TrainerEvent]], step: int, tmp_path: Path
) -> None:
    folder, events = whole
    lay_out_kept(folder, step, (3, 6), tmp_path)
    checkpoints = tmp_path / "checkpoints"
    if step < 3:  # the trainer wrote on after its checkpoint
        with (tmp_path / "sets/reject.jsonl").open("a") as file:
            file.write('{"prompt": "half a li')
    link = ListLink()
    assert run(recipe, checkpoints, link, models_folder=NO_MODELS) == "finished"
    assert learnt(link.events) == [(at, figures) for at, figures in learnt(events) if at > step]
    assert same(checkpoints / "step-000008", folder / "checkpoints/step-000008")
    assert (tmp_path / "sets/reject.jsonl").read_bytes() == (folder / "sets/reject.jsonl").read_bytes()
    (started,) = of(link.events, RunStarted)
    assert isinstance(started, RunStarted) and started.resumed_from == step and started.step == step
    assert [b.step for b in of(link.events, StageStarted) if isinstance(b, StageStarted)] == [
        begin for begin in (3, 6) if begin >= step
    ]


@pytest.mark.parametrize("step", [2, 3, 5, 7])
def test_a_fork_in_any_stage_goes_on_like_its_parent(
    recipe: Recipe, whole: tuple[Path, list[TrainerEvent]], step: int, tmp_path: Path
) -> None:
    folder, events = whole
    lay_out_kept(folder, step, (3, 6), tmp_path)
    shutil.copytree(folder / "sets", tmp_path / "sets", dirs_exist_ok=True)  # the parent's have grown meanwhile
    fork = recipe.with_stages(msgspec.structs.replace(part, fork=ForkPart("chain-1", step)) for part in recipe.stages)
    link = ListLink()
    assert run(fork, tmp_path / "checkpoints", link, models_folder=NO_MODELS) == "finished"
    assert learnt(link.events) == [(at, figures) for at, figures in learnt(events) if at > step]
    assert same(tmp_path / "checkpoints/step-000008", folder / "checkpoints/step-000008")
    assert (tmp_path / "sets/reject.jsonl").read_bytes() == (folder / "sets/reject.jsonl").read_bytes()


def test_a_run_that_is_stopped_before_a_stages_first_step_goes_on_as_if_it_had_not(
    recipe: Recipe, whole: tuple[Path, list[TrainerEvent]], tmp_path: Path
) -> None:
    """The stage's own state must not take the place of what the stage before has left."""
    folder, events = whole
    lay_out_kept(folder, 6, (3, 6), tmp_path)

    def stop(event: TrainerEvent) -> None:
        if isinstance(event, StageStarted):
            link.waiting.extend([Order("save", SaveOrder()), Order("stop", StopOrder())])

    link = ListLink(stop)
    checkpoints = tmp_path / "checkpoints"
    assert run(recipe, checkpoints, link, models_folder=NO_MODELS) == "stopped"
    assert same(checkpoints / "step-000006", folder / "checkpoints/step-000006")
    again = ListLink()
    assert run(recipe, checkpoints, again, models_folder=NO_MODELS) == "finished"
    assert learnt(again.events) == [(at, figures) for at, figures in learnt(events) if at > 6]


def test_what_is_set_live_lasts_until_its_stage_ends(recipe: Recipe, tmp_path: Path) -> None:
    def turn(event: TrainerEvent) -> None:
        if isinstance(event, StepDone) and event.step in (1, 3):
            link.waiting.append(Order(f"c{event.step}", KnobOrder("optim.grad_clip", event.step / 2)))

    link = ListLink(turn)
    run(recipe, tmp_path / "checkpoints", link, models_folder=NO_MODELS)
    applied = [(e.step, e.old, e.new) for e in link.events if isinstance(e, CommandApplied)]
    assert applied == [(1, 1.0, 0.5), (3, 1.0, 1.5)]  # the one of the last boundary belongs to the next stage
    kinds = [type(event) for event in link.events if getattr(event, "step", -1) == 3]
    assert kinds.index(StageStarted) < kinds.index(CommandApplied)


def test_a_student_learns_from_its_teachers_set(tmp_path: Path) -> None:
    text = CHAIN.replace('kind = "sft"', 'kind = "distil"').partition('[[stages]]\nkind = "rl"')[0]
    recipe = parse_recipe(text + '[stages.model]\npath = "new:countdown-small"\n', "distil.toml")
    link = ListLink()
    run(recipe, tmp_path / "checkpoints", link, models_folder=NO_MODELS)
    teacher, student = of(link.events, StageStarted)
    assert isinstance(teacher, StageStarted) and isinstance(student, StageStarted)
    assert student.parameters < teacher.parameters and student.model == "new:countdown-small"
    losses = [figures[metrics.LOSS] for step, figures in learnt(link.events) if step > 3]
    assert losses[-1] < losses[0]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning:peft")
def test_adapters_are_handed_on_as_part_of_the_policy(tmp_path: Path) -> None:
    text = CHAIN.replace("[task]", "[model.lora]\nrank = 2\n[task]", 1)
    few = {
        "stages.reject.steps": "1",
        "stages.sft.steps": "1",
        "stages.rl.steps": "1",
        "sampling.prompts_per_step": "16",
    }
    recipe = parse_recipe(text, "lora.toml", few)
    link = ListLink()
    assert run(recipe, tmp_path / "checkpoints", link, models_folder=NO_MODELS) == "finished"
    sft = load_policy(ModelPart(str(tmp_path / "checkpoints/step-000002")), device="cpu", models_folder=NO_MODELS)
    base = load_policy(ModelPart("builtin:countdown-base"), device="cpu", models_folder=NO_MODELS)
    moved = [
        not torch.equal(one, two) for one, two in zip(sft.model.parameters(), base.model.parameters(), strict=True)
    ]
    assert any(moved)
    begun = [event for event in link.events if isinstance(event, StageStarted)][2]
    assert begun.model.endswith("step-000002")
