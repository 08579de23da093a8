"""Daemons and trainers that die at bad moments: nothing is lost, nothing is told twice, the run goes on."""

from __future__ import annotations

import os
import random
import signal

from daemon.processes import is_attempt_alive, read_started
from ponder import wire
from ponder.events import (
    AttemptEnded,
    AttemptStarted,
    RunEnded,
    RunStarted,
    RunState,
    StepDone,
    StoredEvent,
    decode_record,
)
from ponder.journal import read_records
from tests.daemon.conftest import Home, wait_for


def assert_store_is_the_journal(home: Home, run: str) -> None:
    """Every journaled event is in the store, once, in the journal's order."""
    journaled = [decode_record(payload) for payload, _ in read_records(home.paths.journal(run))]
    assert [record.seq for record in journaled] == list(range(1, len(journaled) + 1))

    def told(event: object) -> tuple[str, object]:
        name = type(event).__name__.replace("GroupScored", "GroupStored")
        return name, getattr(event, "step", None)

    kinds = {told(record.event)[0] for record in journaled}
    stored = [told(stored.event) for stored in home.events(run) if type(stored.event).__name__ in kinds]
    assert stored == [told(record.event) for record in journaled]


def of_kind(events: list[StoredEvent], kind: type) -> list[StoredEvent]:
    return [stored for stored in events if isinstance(stored.event, kind)]


def test_a_new_daemon_takes_up_the_trainer_of_a_killed_one_and_no_event_is_lost_or_doubled(home: Home) -> None:
    home.start()
    run = home.submit(steps=100_000, step_s=0.02, save_every=50)
    home.wait_step(run, 3)
    trainer = home.trainer_pid(run)
    for seed in range(3):
        home.kill_daemon()
        assert is_attempt_alive(home.paths.run(run))
        home.start()
        assert home.trainer_pid(run) == trainer
        home.wait_step(run, home.row(run).step + 1 + random.Random(seed).randrange(5))
    home.client.command(wire.StopRun(run))
    row = home.wait_state(run, RunState.STOPPED)
    assert row.attempt == 1
    assert_store_is_the_journal(home, run)
    steps = [getattr(stored.event, "step", 0) for stored in of_kind(home.events(run), StepDone)]
    assert steps == list(range(1, row.step + 1))
    assert [getattr(s.event, "is_reattached", None) for s in of_kind(home.events(run), AttemptStarted)].count(True) == 3


def test_what_a_trainer_did_while_no_daemon_lived_is_told_by_the_next(home: Home) -> None:
    home.start()
    run = home.submit(steps=30, step_s=0.02)
    trainer = home.trainer_pid(run)
    home.kill_daemon()
    wait_for(lambda: None if is_attempt_alive(home.paths.run(run)) else True, "the trainer's end")
    assert trainer
    home.start()
    assert home.wait_state(run, RunState.FINISHED).step == 30
    assert_store_is_the_journal(home, run)


def test_a_trainer_killed_while_no_daemon_lived_is_started_again(home: Home) -> None:
    home.start()
    run = home.submit(steps=20, step_s=0.05, save_every=2)
    home.wait_step(run, 4)
    trainer = home.trainer_pid(run)
    home.kill_daemon()
    os.kill(trainer, signal.SIGKILL)
    wait_for(lambda: None if is_attempt_alive(home.paths.run(run)) else True, "the trainer's end")
    home.start()
    assert home.wait_state(run, RunState.FINISHED).attempt == 2
    assert_store_is_the_journal(home, run)


def test_a_killed_trainer_is_started_again_from_its_last_checkpoint_with_its_cause_written_down(served: Home) -> None:
    run = served.submit(steps=40, step_s=0.03, save_every=5)
    served.wait_step(run, 12)
    os.kill(served.trainer_pid(run), signal.SIGKILL)
    served.wait_state(run, RunState.FINISHED)
    first, second = served.detail(run).attempts
    assert (first.signal, first.exit_code) == (9, None) and "SIGKILL" in first.cause
    assert second.cause == "finished"
    started = [stored.event for stored in of_kind(served.events(run), RunStarted)]
    assert isinstance(started[1], RunStarted)
    assert started[1].resumed_from is not None and started[1].resumed_from % 5 == 0
    assert served.row(run).step == 40
    assert_store_is_the_journal(served, run)


