"""Commands are kept once, however often they are sent, and each has one fate."""

from __future__ import annotations

from pathlib import Path

import pytest

from ponder import wire
from ponder.errors import NotFound, RecipeError, Refused
from ponder.events import (
    CommandAccepted,
    CommandApplied,
    CommandRefused,
    RunState,
    RunSubmitted,
    StageStarted,
    StateChanged,
)
from ponder.knobs import KnobValue
from ponder.wire import CommandState
from store.reader import Reader
from store.writer import Writer
from tests.store.records import as_records, recipe_text, started


@pytest.fixture
def run(writer: Writer) -> str:
    return writer.submit_run("submit", recipe_text(), "zero.toml", "ada")


@pytest.fixture
def reader(store_path: Path, writer: Writer) -> Reader:
    assert writer.path == store_path
    return Reader(store_path)


def test_runs_of_a_recipe_are_numbered_from_one(writer: Writer) -> None:
    names = [writer.submit_run(f"c{n}", recipe_text(name), "", "") for n, name in enumerate(["zero", "zero", "zero-1"])]
    assert names == ["zero-1", "zero-2", "zero-1-1"]


def test_a_submission_sent_twice_makes_one_run(writer: Writer, reader: Reader, run: str) -> None:
    assert writer.submit_run("submit", recipe_text(), "zero.toml", "ada") == run
    assert [row.name for row in reader.runs().runs] == [run]
    events = [stored.event for stored in reader.events(0).events]
    assert events == [
        RunSubmitted(run, "countdown-zero", "ada"),
        StateChanged(RunState.QUEUED, RunState.QUEUED, "submitted"),
    ]
    status = reader.command("submit")
    assert (status.verb, status.run, status.state) == ("run", run, CommandState.APPLIED)


def test_a_submission_id_cannot_mean_another_recipe(writer: Writer, run: str) -> None:
    with pytest.raises(Refused) as caught:
        writer.submit_run("submit", recipe_text(steps=31), "", "")
    assert caught.value.code == "conflict"
    with pytest.raises(Refused):
        writer.accept_command("submit", run, "pause")


def test_a_recipe_with_a_mistake_makes_no_run(writer: Writer, reader: Reader) -> None:
    with pytest.raises(RecipeError):
        writer.submit_run("submit", recipe_text().replace("lr", "lrr"), "zero.toml", "ada")
    assert reader.runs().runs == []
    assert writer.head() == 0


def test_a_run_starts_with_its_recipes_knobs(reader: Reader, run: str) -> None:
    knobs = {knob.name: knob.value for knob in reader.knobs(run).knobs}
    assert knobs["optim.lr"] == 3e-4
    assert knobs["sampling.prompts_per_step"] == 4
    assert knobs["policy.drop_flat_groups"] is True
    assert knobs["policy.normaliser"] == "token"
    assert isinstance(knobs["reward.correct"], float)


def test_a_command_sent_twice_is_accepted_once(writer: Writer, reader: Reader, run: str) -> None:
    assert writer.accept_command("c", run, "set", "optim.lr", 1e-4, "ada") is True
    assert writer.accept_command("c", run, "set", "optim.lr", 1e-4, "ada") is False
    events = reader.events(0).events
    assert [stored.event for stored in events[2:]] == [CommandAccepted("c", "set", "ada", "optim.lr", 1e-4)]
    assert reader.command("c").state is CommandState.ACCEPTED


@pytest.mark.parametrize("other", [("set", "optim.lr", 2e-4), ("set", "kl.coef", 1e-4), ("pause", "", None)])
def test_a_command_id_cannot_mean_something_else(
    writer: Writer, run: str, other: tuple[str, str, KnobValue | None]
) -> None:
    writer.accept_command("c", run, "set", "optim.lr", 1e-4)
    with pytest.raises(Refused) as caught:
        writer.accept_command("c", run, *other)
    assert caught.value.code == "conflict"


def test_a_command_for_no_run_is_not_found(writer: Writer) -> None:
    with pytest.raises(NotFound):
        writer.accept_command("c", "nobody-1", "pause")


