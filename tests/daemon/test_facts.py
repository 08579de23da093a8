"""A run's state and the verdict over its trainer follow from facts alone."""

from __future__ import annotations

import pytest

from daemon.facts import Facts, judge, living_reason, living_state
from daemon.processes import Ended
from ponder.events import (
    CheckpointSaved,
    CommandApplied,
    RunBroke,
    RunEnded,
    RunPaused,
    RunResumed,
    RunStarted,
    RunState,
    StepDone,
    TrainerEvent,
)  # fmt: skip

STARTED = RunStarted(0, 10, "rl", "m", 1, "cpu", 1)
PAUSED: list[TrainerEvent] = [CommandApplied("p", 3, "pause"), RunPaused(3)]
RESUMED: list[TrainerEvent] = [CommandApplied("r", 3, "resume"), RunResumed(3)]


def facts_of(*events: TrainerEvent) -> Facts:
    facts = Facts()
    for event in events:
        facts.see(event)
    return facts


@pytest.mark.parametrize(
    ("events", "waiting", "state"),
    [
        ([], [], RunState.STARTING),
        ([], ["pause"], RunState.STARTING),
        ([], ["stop"], RunState.STOPPING),
        ([STARTED], [], RunState.RUNNING),
        ([STARTED], ["set", "save"], RunState.RUNNING),
        ([STARTED], ["pause"], RunState.PAUSING),
        ([STARTED, *PAUSED], [], RunState.PAUSED),
        ([STARTED, *PAUSED], ["resume"], RunState.PAUSED),
        ([STARTED, *PAUSED, *RESUMED], [], RunState.RUNNING),
        ([STARTED, *PAUSED], ["stop"], RunState.STOPPING),
        ([STARTED, PAUSED[0]], [], RunState.PAUSED),
        ([STARTED, *PAUSED, RESUMED[0]], [], RunState.RUNNING),
        ([STARTED, CommandApplied("s", 3, "stop")], [], RunState.STOPPING),
    ],
)
def test_the_state_of_a_living_run_follows_from_its_events_and_orders(
    events: list[TrainerEvent], waiting: list[str], state: RunState
) -> None:
    assert living_state(facts_of(*events), waiting, is_ending=False) is state


def test_a_pause_that_nobody_asked_for_keeps_its_reason_until_the_run_goes_on() -> None:
    held = facts_of(STARTED, *PAUSED, *RESUMED, RunPaused(4, "a bug"))
    assert living_state(held, [], is_ending=False) is RunState.PAUSED
    assert living_reason(held, RunState.PAUSED, "") == "a bug" and held.held_by == ""
    assert living_reason(facts_of(STARTED, RunPaused(4, "a bug"), RunResumed(4)), RunState.RUNNING, "") == ""


def test_seeing_events_again_changes_nothing() -> None:
    events: list[TrainerEvent] = [
        STARTED,
        StepDone(1, 1, {}),
        CheckpointSaved(1, "f", 1, ""),
        *PAUSED,
        *RESUMED,
        StepDone(2, 2, {}),
    ]
    assert facts_of(*events, *events) == facts_of(*events)


def ended(code: int | None = None, signal: int | None = None, *, is_out_of_memory: bool = False) -> Ended:
    return Ended(1, 1, code, signal, is_out_of_memory, 0, 0)


@pytest.mark.parametrize(
    ("events", "end", "state", "said"),
    [
        ([RunEnded(10, "finished")], ended(0), RunState.FINISHED, "finished"),
        ([RunEnded(10, "finished")], ended(signal=9), RunState.FINISHED, "finished"),
        ([RunEnded(4, "stopped")], ended(0), RunState.STOPPED, "stopped"),
        ([RunEnded(4, "released")], ended(0), RunState.PAUSED, "released"),
        ([RunEnded(4, "interrupted")], ended(0), RunState.RESTARTING, "SIGTERM, with a checkpoint after step 4"),
        ([RunBroke(4, "load", "no model", "get one")], ended(4), RunState.FAILED, "no model"),
        ([], ended(1), RunState.FAILED, "exit code 1: last words"),
        ([], ended(0), RunState.FAILED, "exit code 0"),
        ([], ended(signal=9), RunState.RESTARTING, "signal 9 (SIGKILL)"),
        ([], ended(signal=40), RunState.RESTARTING, "signal 40"),
        ([], ended(signal=9, is_out_of_memory=True), RunState.RESTARTING, "out of memory"),
        ([], None, RunState.RESTARTING, "without a trace"),
    ],
)
def test_the_verdict_over_a_dead_trainer_names_the_cause(
    events: list[TrainerEvent], end: Ended | None, state: RunState, said: str
) -> None:
    facts = facts_of(STARTED, *events)
    verdict = judge(facts, end, is_stop_wanted=False, is_same_boot=True, last_line="last words")
    assert verdict.state is state
    assert said in verdict.cause
    if state in (RunState.RESTARTING, RunState.FAILED) and not events:
        wanted = judge(facts, end, is_stop_wanted=True, is_same_boot=True, last_line="")
        assert wanted.state is RunState.STOPPED


@pytest.mark.parametrize("outcome", ["released", "interrupted"])
def test_a_run_that_is_wanted_stopped_is_stopped_however_its_trainer_ended(outcome: str) -> None:
    verdict = judge(
        facts_of(STARTED, RunEnded(4, outcome)), ended(0), is_stop_wanted=True, is_same_boot=True, last_line=""
    )
    assert verdict.state is RunState.STOPPED


def test_a_reboot_is_no_fault_of_the_run() -> None:
    verdict = judge(facts_of(STARTED), None, is_stop_wanted=False, is_same_boot=False, last_line="")
    assert (verdict.state, verdict.cause) == (RunState.RESTARTING, "the machine was restarted")
