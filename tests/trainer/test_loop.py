"""What a run promises: it resumes to the bit, obeys at step boundaries, and tells everything that happened."""

from __future__ import annotations

import json
import math
import random
import struct
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from ponder import events, metrics
from ponder.errors import CheckpointError, NotFound, OutOfMemoryError
from ponder.events import (
    CheckpointSaved,
    CommandApplied,
    CommandRefused,
    Evaluated,
    GroupLearnt,
    GroupScored,
    Preview,
    RunBroke,
    RunEnded,
    RunPaused,
    RunResumed,
    RunStarted,
    StepDone,
    TrainerEvent,
)  # fmt: skip
from ponder.recipe import Recipe, parse_recipe
from ponder.wire import (
    Action,
    KnobOrder,
    LiftOrder,
    Order,
    PauseOrder,
    QuarantineOrder,
    ResumeOrder,
    SaveOrder,
    StopOrder,
)
from tests.trainer.conftest import RECIPE
from trainer.checkpoint import list_checkpoints
from trainer.link import ListLink
from trainer.stages import run

NO_MODELS = Path("no-models")
T = TypeVar("T")


def go(recipe: Recipe, folder: Path, link: ListLink | None = None, replay: tuple[CommandApplied, ...] = ()) -> ListLink:
    link = link or ListLink()
    run(recipe, folder, link, models_folder=NO_MODELS, replay=replay)
    return link


def of(link: ListLink, kind: type[T]) -> list[T]:
    return [event for event in link.events if isinstance(event, kind)]


def ordering(orders: dict[int, list[Action]]) -> ListLink:
    """A link that hands out orders at the boundary after the given steps."""
    link = ListLink()

    def put(event: TrainerEvent) -> None:
        if isinstance(event, StepDone):
            for place, action in enumerate(orders.get(event.step, [])):
                link.waiting.append(Order(f"{event.step}-{place}", action))

    link.on_event = put
    return link


def what_was_learnt(link: ListLink, after: int = 0) -> list[object]:
    """All groups and metrics after a step, without the clock."""
    told: list[object] = []
    for event in link.events:
        if isinstance(event, GroupScored | Evaluated) and event.step > after:
            told.append(event)
        if isinstance(event, StepDone) and event.step > after:
            told.append({k: v for k, v in event.metrics.items() if not k.startswith(metrics.MACHINE)})
    return told


def tensors_of(folder: Path, step: int) -> dict[str, torch.Tensor]:
    at = folder / f"step-{step:06d}"
    return {
        f"{name} {key}": value
        for name in ("model", "adapter_model", "optimizer", "critic", "critic_optimizer")
        if (at / f"{name}.safetensors").exists()
        for key, value in load_file(at / f"{name}.safetensors").items()
    }


def state_of(folder: Path, step: int) -> dict[str, object]:
    facts: dict[str, object] = json.loads((folder / f"step-{step:06d}" / "state.json").read_text())
    return facts


def test_a_run_tells_everything_in_order(recipe: Recipe, tmp_path: Path) -> None:
    link = go(recipe, tmp_path)
    kinds = [type(event) for event in link.events]
    assert kinds[:2] == [RunStarted, Evaluated]
    first_step = kinds[2 : kinds.index(StepDone) + 1]
    assert first_step == [GroupScored] * 3 + [GroupLearnt] * (len(first_step) - 4) + [StepDone]
    assert kinds[-3:] == [Evaluated, CheckpointSaved, RunEnded]
    assert [event.step for event in of(link, StepDone)] == [1, 2, 3, 4]
    assert [event.step for event in of(link, Evaluated)] == [0, 2, 4]
    assert of(link, Evaluated)[-1].is_final
    assert of(link, RunEnded)[0].outcome == "finished"


def test_only_declared_and_finite_metrics_are_reported(recipe: Recipe, tmp_path: Path) -> None:
    link = go(recipe, tmp_path)
    for figures in [*(e.metrics for e in of(link, StepDone)), *(e.metrics for e in of(link, Evaluated))]:
        assert all(metrics.find_metric(name) for name in figures)
        assert all(math.isfinite(value) for value in figures.values())