def test_orders_wait_in_their_order_until_they_are_answered(writer: Writer, run: str) -> None:
    writer.accept_command("c1", run, "set", "optim.lr", 1e-4)
    for command, verb in (("c2", "pause"), ("c3", "resume"), ("c4", "save"), ("c5", "stop")):
        writer.accept_command(command, run, verb)
    writer.accept_command("c6", run, "pause", value=True)
    orders = [
        wire.Order("c1", wire.KnobOrder("optim.lr", 1e-4)),
        wire.Order("c2", wire.PauseOrder()),
        wire.Order("c3", wire.ResumeOrder()),
        wire.Order("c4", wire.SaveOrder()),
        wire.Order("c5", wire.StopOrder()),
        wire.Order("c6", wire.PauseOrder(release=True)),
    ]
    assert writer.pending_orders(run) == orders
    writer.commit_records(run, as_records([started(0, 30), CommandApplied("c1", 0, "set", "optim.lr", 3e-4, 1e-4)]))
    writer.refuse_command("c2", 0, "not now")
    writer.settle_command("c3", 0)
    assert writer.pending_orders(run) == orders[3:]


def test_an_applied_knob_is_true_since_its_step(writer: Writer, reader: Reader, run: str) -> None:
    writer.accept_command("c", run, "set", "optim.lr", 1e-4, "ada")
    pending = {knob.name: knob for knob in reader.knobs(run).knobs}["optim.lr"]
    assert (pending.value, pending.pending, pending.pending_command) == (3e-4, 1e-4, "c")
    writer.commit_records(run, as_records([started(0, 30), CommandApplied("c", 7, "set", "optim.lr", 3e-4, 1e-4)]))
    table = reader.knobs(run)
    applied = {knob.name: knob for knob in table.knobs}["optim.lr"]
    assert (applied.value, applied.pending, applied.pending_command) == (1e-4, None, "")
    (change,) = table.changes
    assert (change.old, change.new, change.by, change.state, change.applied_step) == (
        3e-4, 1e-4, "ada", CommandState.APPLIED, 7,
    )  # fmt: skip
    assert reader.metrics(run).marks == [(7, "optim.lr 0.0003 -> 0.0001")]


def test_a_refused_command_changes_nothing_and_says_why(writer: Writer, reader: Reader, run: str) -> None:
    writer.accept_command("c", run, "set", "optim.lr", 1e-4, "ada")
    refused = CommandRefused("c", 7, "set", "the run is over", "submit it again")
    writer.commit_records(run, as_records([started(0, 30), refused]))
    status = reader.command("c")
    assert (status.state, status.message, status.hint) == (CommandState.REFUSED, "the run is over", "submit it again")
    table = reader.knobs(run)
    assert {knob.name: knob.value for knob in table.knobs}["optim.lr"] == 3e-4
    assert table.changes[0].applied_step is None


def test_the_daemon_settles_what_needs_no_trainer(writer: Writer, reader: Reader, run: str) -> None:
    writer.accept_command("c", run, "set", "policy.drop_flat_groups", False, "ada")
    assert writer.settle_command("c", 0) is True
    assert writer.settle_command("c", 0) is False
    assert writer.refuse_command("c", 0, "too late") is False
    events = [stored.event for stored in reader.events(0).events]
    assert events[-1] == CommandApplied("c", 0, "set", "policy.drop_flat_groups", True, False)
    assert {knob.name: knob.value for knob in reader.knobs(run).knobs}["policy.drop_flat_groups"] is False


def test_a_command_that_nobody_gave_cannot_be_settled(writer: Writer) -> None:
    with pytest.raises(NotFound):
        writer.settle_command("never", 0)


def test_a_state_is_said_once_and_the_times_follow(writer: Writer, reader: Reader, run: str) -> None:
    before = writer.head()
    for state in (RunState.STARTING, RunState.RUNNING, RunState.RUNNING, RunState.FINISHED, RunState.FINISHED):
        writer.set_state(run, state, "because")
    said = [stored.event for stored in reader.events(before).events]
    assert said == [
        StateChanged(RunState.QUEUED, RunState.STARTING, "because"),
        StateChanged(RunState.STARTING, RunState.RUNNING, "because"),
        StateChanged(RunState.RUNNING, RunState.FINISHED, "because"),
    ]
    over = reader.run(run).row
    assert over.started_us is not None
    assert over.ended_us is not None
    assert over.started_us < over.ended_us
    assert reader.status_runs() == []
    writer.set_state(run, RunState.STARTING, "resumed")
    again = reader.run(run).row
    assert (again.started_us, again.ended_us) == (over.started_us, None)