def test_a_trainer_that_is_told_to_end_saves_and_the_run_goes_on_from_there(served: Home) -> None:
    run = served.submit(steps=30, step_s=0.05, save_every=0)
    served.wait_step(run, 3)
    os.kill(served.trainer_pid(run), signal.SIGTERM)
    served.wait_state(run, RunState.FINISHED)
    first = served.detail(run).attempts[0]
    assert first.exit_code == 0 and "SIGTERM, with a checkpoint after step" in first.cause
    started = [stored.event for stored in of_kind(served.events(run), RunStarted)]
    (ended,) = [s.event for s in of_kind(served.events(run), RunEnded) if getattr(s.event, "outcome", "") != "finished"]
    assert isinstance(started[1], RunStarted) and isinstance(ended, RunEnded)
    assert started[1].resumed_from == ended.step >= 3
    assert_store_is_the_journal(served, run)


def test_a_machine_that_ends_everything_loses_no_step(home: Home) -> None:
    daemon = home.start()
    run = home.submit(steps=40, step_s=0.05, save_every=0)
    home.wait_step(run, 3)
    papers = read_started(home.paths.run(run))
    assert papers is not None
    daemon.terminate()
    for pid in (papers.shim_pid, papers.pid):
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: None if is_attempt_alive(home.paths.run(run)) else True, "the trainer's end")
    assert daemon.wait(10) == 0
    home.start()
    home.wait_state(run, RunState.FINISHED)
    steps = [getattr(stored.event, "step", 0) for stored in of_kind(home.events(run), StepDone)]
    assert steps == list(range(1, 41)), "no step is made twice: the checkpoint was of the last one"


def test_a_held_run_that_is_told_to_end_is_held_again_where_it_was(served: Home) -> None:
    run = served.submit(steps=400, step_s=0.02, save_every=0)
    served.wait_step(run, 2)
    served.client.wait_for_command(served.client.command(wire.PauseRun(run)).command, 10)
    step = served.row(run).step
    os.kill(served.trainer_pid(run), signal.SIGTERM)
    wait_for(lambda: True if served.row(run).attempt == 2 else None, "the second attempt")
    assert served.wait_state(run, RunState.PAUSED).step == step


def test_a_trainer_that_always_dies_is_given_up_with_its_reason(served: Home) -> None:
    run = served.submit(steps=10, die_at=1, save_every=0)
    row = served.wait_state(run, RunState.FAILED)
    assert "SIGKILL" in row.reason and "4 times without a new checkpoint" in row.reason
    assert len(served.detail(run).attempts) == 4
    served.client.command(wire.ResumeRun(run))
    assert served.wait_state(run, RunState.FAILED).attempt > 4, "a person may always try again"


def test_a_bug_is_not_tried_again_and_its_last_line_is_the_reason(served: Home) -> None:
    run = served.submit(raise_at=2)
    row = served.wait_state(run, RunState.FAILED)
    assert "ZeroDivisionError: a bug" in row.reason
    assert [attempt.exit_code for attempt in served.detail(run).attempts] == [1]
    assert "Traceback" in served.client.ask(wire.GetLog(run), wire.LogPage).text


def test_a_run_whose_folder_cannot_be_made_fails_with_its_reason_and_can_be_resumed(served: Home) -> None:
    served.paths.runs.write_text("in the way")
    run = served.submit(steps=2)
    assert str(served.paths.run(run)) in served.wait_state(run, RunState.FAILED).reason
    served.paths.runs.unlink()
    served.client.command(wire.ResumeRun(run))
    served.wait_state(run, RunState.FINISHED)


def test_a_run_that_broke_says_why_and_is_not_tried_again(served: Home) -> None:
    run = served.submit(break_at=2)
    row = served.wait_state(run, RunState.FAILED)
    assert row.reason == "the answers cannot be scored (try another task)"
    assert len(of_kind(served.events(run), AttemptEnded)) == 1