def test_every_group_with_spread_is_told_once_more_with_its_share_of_the_loss(recipe: Recipe, tmp_path: Path) -> None:
    link = go(recipe, tmp_path)
    assert of(link, GroupLearnt)
    for done in of(link, StepDone):
        scored = {event.group: event for event in of(link, GroupScored) if event.step == done.step}
        learnt = {event.group: event for event in of(link, GroupLearnt) if event.step == done.step}
        spread = {group for group, event in scored.items() if len({one.reward for one in event.rollouts}) > 1}
        assert spread <= learnt.keys() <= scored.keys()  # a group without spread is learnt for its divergence alone
        for group in learnt.keys() - spread:
            assert all(answer.loss == 0.0 for answer in learnt[group].answers)
        told = [answer for event in learnt.values() for answer in event.answers]
        assert sum(answer.loss for answer in told) == pytest.approx(done.metrics[metrics.POLICY_LOSS], abs=1e-6)
        for event in learnt.values():
            assert event.loss_size == pytest.approx(sum(abs(answer.loss) for answer in told))
            for answer in event.answers:
                rollout = scored[event.group].rollouts[answer.index]
                assert answer.ratio_min == answer.ratio_mean == answer.ratio_max == 1.0
                assert answer.loss == pytest.approx(-answer.weight * rollout.length_tokens * rollout.advantage)


def test_a_rollout_is_told_with_its_tokens_and_what_it_earned(recipe: Recipe, tmp_path: Path) -> None:
    for group in of(go(recipe, tmp_path), GroupScored):
        rewards = [rollout.reward for rollout in group.rollouts]
        assert len(rewards) == 4
        assert sum(rollout.advantage for rollout in group.rollouts) == pytest.approx(0, abs=1e-5)
        for rollout in group.rollouts:
            count = rollout.length_tokens
            assert len(rollout.token_ids) == 4 * count
            assert len(rollout.logps) == len(rollout.entropies) == 2 * count
            assert all(logp <= 0 for logp in struct.unpack(f"<{count}e", rollout.logps))
            assert rollout.reward == pytest.approx(
                0.5 * rollout.parts["format"] - 0.5 * count / 12 + rollout.parts["correct"]
            )


def test_a_resumed_run_is_bit_identical_to_one_never_interrupted(recipe: Recipe, tmp_path: Path) -> None:
    whole = go(recipe, tmp_path / "whole")
    go(msgspec.structs.replace(recipe, stage=msgspec.structs.replace(recipe.stage, steps=2)), tmp_path / "halved")
    resumed = go(recipe, tmp_path / "halved")
    assert of(resumed, RunStarted)[0].resumed_from == 2
    assert what_was_learnt(resumed) == what_was_learnt(whole, after=2)
    for name, tensor in tensors_of(tmp_path / "whole", 4).items():
        assert torch.equal(tensor, tensors_of(tmp_path / "halved", 4)[name]), name
    assert state_of(tmp_path / "whole", 4) == state_of(tmp_path / "halved", 4)


def test_a_run_that_begins_anew_has_every_generator_where_it_was(recipe: Recipe, tmp_path: Path) -> None:
    """Killed before its first checkpoint, it has nothing but its seed; Python itself seeds from the clock."""
    for name in ("one", "other"):
        random.seed(name)
        go(recipe, tmp_path / name)
    assert state_of(tmp_path / "one", 4) == state_of(tmp_path / "other", 4)


def test_a_run_killed_between_checkpoints_tells_the_lost_steps_again_the_same(recipe: Recipe, tmp_path: Path) -> None:
    class KilledError(BaseException):
        pass

    def kill(event: TrainerEvent) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            raise KilledError

    killed = ListLink(kill)
    with pytest.raises(KilledError):
        go(recipe, tmp_path, killed)
    resumed = go(recipe, tmp_path)
    assert what_was_learnt(resumed)[:4] == what_was_learnt(killed, after=2)[:4]


