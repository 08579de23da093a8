"""What the watchdog promises: each rule fires on what it is for, once, and a re-run fires as the first one did."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import pytest
from safetensors.torch import load_file

from ponder import metrics, watchdog
from ponder.errors import RecipeError
from ponder.events import (
    CheckpointSaved,
    RunEnded,
    RunPaused,
    RunResumed,
    RunStarted,
    StepDone,
    TrainerEvent,
    WatchdogFired,
)
from ponder.recipe import Recipe, parse_recipe
from ponder.watchdog import RULES, Action
from ponder.watchdog import Watchdog as Limits
from ponder.wire import Order, ResumeOrder
from tests.trainer.conftest import RECIPE
from tests.trainer.test_loop import go, of, state_of, what_was_learnt
from trainer.link import ListLink
from trainer.watchdog import Memory, Watchdog, strongest

CALM = {
    metrics.ENTROPY: 0.4,
    metrics.LENGTH_MEAN: 20.0,
    metrics.TRUNCATED: 0.02,
    metrics.KL_K3: 0.1,
    metrics.GROUPS_MIXED: 0.6,
    metrics.TOKENS_PER_SECOND: 1000.0,
    metrics.NONFINITE_GRADIENTS: 0.0,
}
TROUBLE: dict[str, tuple[dict[str, float], int]] = {
    watchdog.NONFINITE: ({metrics.POLICY_LOSS: math.nan}, 1),
    watchdog.COLLAPSE: ({metrics.ENTROPY: 0.03}, 5),
    watchdog.EXPLOSION: ({metrics.ENTROPY: 1.3}, 5),
    watchdog.LENGTH: ({metrics.LENGTH_MEAN: 60.0, metrics.TRUNCATED: 0.2}, 5),
    watchdog.KL: ({metrics.KL_K3: 1.5}, 5),
    watchdog.DEAD: ({metrics.GROUPS_MIXED: 0.0}, 10),
    watchdog.STALL: ({metrics.TOKENS_PER_SECOND: 100.0}, 5),
}
"""Figures that break each rule, and the steps that it waits by default."""


def feed(dog: Watchdog, figures: Iterable[Mapping[str, float]], limits: Limits, first: int = 1) -> list[WatchdogFired]:
    return [
        fired for step, changed in enumerate(figures, first) for fired in dog.watch(step, {**CALM, **changed}, limits)
    ]


def test_every_rule_has_its_knob_and_its_test() -> None:
    knobs = {field.name for field in msgspec.structs.fields(Limits)}
    assert set(RULES) <= knobs
    assert set(RULES) == set(TROUBLE)
    assert all(name in metrics.METRICS for rule in RULES.values() for name in rule.looks_at)


@pytest.mark.parametrize("rule", list(RULES))
def test_a_rule_fires_once_when_its_trouble_has_lasted_and_again_after_it_was_over(rule: str) -> None:
    trouble, needed = TROUBLE[rule]
    dog, limits = Watchdog(), Limits()
    calm: list[Mapping[str, float]] = [{}] * 30
    assert feed(dog, calm, limits) == [] and dog.is_calm
    assert feed(dog, [trouble] * (needed - 1), limits, 31) == []
    (fired,) = feed(dog, [trouble] * 8, limits, 30 + needed)
    assert (fired.rule, fired.step) == (rule, 30 + needed)
    assert fired.action == str(getattr(limits, rule))
    assert fired.message and all(math.isfinite(value) for value in fired.figures.values())
    assert dog.is_calm == (rule == watchdog.STALL)
    assert feed(dog, [{}], limits, 60) == [] and dog.is_calm
    assert [again.rule for again in feed(dog, [trouble] * needed, limits, 61)] == [rule]


@pytest.mark.parametrize("rule", list(RULES))
def test_a_rule_that_is_off_never_fires(rule: str) -> None:
    limits = msgspec.structs.replace(Limits(), **{rule: type(getattr(Limits(), rule))("off")})
    assert feed(Watchdog(), [*[{}] * 30, *[TROUBLE[rule][0]] * 20], limits) == []


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != watchdog.NONFINITE])
def test_patience_that_is_shortened_while_trouble_lasts_makes_its_rule_fire(rule: str) -> None:
    trouble, needed = TROUBLE[rule]
    patient = msgspec.structs.replace(Limits(), patience=100, dead_steps=100)
    dog = Watchdog()
    assert feed(dog, [*[{}] * 30, *[trouble] * (needed + 3)], patient) == []
    (fired,) = feed(dog, [trouble] * 5, Limits(), 40)
    assert (fired.rule, fired.step) == (rule, 40) and f"for {needed + 4} steps" in fired.message


def test_a_figure_that_is_not_finite_fires_at_once_also_among_updates_that_were_not_made() -> None:
    bad = {metrics.NONFINITE_GRADIENTS: 1.0}
    (fired,) = feed(Watchdog(), [{}, bad, bad, {**bad, metrics.POLICY_LOSS: math.nan}, bad], Limits())
    assert fired.step == 4 and "`loss/policy` was nan" in fired.message


def test_a_rule_that_is_off_makes_no_checkpoint_bad() -> None:
    """Else a rule switched off for crying wolf would let a roll-back go to the very start."""
    off = msgspec.structs.replace(Limits(), dead_groups=Action.OFF)
    for limits, is_calm in ((Limits(), False), (off, True)):
        dog = Watchdog()
        feed(dog, [{metrics.GROUPS_MIXED: 0.0}] * 3, limits)
        assert dog.is_calm is is_calm


def test_trouble_that_passes_before_patience_ends_is_no_trouble() -> None:
    for rule, (trouble, needed) in TROUBLE.items():
        if needed > 1:
            figures = [*[{}] * 30, *([trouble] * (needed - 1) + [{}]) * 4]
            assert feed(Watchdog(), figures, Limits()) == [], rule


def test_length_may_grow_and_answers_may_be_cut_but_not_both_at_once() -> None:
    growing = [{metrics.LENGTH_MEAN: 20.0 * 1.05**step} for step in range(80)]
    cut = [{metrics.TRUNCATED: 0.3}] * 40
    assert feed(Watchdog(), [*growing], Limits()) == []
    assert feed(Watchdog(), cut, Limits()) == []


def test_an_update_without_a_finite_gradient_is_skipped_and_fires_only_when_it_lasts() -> None:
    bad = {metrics.NONFINITE_GRADIENTS: 1.0}
    assert feed(Watchdog(), [{}, bad, {}], Limits()) == []
    (fired,) = feed(Watchdog(), [bad] * 6, Limits())
    assert (fired.rule, fired.step) == (watchdog.NONFINITE, 5)


def test_what_was_remembered_fires_as_if_nothing_had_ended() -> None:
    """Cut a series anywhere, pass the memory through JSON, and the same firings come."""
    series = [*[{}] * 8, *[TROUBLE[watchdog.COLLAPSE][0]] * 9, *[{}] * 3, *[TROUBLE[watchdog.LENGTH][0]] * 9]
    whole = feed(Watchdog(), series, Limits())
    assert [fired.rule for fired in whole] == [watchdog.COLLAPSE, watchdog.LENGTH]
    for cut in range(len(series)):
        first = Watchdog()
        before = feed(first, series[:cut], Limits())
        second = Watchdog(msgspec.json.decode(msgspec.json.encode(first.memory), type=Memory))
        assert before + feed(second, series[cut:], Limits(), cut + 1) == whole


def test_after_its_roll_backs_a_run_pauses() -> None:
    dog = Watchdog(Memory(rollbacks=3))
    (fired,) = feed(dog, [{metrics.POLICY_LOSS: math.inf}], Limits())
    assert fired.action == Action.PAUSE and "3 times already" in fired.message


def test_the_strongest_action_is_taken() -> None:
    warn, pause, back = (WatchdogFired(1, "kl", action, {}, "") for action in ("warn", "pause", "rollback"))
    assert strongest([warn]) is None
    assert strongest([pause, warn]) is pause
    assert strongest([pause, back, warn]) is back


def test_a_stall_cannot_be_rolled_back(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"watchdog\.stall"):
        parse_recipe(RECIPE.format(model=tmp_path) + '[watchdog]\nstall = "rollback"\n', "tiny.toml")


# ---- in a run


def exploding(recipe: Recipe, action: str, **limits: object) -> Recipe:
    """A learning rate of 1: the first updates throw the weights about."""
    watch = msgspec.structs.replace(
        recipe.watchdog, kl=Action(action), kl_budget=0.5, patience=2, entropy_collapse=Action.OFF,
        entropy_explosion=Action.OFF, length=Action.OFF, dead_groups=Action.OFF, **limits,
    )  # fmt: skip
    return msgspec.structs.replace(
        recipe,
        optim=msgspec.structs.replace(recipe.optim, lr=1.0),
        stage=msgspec.structs.replace(recipe.stage, steps=10),
        watchdog=watch,
    )


def test_a_run_made_to_explode_is_warned_of_and_ends(recipe: Recipe, tmp_path: Path) -> None:
    link = go(exploding(recipe, "warn"), tmp_path)
    fired = of(link, WatchdogFired)
    assert fired[0].rule == "kl" and fired[0].figures[metrics.KL_K3] > 0.5
    assert link.events.index(fired[0]) == link.events.index(of(link, StepDone)[fired[0].step - 1]) + 1
    assert of(link, RunEnded)[0] == RunEnded(10, "finished")


def test_a_run_made_to_explode_is_rolled_back_and_then_paused(recipe: Recipe, tmp_path: Path) -> None:
    asked = exploding(recipe, "rollback", rollbacks=2)
    asked = msgspec.structs.replace(asked, stage=msgspec.structs.replace(asked.stage, steps=14))
    link = ListLink()
    link.commands = lambda wait_s=0.0: [Order("on", ResumeOrder())] if wait_s else []  # type: ignore[method-assign]
    go(asked, tmp_path, link)
    fired = of(link, WatchdogFired)
    assert [event.action for event in fired] == ["rollback", "rollback", "pause"]
    (paused,) = of(link, RunPaused)
    assert paused.step == fired[-1].step and "rule `kl`" in paused.reason and "2 times already" in paused.reason
    assert [event.step for event in of(link, RunResumed)] == [paused.step]
    assert [event.step for event in of(link, StepDone)] == list(range(1, 15))
    assert {event.step for event in fired} <= {event.step for event in of(link, CheckpointSaved)}
    versions = [event.policy_version for event in of(link, StepDone)]
    assert versions == sorted(set(versions))


def test_rolling_back_without_a_checkpoint_gives_the_start_and_other_problems(recipe: Recipe, tmp_path: Path) -> None:
    asked = exploding(recipe, "rollback", rollbacks=1)
    seen: list[dict[str, object]] = []

    def look(event: TrainerEvent) -> None:
        if isinstance(event, CheckpointSaved) and not seen:
            weights = load_file(tmp_path / event.folder / "model.safetensors")
            start = load_file(Path(asked.model.path) / "model.safetensors")
            seen.append({"same": all(weights[name].equal(start[name]) for name in start)})
            seen.append(state_of(tmp_path, event.step))
            seen.append(dict(load_file(tmp_path / event.folder / "optimizer.safetensors")))

    saving = msgspec.structs.replace(asked.saving, every_steps=0)
    link = ListLink(look)
    link.commands = lambda wait_s=0.0: [Order("on", ResumeOrder())] if wait_s else []  # type: ignore[method-assign]
    go(msgspec.structs.replace(asked, saving=saving), tmp_path, link)
    assert seen[0] == {"same": True}
    assert seen[1]["cursor"] == 3 * of(link, WatchdogFired)[0].step
    assert seen[2] == {}


@pytest.mark.parametrize("steps", [3, 4, 5, 7])
def test_a_rolled_back_run_that_is_interrupted_goes_on_to_the_bit(recipe: Recipe, tmp_path: Path, steps: int) -> None:
    """Also where only the cut one saved: a checkpoint more is none to roll back to."""
    asked = exploding(recipe, "rollback", rollbacks=10)
    whole = go(asked, tmp_path / "whole")
    go(msgspec.structs.replace(asked, stage=msgspec.structs.replace(asked.stage, steps=steps)), tmp_path / "cut")
    resumed = go(asked, tmp_path / "cut")
    assert len(of(whole, WatchdogFired)) > 1
    assert what_was_learnt(resumed) == what_was_learnt(whole, after=steps)
    assert of(resumed, WatchdogFired) == [event for event in of(whole, WatchdogFired) if event.step > steps]
    assert state_of(tmp_path / "whole", 10) == state_of(tmp_path / "cut", 10)


def test_a_run_that_died_while_the_watchdog_held_it_is_held_again(recipe: Recipe, tmp_path: Path) -> None:
    class DiedError(Exception):
        pass

    def die(event: TrainerEvent) -> None:
        if isinstance(event, RunPaused):
            raise DiedError

    asked = exploding(recipe, "pause")
    died = ListLink(die)
    with pytest.raises(DiedError):
        go(asked, tmp_path, died)
    second = ListLink()
    second.commands = lambda wait_s=0.0: [Order("on", ResumeOrder())] if wait_s else []  # type: ignore[method-assign]
    go(asked, tmp_path, second)
    assert of(second, RunStarted)[0].resumed_from == of(died, RunPaused)[0].step
    assert of(second, RunPaused)[0] == of(died, RunPaused)[0]
    assert of(second, RunEnded)[0].outcome == "finished"


def test_a_run_that_is_told_to_end_while_the_watchdog_holds_it_is_held_again(recipe: Recipe, tmp_path: Path) -> None:
    asked = exploding(recipe, "pause")
    first = ListLink()

    def end(event: TrainerEvent) -> None:
        first.is_ending = first.is_ending or isinstance(event, RunPaused)

    first.on_event = end
    first.commands = lambda *_: []  # type: ignore[method-assign]  # nobody orders anything
    go(asked, tmp_path, first)
    assert of(first, RunEnded)[0].outcome == "interrupted"
    second = ListLink()
    second.commands = lambda wait_s=0.0: [Order("on", ResumeOrder())] if wait_s else []  # type: ignore[method-assign]
    go(asked, tmp_path, second)
    assert of(second, RunPaused)[0] == of(first, RunPaused)[0]


def test_the_last_good_checkpoint_is_kept_however_many_follow(recipe: Recipe, tmp_path: Path) -> None:
    asked = exploding(recipe, "warn")
    asked = msgspec.structs.replace(asked, saving=msgspec.structs.replace(asked.saving, every_steps=1, keep=1))
    go(asked, tmp_path)
    good = state_of(tmp_path, 10)["watchdog"]
    assert isinstance(good, dict)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted({f"step-{good['good_step']:06d}", "step-000010"} - {"step-000000"})


def test_a_checkpoint_from_before_the_watchdog_is_read(recipe: Recipe, tmp_path: Path) -> None:
    from trainer.run_state import Facts

    go(recipe, tmp_path)
    old = json.loads((tmp_path / "step-000002" / "state.json").read_text())
    del old["watchdog"], old["knobs"]["watchdog"]
    facts = msgspec.convert(old, Facts)
    assert facts.watchdog == Memory() and facts.knobs.watchdog == Limits()