def test_a_paused_run_whose_trainer_dies_is_paused_again(served: Home) -> None:
    run = served.submit(steps=400, step_s=0.01, save_every=1)
    served.wait_step(run, 2)
    served.client.wait_for_command(served.client.command(wire.PauseRun(run)).command, 10)
    os.kill(served.trainer_pid(run), signal.SIGKILL)
    wait_for(lambda: True if served.row(run).attempt == 2 else None, "the second attempt")
    held = served.wait_state(run, RunState.PAUSED)
    served.client.wait_for_command(served.client.command(wire.ResumeRun(run)).command, 10)
    served.wait_step(run, held.step + 1)


def test_a_command_accepted_while_the_trainer_was_dead_is_applied_once_by_the_next_one(home: Home) -> None:
    home.start()
    run = home.submit(steps=400, step_s=0.02, save_every=1)
    home.wait_step(run, 2)
    trainer = home.trainer_pid(run)
    os.kill(trainer, signal.SIGSTOP)
    command = home.client.command(wire.SetKnob(run, "optim.lr", 0.125)).command
    os.kill(trainer, signal.SIGKILL)
    status = home.client.wait_for_command(command, 15)
    assert status.state is wire.CommandState.APPLIED
    os.kill(home.trainer_pid(run), signal.SIGKILL)
    wait_for(lambda: True if home.row(run).attempt == 3 else None, "the third attempt")
    step = home.wait_step(run, (status.step or 0) + 3).step
    curve = dict(home.client.ask(wire.GetMetrics(run, ["optim/lr"]), wire.Curves).curves["optim/lr"])
    assert all(value == 0.125 for at, value in curve.items() if (status.step or 0) < at <= step)
    applied = [s for s in home.events(run) if getattr(s.event, "command", "") == command]
    assert [type(stored.event).__name__ for stored in applied] == ["CommandAccepted", "CommandApplied"]


def test_a_trainer_whose_shim_was_killed_goes_on_and_its_run_still_ends_well(served: Home) -> None:
    run = served.submit(steps=30, step_s=0.03)
    served.wait_step(run, 2)
    papers = read_started(served.paths.run(run))
    assert papers is not None
    os.kill(papers.shim_pid, signal.SIGKILL)
    assert served.wait_state(run, RunState.FINISHED).attempt == 1


def test_trainers_live_on_when_the_daemon_is_told_to_end(home: Home) -> None:
    daemon = home.start()
    run = home.submit(steps=4000, step_s=0.02)
    home.wait_step(run, 1)
    home.client.ask(wire.ShutDown(), wire.Accepted)
    assert daemon.wait(10) == 0
    assert is_attempt_alive(home.paths.run(run))
    home.start()
    assert home.wait_state(run, RunState.RUNNING).attempt == 1


def test_runs_are_stopped_with_a_checkpoint_when_the_daemon_is_told_to_stop_them(home: Home) -> None:
    daemon = home.start()
    run = home.submit(steps=4000, step_s=0.02, save_every=0)
    waiting = home.submit("waiting")
    home.wait_step(run, 1)
    home.client.ask(wire.ShutDown(stop_runs=True), wire.Accepted)
    assert daemon.wait(10) == 0
    assert list(home.paths.checkpoints(run).glob("step-*"))
    home.start()
    assert home.row(run).state is RunState.STOPPED
    assert home.wait_state(waiting, RunState.FINISHED)


def test_a_broken_journal_costs_its_own_run_only(home: Home) -> None:
    home.start()
    run = home.submit("broken", steps=4000, step_s=0.02)
    home.wait_step(run, 1)
    trainer = home.trainer_pid(run)
    home.kill_daemon()
    os.kill(trainer, signal.SIGKILL)
    wait_for(lambda: None if is_attempt_alive(home.paths.run(run)) else True, "the trainer's end")
    home.paths.journal(run).write_bytes(b"this is no journal")
    home.start()
    other = home.submit("other")
    assert "not a ponder journal" in home.wait_state(run, RunState.FAILED).reason
    home.wait_state(other, RunState.FINISHED)