def test_an_attempt_is_kept_with_its_cause(writer: Writer, reader: Reader, run: str) -> None:
    writer.start_attempt(run, 1, 4000, 77, "boot")
    writer.start_attempt(run, 1, 4000, 77, "boot", is_reattached=True)
    writer.end_attempt(run, 1, None, 9, "out of memory")
    head = writer.head()
    writer.end_attempt(run, 1, 0, None, "finished")
    assert writer.head() == head
    (attempt,) = reader.run(run).attempts
    assert (attempt.attempt, attempt.pid, attempt.exit_code, attempt.signal, attempt.cause) == (
        1, 4000, None, 9, "out of memory",
    )  # fmt: skip


def test_the_last_sign_of_life_is_kept(writer: Writer, reader: Reader, run: str) -> None:
    writer.heard(run, 3, "sample", 1_700_000_000_000_000)
    row = reader.run(run).row
    assert (row.step, row.phase, row.seen_us) == (3, "sample", 1_700_000_000_000_000)


def test_a_stage_begins_with_its_own_knobs_and_keeps_what_was_set_in_it(
    writer: Writer, reader: Reader, run: str
) -> None:
    stage = StageStarted(4, "finish", "rl", 2, 2, 6, "stage:sft", 99, {"optim.lr": 0.5, "kl.coef": 0.25})
    early = CommandApplied("early", 2, "set", "optim.lr", 1e-4, 0.1)
    late = CommandApplied("late", 4, "set", "optim.lr", 0.5, 0.3)

    def values() -> dict[str, KnobValue]:
        return {knob.name: knob.value for knob in reader.knobs(run).knobs}

    writer.commit_records(run, as_records([started(0, 10), early, stage]))
    assert (values()["optim.lr"], values()["kl.coef"]) == (0.5, 0.25)
    assert reader.run(run).row.stage == "finish" and reader.run(run).parameters == 99
    writer.commit_records(run, as_records([late], first_seq=4))
    assert values()["optim.lr"] == 0.3
    writer.commit_records(
        run, as_records([started(4, 10, 4), stage], attempt=2, first_seq=5)
    )  # begun again after a death
    assert values()["optim.lr"] == 0.3


def test_a_prompt_is_in_quarantine_until_it_is_lifted_and_a_fork_shares_what_was_so_before_it(
    writer: Writer, run: str
) -> None:
    from store.orders import is_quarantined

    def settle(number: int, step: int, verb: str, prompt: str) -> None:
        command = f"q{number}"
        writer.accept_command(command, run, verb, value=prompt)
        writer.commit_records(run, as_records([CommandApplied(command, step, verb, new=prompt)], first_seq=number))

    writer.commit_records(run, as_records([started(0, 30)], first_seq=1))
    settle(2, 3, "quarantine", "a prompt")
    settle(3, 4, "quarantine", 'another "one"')
    settle(4, 9, "lift", "a prompt")
    connection = writer._connection
    (own,) = connection.execute("SELECT id FROM runs WHERE name = ?", (run,)).fetchone()
    assert [is_quarantined(connection, own, prompt) for prompt in ("a prompt", 'another "one"', "x")] == [
        False, True, False,
    ]  # fmt: skip
    for at, expected in ((2, False), (5, True), (10, False)):
        child = writer.submit_run(f"fork{at}", recipe_text(), "", "")
        connection.execute("UPDATE runs SET parent_id = ?, forked_at = ? WHERE name = ?", (own, at, child))
        (child_id,) = connection.execute("SELECT id FROM runs WHERE name = ?", (child,)).fetchone()
        assert is_quarantined(connection, child_id, "a prompt") is expected