def test_a_changed_knob_is_applied_at_the_boundary_and_survives_a_crash(recipe: Recipe, tmp_path: Path) -> None:
    orders: dict[int, list[Action]] = {3: [KnobOrder("optim.lr", 0.002)]}
    whole = go(recipe, tmp_path / "whole", ordering(orders))
    assert of(whole, CommandApplied) == [CommandApplied("3-0", 3, "set", "optim.lr", 0.01, 0.002)]
    assert [event.metrics[metrics.LR] for event in of(whole, StepDone)] == [0.01, 0.01, 0.01, 0.002]
    go(msgspec.structs.replace(recipe, stage=msgspec.structs.replace(recipe.stage, steps=2)), tmp_path / "crashed")
    resumed = go(recipe, tmp_path / "crashed", replay=(*of(whole, CommandApplied),))
    assert not of(resumed, CommandApplied)
    assert what_was_learnt(resumed) == what_was_learnt(whole, after=2)


def prompts_by_step(link: ListLink) -> dict[int, list[str]]:
    asked: dict[int, list[str]] = {}
    for event in of(link, GroupScored):
        asked.setdefault(event.step, []).append(event.prompt_id)
    return asked


def test_a_prompt_in_quarantine_is_passed_over_from_the_next_step_on_and_after_every_death(
    recipe: Recipe, tmp_path: Path
) -> None:
    """The next problem takes its place; what a resumed run asks is what one that never ended asks."""
    free = prompts_by_step(go(recipe, tmp_path / "free"))
    bad = free[3][1]
    whole = go(recipe, tmp_path / "whole", ordering({1: [QuarantineOrder(bad)], 2: [QuarantineOrder(bad)]}))
    asked = prompts_by_step(whole)
    assert asked[1] == free[1] and asked[2] == free[2]
    assert asked[3] == [free[3][0], free[3][2], free[4][0]]
    assert of(whole, CommandApplied) == [CommandApplied("1-0", 1, "quarantine", new=bad)]
    (refused,) = of(whole, CommandRefused)
    assert (refused.command, refused.verb) == ("2-0", "quarantine") and "already" in refused.message
    halved = msgspec.structs.replace(recipe, stage=msgspec.structs.replace(recipe.stage, steps=2))
    go(halved, tmp_path / "saved", ordering({1: [QuarantineOrder(bad)]}))
    assert what_was_learnt(go(recipe, tmp_path / "saved")) == what_was_learnt(whole, after=2)
    go(halved, tmp_path / "crashed")  # its newest checkpoint knows nothing of it
    replayed = go(recipe, tmp_path / "crashed", replay=(CommandApplied("late", 2, "quarantine", new=bad),))
    assert what_was_learnt(replayed) == what_was_learnt(whole, after=2)


def test_a_lifted_quarantine_has_the_prompt_asked_again_from_the_next_step_on_and_after_every_death(
    recipe: Recipe, tmp_path: Path
) -> None:
    """What is asked is to the letter what a run asks that was never told to pass the prompt over."""
    free = prompts_by_step(go(recipe, tmp_path / "free"))
    bad = free[3][1]
    orders: dict[int, list[Action]] = {1: [QuarantineOrder(bad), LiftOrder("another")], 2: [LiftOrder(bad)]}
    whole = go(recipe, tmp_path / "whole", ordering(orders))
    assert prompts_by_step(whole) == free
    assert of(whole, CommandApplied)[-1] == CommandApplied("2-0", 2, "lift", new=bad)
    (refused,) = of(whole, CommandRefused)
    assert (refused.command, refused.verb) == ("1-1", "lift") and "not in quarantine" in refused.message
    short = msgspec.structs.replace(recipe, stage=msgspec.structs.replace(recipe.stage, steps=2))
    go(short, tmp_path / "saved", ordering({1: [QuarantineOrder(bad)]}))  # its checkpoint knows of it
    lifted = (CommandApplied("q", 1, "quarantine", new=bad), CommandApplied("l", 2, "lift", new=bad))
    assert what_was_learnt(go(recipe, tmp_path / "saved", replay=lifted)) == what_was_learnt(whole, after=2)


