"""What happens to a run under the daemon, from the queue to the end, with commands on the way."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterator

import pytest

from daemon.processes import is_attempt_alive, start_ticks
from daemon.supervisor import GRACE_S
from ponder import wire
from ponder.errors import KnobError, NotFound, PonderError, Refused, UsageError
from ponder.events import RunEnded, RunStarted, RunState, StateChanged, StepDone, StoredEvent
from tests.daemon.conftest import Home, recipe_text, wait_for


def steps_of(events: list[StoredEvent]) -> list[int]:
    return [stored.event.step for stored in events if isinstance(stored.event, StepDone)]


def states_of(events: list[StoredEvent]) -> list[RunState]:
    return [stored.event.new for stored in events if isinstance(stored.event, StateChanged)]


def test_a_run_goes_through_its_states_and_ends_finished(served: Home) -> None:
    run = served.submit(steps=4)
    row = served.wait_state(run, RunState.FINISHED)
    events = served.events(run)
    assert (row.step, row.attempt) == (4, 1)
    assert steps_of(events) == [1, 2, 3, 4]
    order = [state for state, _ in itertools.groupby(states_of(events))]
    assert order[:2] == [RunState.QUEUED, RunState.STARTING] and order[-1] is RunState.FINISHED
    (attempt,) = served.detail(run).attempts
    assert (attempt.exit_code, attempt.signal, attempt.cause) == (0, None, "finished")


def test_runs_wait_for_each_other_in_the_order_they_came(served: Home) -> None:
    first, second = served.submit("one", steps=400, step_s=0.02), served.submit("two", steps=2)
    third = served.submit("three", steps=2)
    served.wait_state(first, RunState.RUNNING)
    assert [served.row(run).queue_place for run in (first, second, third)] == [None, 1, 2]
    status = served.client.ask(wire.GetStatus(), wire.Status)
    assert [row.name for row in status.runs] == [first, second, third]
    served.client.command(wire.StopRun(first))
    served.wait_state(third, RunState.FINISHED)
    assert served.row(second).ended_us is not None
    assert (served.row(second).ended_us or 0) <= (served.row(third).started_us or 0)


def test_a_pause_holds_at_a_step_and_a_resume_goes_on(served: Home) -> None:
    run = served.submit(steps=4000, step_s=0.01)
    waiting = served.submit("waiting", steps=1)
    served.wait_step(run, 2)
    status = served.client.wait_for_command(served.client.command(wire.PauseRun(run)).command, 10)
    assert status.state is wire.CommandState.APPLIED and status.step is not None
    held = served.wait_state(run, RunState.PAUSED)
    assert held.step == status.step
    assert served.row(waiting).state is RunState.QUEUED, "a paused run keeps its place"
    with pytest.raises(Refused, match="already paused"):
        served.client.command(wire.PauseRun(run))
    served.client.wait_for_command(served.client.command(wire.ResumeRun(run)).command, 10)
    assert served.wait_step(run, held.step + 1).state is RunState.RUNNING


def test_a_knob_is_accepted_then_applied_at_a_step(served: Home) -> None:
    run = served.submit(steps=4000, step_s=0.01)
    served.wait_step(run, 1)
    accepted = served.client.command(wire.SetKnob(run, "optim.lr", 0.5, by="ann"))
    status = served.client.wait_for_command(accepted.command, 10)
    assert (status.state, status.new) == (wire.CommandState.APPLIED, 0.5)
    assert status.step is not None
    served.wait_step(run, status.step + 1)
    curve = served.client.ask(wire.GetMetrics(run, ["optim/lr"]), wire.Curves).curves["optim/lr"]
    assert dict(curve)[status.step] != 0.5 and dict(curve)[status.step + 1] == 0.5


def test_what_cannot_be_done_is_refused_with_its_reason(served: Home) -> None:
    run = served.submit(steps=4000, step_s=0.01)
    served.wait_state(run, RunState.RUNNING)
    refused: list[tuple[wire.Request, type[PonderError], str]] = [
        (wire.SetKnob("", "optim.lr", 7.0), KnobError, "cannot be `7.0`"),
        (wire.SetKnob("", "optim.lrr", 1.0), KnobError, "no knob"),
        (wire.ResumeRun(""), Refused, "is not paused"),
        (wire.PauseRun("nobody"), NotFound, "no run"),
        (wire.SubmitRun("[run"), UsageError, "TOML"),
    ]
    for request, error, said in refused:
        with pytest.raises(error, match=said):
            served.client.command(request)


def test_a_queued_run_is_paused_resumed_and_stopped_without_a_trainer(served: Home) -> None:
    first = served.submit("one", steps=4000, step_s=0.02)
    run = served.submit("two")
    for request, state in (
        (wire.PauseRun(run), RunState.PAUSED),
        (wire.ResumeRun(run), RunState.QUEUED),
        (wire.StopRun(run), RunState.STOPPED),
    ):
        status = served.client.wait_for_command(served.client.command(request).command, 5)
        assert status.state is wire.CommandState.APPLIED
        assert served.row(run).state is state
    assert served.detail(run).attempts == []
    with pytest.raises(Refused, match="is over"):
        served.client.command(wire.PauseRun(run))
    assert served.row(first).state in (RunState.STARTING, RunState.RUNNING)


def test_a_stopped_run_is_resumed_from_its_checkpoint(served: Home) -> None:
    run = served.submit(steps=4000, step_s=0.01)
    served.wait_step(run, 3)
    served.client.command(wire.StopRun(run))
    stopped = served.wait_state(run, RunState.STOPPED)
    accepted = served.client.command(wire.ResumeRun(run))
    assert served.client.wait_for_command(accepted.command, 5).state is wire.CommandState.APPLIED
    later = served.wait_step(run, stopped.step + 2)
    assert later.attempt == 2
    steps = steps_of(served.events(run))
    assert steps == sorted(set(steps)), "it went on after the checkpoint that the stop had saved"
    with pytest.raises(Refused):
        served.client.command(wire.ResumeRun(run))


def test_a_kill_ends_the_process_at_once(served: Home) -> None:
    run = served.submit(steps=10, step_s=30)
    served.wait_state(run, RunState.RUNNING)
    began_s = time.monotonic()
    accepted = served.client.command(wire.StopRun(run, kill=True))
    row = served.wait_state(run, RunState.STOPPED)
    assert time.monotonic() - began_s < GRACE_S
    assert "at once" in row.reason
    assert served.client.wait_for_command(accepted.command, 5).state is wire.CommandState.APPLIED
    assert served.detail(run).attempts[0].signal == signal.SIGKILL


@pytest.mark.parametrize(("step_s", "killed_by", "saved"), [(30, signal.SIGKILL, []), (1.0, None, ["step-000001"])])
def test_a_stop_that_may_not_wait_saves_when_its_step_ends_soon_and_is_killed_when_not(
    served: Home, step_s: float, killed_by: int | None, saved: list[str]
) -> None:
    run = served.submit(steps=10, step_s=step_s, save_every=0)
    served.wait_state(run, RunState.RUNNING)
    served.client.command(wire.StopRun(run, now=True))
    served.wait_state(run, RunState.STOPPED)
    assert served.detail(run).attempts[0].signal == killed_by
    assert sorted(path.name for path in served.paths.checkpoints(run).glob("step-*")) == saved


def release(home: Home, run: str) -> wire.CommandStatus:
    """Release a run and return when the command is answered."""
    return home.client.wait_for_command(home.client.command(wire.PauseRun(run, release=True)).command, 10)


def test_a_released_run_is_paused_without_a_process_and_gives_its_place_to_the_next(served: Home) -> None:
    run = served.submit(steps=4000, step_s=0.02, save_every=0)
    waiting = served.submit("waiting", steps=3)
    served.wait_step(run, 2)
    trainer = served.trainer_pid(run)
    status = release(served, run)
    row = served.row(run)
    assert status.state is wire.CommandState.APPLIED
    assert (row.state, row.reason, status.step) == (RunState.PAUSED, "released", row.step)
    assert start_ticks(trainer) is None, "paused is said when the process is gone, not before"
    assert served.paths.checkpoint(run, row.step).exists()
    served.wait_state(waiting, RunState.FINISHED)
    states = [s.event.new for s in served.events(run) if isinstance(s.event, StateChanged)]
    assert states[-2:] == [RunState.PAUSING, RunState.PAUSED]


def test_a_released_run_stays_paused_under_a_new_daemon_and_goes_on_from_its_checkpoint(home: Home) -> None:
    home.start()
    run = home.submit(steps=12, step_s=0.02, save_every=0)
    home.wait_step(run, 2)
    release(home, run)
    step = home.row(run).step
    home.kill_daemon()
    home.start()
    assert (home.row(run).state, home.row(run).reason) == (RunState.PAUSED, "released")
    home.client.command(wire.ResumeRun(run))
    assert home.wait_state(run, RunState.FINISHED).attempt == 2
    (second,) = [s.event for s in home.events(run) if isinstance(s.event, RunStarted) and s.event.resumed_from]
    assert second.resumed_from == step


def test_a_run_that_was_released_while_no_daemon_lived_is_paused_by_the_next(home: Home) -> None:
    home.start()
    run = home.submit(steps=4000, step_s=0.5, save_every=0)
    home.wait_state(run, RunState.RUNNING)
    command = home.client.command(wire.PauseRun(run, release=True)).command
    wait_for(lambda: True if home.row(run).state is RunState.PAUSING else None, "the order's way to the trainer")
    home.kill_daemon()
    wait_for(lambda: None if is_attempt_alive(home.paths.run(run)) else True, "the trainer's end")
    home.start()
    assert home.wait_state(run, RunState.PAUSED).reason == "released"
    assert home.client.wait_for_command(command, 5).state is wire.CommandState.APPLIED


def test_a_held_run_can_be_released_and_is_not_held_when_it_goes_on(served: Home) -> None:
    run = served.submit(steps=30, step_s=0.02, save_every=0)
    served.wait_step(run, 1)
    served.client.wait_for_command(served.client.command(wire.PauseRun(run)).command, 10)
    with pytest.raises(Refused, match="already paused"):
        served.client.command(wire.PauseRun(run))
    release(served, run)
    assert served.row(run).reason == "released"
    with pytest.raises(Refused, match="already paused"):
        served.client.command(wire.PauseRun(run, release=True))
    served.client.command(wire.ResumeRun(run))
    assert served.wait_state(run, RunState.FINISHED).attempt == 2


def test_a_run_that_is_resumed_before_it_is_released_goes_on(served: Home) -> None:
    run = served.submit(steps=6, step_s=0.4, save_every=0)
    served.wait_state(run, RunState.RUNNING)
    pause = served.client.command(wire.PauseRun(run, release=True)).command
    resume = served.client.command(wire.ResumeRun(run)).command
    assert served.client.wait_for_command(resume, 10).state is wire.CommandState.APPLIED
    assert served.client.wait_for_command(pause, 10).state is not wire.CommandState.ACCEPTED
    assert served.wait_state(run, RunState.FINISHED).step == 6


def test_a_released_run_can_be_stopped(served: Home) -> None:
    run = served.submit(steps=4000, step_s=0.02)
    served.wait_step(run, 1)
    release(served, run)
    served.client.command(wire.StopRun(run))
    assert served.wait_state(run, RunState.STOPPED).reason == "stopped while paused"


def test_a_command_that_comes_too_late_is_refused_when_the_run_ends(served: Home) -> None:
    run = served.submit(steps=1, step_s=0.5)
    served.wait_state(run, RunState.RUNNING)
    command = served.client.command(wire.SetKnob(run, "optim.lr", 0.5)).command
    status = served.client.wait_for_command(command, 10)
    served.wait_state(run, RunState.FINISHED)
    assert status.state in (wire.CommandState.APPLIED, wire.CommandState.REFUSED)
    late = served.submit(steps=2, step_s=20)
    served.wait_state(late, RunState.RUNNING)
    command = served.client.command(wire.SetKnob(late, "optim.lr", 0.5)).command
    served.client.command(wire.StopRun(late, kill=True))
    assert served.client.wait_for_command(command, 10).state is wire.CommandState.REFUSED


def test_followers_get_every_event_once_and_in_order(served: Home) -> None:
    run = served.submit(steps=60, step_s=0.0)

    def until_over(events: Iterator[StoredEvent]) -> Iterator[StoredEvent]:
        for stored in events:
            yield stored
            if isinstance(stored.event, StateChanged) and stored.event.new.is_over:
                return

    followed = list(until_over(served.client.follow(run, 0)))
    assert steps_of(followed) == list(range(1, 61))
    assert [stored.id for stored in followed] == sorted({stored.id for stored in followed})
    assert any(isinstance(stored.event, RunEnded) for stored in followed)
    half = followed[len(followed) // 2].id
    assert list(until_over(served.client.follow(run, half))) == [stored for stored in followed if stored.id > half]


def test_previews_pass_by_live(served: Home) -> None:
    run = served.submit(steps=4000, step_s=0.02)
    for live in served.client.live(run):
        assert live.run == run
        break


def test_a_resend_of_the_same_ask_does_nothing_twice(served: Home) -> None:
    run = served.submit(steps=4000, step_s=0.01)
    served.wait_state(run, RunState.RUNNING)
    for request in (wire.SubmitRun(recipe_text("again")), wire.PauseRun(run), wire.SetKnob(run, "optim.lr", 0.25)):
        ask = wire.Ask(wire.new_id(), wire.PROTOCOL, request)
        answers = [served.client._ask(ask, wire.Accepted) for _ in range(3)]
        assert {answer.run for answer in answers} == {answers[0].run}
    assert len(served.client.ask(wire.ListRuns(), wire.Runs).runs) == 2
    served.wait_state(run, RunState.PAUSED)

    def kinds() -> list[str] | None:
        told = [type(stored.event).__name__ for stored in served.events(run)]
        return told if "RunPaused" in told else None

    told = wait_for(kinds, "the pause to be stored")
    assert told.count("CommandAccepted") == 2 and told.count("RunPaused") == 1
    with pytest.raises(Refused, match="already means another command"):
        served.client._ask(wire.Ask(ask.id, wire.PROTOCOL, wire.StopRun(run)), wire.Accepted)


def test_a_run_that_pauses_itself_says_why_until_it_is_resumed(served: Home) -> None:
    run = served.submit(steps=4, hold_at=2)
    why = "the reward `mine` failed on every answer"
    wait_for(lambda: True if served.row(run).reason == why else None, "the reason of the pause")
    assert served.wait_state(run, RunState.PAUSED).step == 2
    served.kill_daemon()
    served.start()
    assert served.wait_state(run, RunState.PAUSED).reason == why
    served.client.command(wire.ResumeRun(run))
    assert served.wait_state(run, RunState.FINISHED).reason == ""


def test_only_a_prompt_that_was_asked_is_put_into_quarantine_and_the_trainer_is_told(served: Home) -> None:
    run = served.submit(steps=400, step_s=0.02)
    served.wait_step(run, 2)
    with pytest.raises(NotFound, match="never asked"):
        served.client.command(wire.QuarantinePrompt(run, "what nobody asked"))
    prompt = served.client.ask(wire.GetGroups(run, limit=1), wire.Groups).groups[0].prompt_id
    command = served.client.command(wire.QuarantinePrompt(run, prompt)).command
    status = served.client.wait_for_command(command, 20)
    assert status.verb == "quarantine"
    assert status.state in (wire.CommandState.APPLIED, wire.CommandState.REFUSED)
    assert status.new == prompt
    lift = served.client.command(wire.LiftQuarantine(run, prompt)).command
    assert served.client.wait_for_command(lift, 20).verb == "lift"
    served.client.command(wire.StopRun(run, kill=True))


def test_a_group_is_explained_with_the_knobs_and_weights_of_its_step(served: Home) -> None:
    run = served.submit(steps=3)
    served.wait_state(run, RunState.FINISHED)
    (group,) = served.client.ask(wire.GetGroups(run, limit=1), wire.Groups).groups
    told = served.client.ask(wire.GetExplanation(group.id), wire.Explanation)
    assert told.run == run and len(told.answers) == len(group.rewards)
    assert told.knobs["policy.clip_low"] == 0.2
    assert told.weights["correct"] == 1.0 and "preference" in told.weights and "combine" not in told.weights
