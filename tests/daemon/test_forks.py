"""A fork shares its parent's past: files before it is queued, knobs as they were in force, curves read through it."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.fork import plan_fork
from ponder import wire
from ponder.errors import KnobError, NotFound, Refused, StoreError
from ponder.events import RunState, StepDone
from ponder.knobs import KnobValue
from ponder.paths import Paths, saved_steps
from ponder.recipe import parse_recipe
from tests.daemon.conftest import Home, recipe_text
from tests.daemon.test_runs import steps_of


def fork(home: Home, run: str, step: int | None = None, name: str = "", **changes: float) -> str:
    """Fork a run; `changes` name knobs with `__` for the dot."""
    wanted: dict[str, KnobValue] = {key.replace("__", "."): value for key, value in changes.items()}
    return home.client.command(wire.ForkRun(run, step, wanted, name, by="ann")).run


def curve(home: Home, run: str, name: str = "optim/lr") -> dict[int, float]:
    return dict(home.client.ask(wire.GetMetrics(run, [name]), wire.Curves).curves[name])


CHAINED = """
[[stages]]
name = "second"
kind = "rl"
steps = 4
[saving]"""


def change(name: str, value: float, step: int) -> wire.KnobChange:
    return wire.KnobChange(wire.new_id(), name, None, value, "ann", 1, wire.CommandState.APPLIED, step, "")


def scripted_row(name: str, step: int) -> wire.RunRow:
    return wire.RunRow(
        1, name, "", RunState.FINISHED, "", "rl", step, step, 1, 1, 1, 2, 2, "", None, {}, [],
    )  # fmt: skip


def detail(row: wire.RunRow, recipe: str) -> wire.RunDetail:
    return wire.RunDetail(row, recipe, "fake", 1, "cpu", "", [], 0, [], {})


def parent_of(home: Home) -> str:
    """A finished run of 6 steps whose learning rate was turned at step 3."""
    run = home.submit(steps=6, step_s=0.05)
    home.wait_step(run, 2)
    command = home.client.command(wire.SetKnob(run, "optim.lr", 0.5)).command
    applied = home.client.wait_for_command(command, 10).step
    assert applied is not None and applied < 5, "turned in time for what the tests ask"
    home.wait_state(run, RunState.FINISHED)
    return run


def test_a_fork_goes_on_from_the_checkpoint_and_its_curves_hold_the_past(served: Home) -> None:
    parent = parent_of(served)
    assert served.detail(parent).checkpoints == [6, 4, 2]
    run = fork(served, parent, 4, stage__steps=9)
    row = served.wait_state(run, RunState.FINISHED)
    assert (row.name, row.forked_from, row.forked_at, row.step) == (f"{parent[:-1]}2", parent, 4, 9)
    assert steps_of(served.events(run)) == [5, 6, 7, 8, 9]
    whole, past = curve(served, run), curve(served, parent)
    assert list(whole) == list(range(1, 10))
    assert {step: whole[step] for step in range(1, 5)} == {step: past[step] for step in range(1, 5)}
    assert whole[5] == past[5] == 0.5, "what was turned in the parent is in force"
    marks = served.client.ask(wire.GetMetrics(run), wire.Curves).marks
    assert (4, f"forked from {parent}") in marks and any("optim.lr" in said for _, said in marks)
    assert not any("resumed" in said for _, said in marks)
    assert row.spark == list(curve(served, run, "reward/mean").values())


def test_a_change_holds_from_the_start_and_is_told(served: Home) -> None:
    parent = parent_of(served)
    run = fork(served, parent, 4, optim__lr=0.25)
    served.wait_state(run, RunState.FINISHED)
    assert curve(served, run)[5] == 0.25
    table = served.client.ask(wire.GetKnobs(run), wire.KnobTable)
    assert table.values["optim.lr"] == 0.25
    (change,) = table.changes
    assert (change.old, change.new, change.applied_step, change.by) == (0.5, 0.25, 4, "ann")
    recipe = parse_recipe(served.paths.run_recipe(run).read_text(), "the fork's")
    assert (recipe.optim.lr, recipe.fork.run, recipe.fork.step) == (0.25, parent, 4)


def test_a_fork_of_a_fork_has_both_pasts(served: Home) -> None:
    parent = parent_of(served)
    second = fork(served, parent, 4, stage__steps=8)
    served.wait_state(second, RunState.FINISHED)
    third = fork(served, second, 6, name="third", stage__steps=10)
    assert third == "third-1"
    served.wait_state(third, RunState.FINISHED)
    whole = curve(served, third)
    assert list(whole) == list(range(1, 11))
    thin = served.client.ask(wire.GetMetrics(third, ["optim/lr"], span=4, with_times=True), wire.Curves)
    assert [step for step, _ in thin.curves["optim/lr"]] == [3, 7, 10]
    assert thin.bands["optim/lr"][1] == (7, min(whole[n] for n in range(4, 8)), max(whole[n] for n in range(4, 8)))
    assert [step for step, _ in thin.times][-1] == 10
    assert served.detail(second).checkpoints == [8, 6, 4], "older ones belong to its parent's way"


def test_the_newest_checkpoint_is_taken_where_none_is_named(served: Home) -> None:
    run = served.submit(steps=400, step_s=0.02)
    served.wait_step(run, 3)
    new = fork(served, run)
    at = served.row(new).forked_at
    assert at is not None and at >= 2 and served.row(new).state is RunState.QUEUED
    assert (served.row(new).step, served.row(run).state) == (at, RunState.RUNNING)


def test_what_cannot_be_forked_is_refused_and_leaves_nothing(served: Home) -> None:
    parent = parent_of(served)
    with pytest.raises(NotFound, match="no checkpoint of step 3") as unknown:
        fork(served, parent, 3)
    assert "2, 4" in unknown.value.hint
    with pytest.raises(Refused, match="nothing is left to do after step 6"):
        fork(served, parent)
    with pytest.raises(KnobError, match="part of the past"):
        fork(served, parent, 4, optim__beta1=0.5)
    with pytest.raises(KnobError, match="cannot be"):
        fork(served, parent, 4, optim__lr=7.0)
    with pytest.raises(KnobError, match="cannot be called"):
        fork(served, parent, 4, name="No Name")
    assert [folder.name for folder in served.paths.runs.iterdir()] == [parent]
    assert len(served.client.ask(wire.ListRuns(), wire.Runs).runs) == 1


def test_asking_twice_makes_one_fork(served: Home) -> None:
    parent = parent_of(served)
    ask = wire.Ask(wire.new_id(), wire.PROTOCOL, wire.ForkRun(parent, 4))
    first, *again = [served.client._ask(ask, wire.Accepted) for _ in range(3)]
    assert first.message == f"forked from {parent} at step 4" and again == [first, first]
    assert len(served.client.ask(wire.ListRuns(), wire.Runs).runs) == 2


def test_a_folder_that_the_store_does_not_know_is_never_gone_on_from(served: Home, paths: Paths) -> None:
    left: Path = paths.checkpoint("fake-1", 3)
    left.mkdir(parents=True)
    run = served.submit(steps=2)
    assert run == "fake-2"
    served.wait_state(run, RunState.FINISHED)
    assert steps_of(served.events(run)) == [1, 2]


def test_a_fork_outlives_what_its_parent_deletes(served: Home) -> None:
    parent = parent_of(served)
    weights = served.paths.checkpoint(parent, 4) / "model.safetensors"
    weights.write_bytes(b"weights")
    run = fork(served, parent, 4)
    shared = served.paths.checkpoint(run, 4) / weights.name
    assert shared.samefile(weights), "linked, not copied"
    weights.unlink()
    assert shared.read_bytes() == b"weights"
    assert saved_steps(served.paths.checkpoints(run))[-2:] == [4, 2], "what lies before comes along"
    served.wait_state(run, RunState.FINISHED)
    assert any(isinstance(stored.event, StepDone) for stored in served.events(run))


def test_in_a_recipe_of_stages_a_change_holds_for_the_stage_that_is_under_way(paths: Paths) -> None:
    text = recipe_text().replace("[stage]", "[[stages]]\nname = 'first'").replace("[saving]", CHAINED)
    row = scripted_row("chain-1", step=9)
    for step in (2, 5, 7):
        paths.checkpoint("chain-1", step).mkdir(parents=True)
    changes = [change("optim.lr", 0.25, 6), change("optim.lr", 0.125, 1)]

    def lrs(step: int, **wanted: KnobValue) -> list[float]:
        asked = {key.replace("__", "."): value for key, value in wanted.items()}
        fork = plan_fork(detail(row, text), changes, wire.ForkRun("chain-1", step, asked), paths)
        stages = parse_recipe(fork.recipe, "fork").stages
        assert {(part.fork.run, part.fork.step) for part in stages} == {("chain-1", step)}
        return [part.optim.lr for part in stages]

    default = parse_recipe(text, "chain").optim.lr
    assert lrs(2) == [0.125, default], "what was turned later has not been turned yet"
    assert lrs(5) == [default, default], "the next stage begins there, without what was turned in the first"
    assert lrs(7) == [default, 0.25]
    assert lrs(7, optim__lr=0.5) == [default, 0.5]


def test_a_fork_that_cannot_be_laid_out_leaves_no_folder_and_no_run(served: Home) -> None:
    parent = parent_of(served)
    (served.paths.checkpoints(parent) / "step-000005").symlink_to("nowhere")
    with pytest.raises(StoreError, match="step-000005"):
        fork(served, parent, 5)
    assert [run.name for run in served.paths.runs.iterdir()] == [parent]
    assert [row.name for row in served.client.ask(wire.ListRuns(), wire.Runs).runs] == [parent]