@pytest.mark.parametrize("knob", [("optim.lr", 0.002), ("sampling.temperature", 0.5), ("policy.clip_high", 0.01)])
def test_an_order_in_the_middle_of_a_step_waits_for_its_end(
    recipe: Recipe, tmp_path: Path, knob: tuple[str, float]
) -> None:
    """Trap 26: it comes between sampling and learning, before the first of several updates."""
    policy = msgspec.structs.replace(recipe.policy, updates_per_batch=2, minibatches=2)
    busy = msgspec.structs.replace(recipe, policy=policy)
    link = ListLink()

    def put(event: TrainerEvent) -> None:
        if isinstance(event, GroupScored) and (event.step, event.group) == (2, 1):
            link.waiting.append(Order("early", KnobOrder(*knob)))

    link.on_event = put
    go(busy, tmp_path / "turned", link)
    (applied,) = of(link, CommandApplied)
    assert (applied.step, applied.new) == (2, knob[1])
    done = next(place for place, event in enumerate(link.events) if isinstance(event, StepDone) and event.step == 2)
    assert link.events.index(applied) > done
    untouched = what_was_learnt(go(busy, tmp_path / "untouched"))
    turned = what_was_learnt(link)
    both = len([event for event in link.events[:done] if isinstance(event, GroupScored | Evaluated | StepDone)]) + 1
    assert turned[:both] == untouched[:both]
    assert turned[both:] != untouched[both:]


@pytest.mark.parametrize(
    ("action", "word"),
    [
        (KnobOrder("optim.lr", 5.0), "optim.lr"),
        (KnobOrder("optim.speed", 5.0), "optim.speed"),
        (KnobOrder("optim.beta1", 0.5), "next run"),
        (ResumeOrder(), "not paused"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_and_changes_nothing(
    recipe: Recipe, tmp_path: Path, action: Action, word: str
) -> None:
    link = go(recipe, tmp_path, ordering({1: [action]}))
    (refused,) = of(link, CommandRefused)
    assert word in refused.message
    assert not of(link, CommandApplied)
    assert of(link, StepDone)[-1].step == 4


def test_a_paused_run_holds_until_it_is_resumed_and_learns_the_same(recipe: Recipe, tmp_path: Path) -> None:
    link = ordering({2: [PauseOrder()]})
    put = link.on_event

    def resume(event: TrainerEvent) -> None:
        if put:
            put(event)
        if isinstance(event, RunPaused):
            link.waiting.append(Order("later", PauseOrder()))
            link.waiting.append(Order("last", ResumeOrder()))

    link.on_event = resume
    go(recipe, tmp_path / "held", link)
    assert [event.step for event in of(link, RunPaused)] == [event.step for event in of(link, RunResumed)] == [2]
    assert [event.command for event in of(link, CommandRefused)] == ["later"]
    assert what_was_learnt(link) == what_was_learnt(go(recipe, tmp_path / "free"))


def test_a_stopped_run_saves_and_goes_on_later(recipe: Recipe, tmp_path: Path) -> None:
    stopped = go(recipe, tmp_path, ordering({3: [StopOrder()]}))
    assert [type(event) for event in stopped.events[-3:]] == [CommandApplied, CheckpointSaved, RunEnded]
    assert of(stopped, RunEnded)[0].outcome == "stopped"
    resumed = go(recipe, tmp_path)
    assert [event.step for event in of(resumed, StepDone)] == [4]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_released_run_goes_on_to_the_bit(recipe: Recipe, tmp_path: Path, step: int) -> None:
    released = go(recipe, tmp_path / "released", ordering({step: [PauseOrder(release=True)]}))
    assert [type(event) for event in released.events[-2:]] == [CheckpointSaved, RunEnded]
    assert of(released, RunEnded) == [RunEnded(step, "released")]
    assert not of(released, CommandApplied), "the daemon answers, when the process is gone"
    resumed, free = go(recipe, tmp_path / "released"), go(recipe, tmp_path / "free")
    assert what_was_learnt(released) + what_was_learnt(resumed) == what_was_learnt(free)
    assert state_of(tmp_path / "released", 4) == state_of(tmp_path / "free", 4)
    whole = tensors_of(tmp_path / "free", 4)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in tensors_of(tmp_path / "released", 4).items())


def test_a_release_that_is_taken_back_changes_nothing(recipe: Recipe, tmp_path: Path) -> None:
    link = go(recipe, tmp_path, ordering({2: [PauseOrder(release=True), ResumeOrder()]}))
    assert [event.verb for event in of(link, CommandRefused)] == ["pause"]
    assert [event.verb for event in of(link, CommandApplied)] == ["resume"]
    assert of(link, RunEnded) == [RunEnded(4, "finished")]


def test_a_run_that_is_told_to_end_saves_at_its_boundary_and_goes_on_to_the_bit(recipe: Recipe, tmp_path: Path) -> None:
    link = ListLink()

    def end(event: TrainerEvent) -> None:
        link.is_ending = link.is_ending or (isinstance(event, GroupScored) and event.step == 3)

    link.on_event = end
    go(recipe, tmp_path / "cut", link)
    assert of(link, RunEnded) == [RunEnded(3, "interrupted")]
    assert what_was_learnt(link) + what_was_learnt(go(recipe, tmp_path / "cut")) == what_was_learnt(
        go(recipe, tmp_path / "free")
    )


def test_a_stop_ends_a_held_run_too(recipe: Recipe, tmp_path: Path) -> None:
    link = go(recipe, tmp_path, ordering({2: [PauseOrder(), StopOrder()]}))
    assert of(link, RunEnded)[0] == RunEnded(2, "stopped")


def test_a_save_order_writes_a_checkpoint_before_it_is_applied(recipe: Recipe, tmp_path: Path) -> None:
    link = go(recipe, tmp_path, ordering({1: [SaveOrder()]}))
    saved = next(place for place, event in enumerate(link.events) if isinstance(event, CheckpointSaved))
    assert link.events[saved] == of(link, CheckpointSaved)[0]
    assert of(link, CheckpointSaved)[0].step == 1
    assert isinstance(link.events[saved + 1], CommandApplied)


def test_a_corrupt_checkpoint_is_passed_over_for_the_one_before(recipe: Recipe, tmp_path: Path) -> None:
    go(recipe, tmp_path)
    weights = tmp_path / "step-000004" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    resumed = go(recipe, tmp_path)
    assert of(resumed, RunStarted)[0].resumed_from == 2
    for _, folder in list_checkpoints(tmp_path):
        (folder / "optimizer.safetensors").unlink()
    broken = ListLink()
    with pytest.raises(CheckpointError):
        go(recipe, tmp_path, broken)
    assert isinstance(broken.events[-1], RunBroke)


def test_only_the_newest_checkpoints_are_kept_and_nothing_half_written_is_left(recipe: Recipe, tmp_path: Path) -> None:
    saving = msgspec.structs.replace(recipe.saving, every_steps=1, keep=2)
    go(msgspec.structs.replace(recipe, saving=saving), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000003", "step-000004"]


def test_a_refreshed_reference_is_part_of_the_checkpoint(recipe: Recipe, tmp_path: Path) -> None:
    kl = msgspec.structs.replace(recipe.kl, refresh_steps=1)
    refreshing = msgspec.structs.replace(recipe, kl=kl)
    whole = go(refreshing, tmp_path / "whole")
    halved = msgspec.structs.replace(refreshing, stage=msgspec.structs.replace(recipe.stage, steps=2))
    go(halved, tmp_path / "halved")
    assert what_was_learnt(go(refreshing, tmp_path / "halved")) == what_was_learnt(whole, after=2)
    for event in of(whole, StepDone):
        assert event.metrics[metrics.KL_K3] == pytest.approx(0, abs=1e-6)


def test_without_a_divergence_no_reference_is_loaded(recipe: Recipe, tmp_path: Path) -> None:
    free = msgspec.structs.replace(recipe, kl=msgspec.structs.replace(recipe.kl, coef=0.0))
    link = go(free, tmp_path)
    assert all(metrics.KL_K3 not in event.metrics for event in of(link, StepDone))


def test_a_missing_model_is_told_and_raised(tmp_path: Path) -> None:
    link = ListLink()
    with pytest.raises(NotFound, match="nowhere"):
        go(parse_recipe(RECIPE.format(model=tmp_path / "nowhere"), "tiny.toml"), tmp_path, link)
    assert isinstance(link.events[-1], RunBroke)


def refused_by_the_gpu(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 4 GiB.")


def refused_by_the_system(*_: object, **__: object) -> None:
    torch.empty(1 << 60, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("refused", "said"),
    [(refused_by_the_gpu, "2.00 GiB"), (refused_by_the_system, f"{1 << 60} bytes")],
)
@pytest.mark.parametrize(
    ("place", "phase", "hint"),
    [
        ("trainer.loop.give_credit", "learn", "optim.micro_batch_tokens"),
        ("trainer.sampler.LocalSampler.sample", "evaluate", "evaluation.problems"),
        ("trainer.loop.load_policy", "load", "smaller model"),
    ],
)
def test_want_of_memory_ends_the_run_and_says_what_to_lower(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    refused: object, said: str, place: str, phase: str, hint: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(place, refused)
    link = ListLink()
    with pytest.raises(OutOfMemoryError, match=said):
        go(recipe, tmp_path, link)
    broke = link.events[-1]
    assert isinstance(broke, RunBroke)
    assert hint in broke.hint and f"out of memory in `{phase}`" in broke.message


def test_previews_add_up_to_the_answers(recipe: Recipe, tmp_path: Path) -> None:
    link = go(recipe, tmp_path)
    written: dict[tuple[int, int], str] = {}
    for event in link.passing:
        for answer in event.answers if isinstance(event, Preview) else []:
            have = written.get((event.step, answer.index), "") if isinstance(event, Preview) else ""
            assert answer.at in (0, len(have))
            written[event.step, answer.index] = have[: answer.at] + answer.text
    for group in of(link, GroupScored):
        if group.group == 0:
            for rollout in group.rollouts:
                assert written[group.step, rollout.index] == rollout.text


def test_events_survive_the_journal(recipe: Recipe, tmp_path: Path) -> None:
    for seq, event in enumerate(go(recipe, tmp_path).events, 1):
        record = events.Record(seq, 0, 1, event)
        assert events.decode_record(events.encode_record(record)).event == event


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(
    "choice",
    [
        "policy.normaliser=token",
        "policy.normaliser=sequence",
        "policy.normaliser=constant",
        "policy.updates_per_batch=2",
    ],
)
def test_what_is_rewarded_becomes_frequent_and_what_is_punished_rare(
    tiny_folder: Path, tmp_path: Path, choice: str, sign: float
) -> None:
    key, value = choice.split("=")
    overrides = {
        key: value, "stage.steps": "12", "reward.length": str(sign), "reward.format": "0", "reward.correct": "0",
        "kl.coef": "0", "optim.lr": "0.02", "sampling.prompts_per_step": "8", "sampling.group_size": "8",
        "evaluation.every_steps": "0", "saving.every_steps": "0", "optim.micro_batch_tokens": "4000",
        "sampling.max_new_tokens": "40",
    }  # fmt: skip
    recipe = parse_recipe(RECIPE.format(model=tiny_folder), "tiny.toml", overrides)
    lengths = [event.metrics[metrics.LENGTH_MEAN] for event in of(go(recipe, tmp_path), StepDone)]
    assert sign * (lengths[-1] - lengths[0]) > 1.0
