"""What a person learns of a trainer that lives: where it is stuck, since when it is silent, and its stack on demand."""

from __future__ import annotations

import os
import signal
import time

import pytest

from daemon.processes import is_halted, start_ticks
from daemon.pulse import LEAST_S, SILENT_S, UNKNOWN_S, Pulse
from ponder import wire
from ponder.errors import Refused
from ponder.events import HELD, WAIT_FOR_DISK, RunState
from tests.daemon.conftest import Home, wait_for

HOUR_S = 3600.0


def pulse_of(*beats: tuple[float, int, str]) -> Pulse:
    """A pulse that heard beats, each a second, of (when it came to it, step, phase)."""
    pulse = Pulse()
    pulse.begin(beats[0][0])
    for number, (when, step, phase) in enumerate(beats):
        pulse.hear(wire.Beat("run", 1, step, phase, number), when)
    return pulse


def beat_on(pulse: Pulse, until: float, step: int, phase: str, number: int) -> str:
    pulse.hear(wire.Beat("run", 1, step, phase, number), until)
    return pulse.trouble(until)


@pytest.mark.parametrize(("longest_s", "bound_s"), [(0.1, LEAST_S), (5.9, LEAST_S), (30.0, 300.0), (600.0, 6000.0)])
def test_a_phase_is_stuck_when_it_lasts_far_longer_than_ever_before(longest_s: float, bound_s: float) -> None:
    pulse = pulse_of((0.0, 1, "sample"), (longest_s, 1, "learn"), (longest_s + 1, 2, "sample"))
    began = longest_s + 1
    assert beat_on(pulse, began + bound_s - 1, 2, "sample", 2) == ""
    assert beat_on(pulse, began + bound_s + 1, 2, "sample", 2).startswith("stuck in `sample` for ")
    assert beat_on(pulse, began + bound_s + 2, 2, "learn", 3) == "", "it went on"


def test_a_phase_that_was_never_seen_to_end_gets_a_quarter_of_an_hour() -> None:
    pulse = pulse_of((0.0, 0, "load"))
    assert beat_on(pulse, UNKNOWN_S, 0, "load", 0) == ""
    assert beat_on(pulse, UNKNOWN_S + 1, 0, "load", 0) == "stuck in `load` for 15 min 1 s"


def test_a_stage_that_stays_in_one_phase_is_not_stuck_while_its_steps_go_on() -> None:
    pulse = pulse_of(*((float(second), second, "learn") for second in range(2000)))
    assert pulse.trouble(2000.0) == ""


@pytest.mark.parametrize("phase", [HELD, WAIT_FOR_DISK])
def test_what_waits_for_a_person_is_never_stuck(phase: str) -> None:
    pulse = pulse_of((0.0, 3, phase), (1.0, 3, "learn"), (2.0, 4, phase))
    assert beat_on(pulse, 9 * HOUR_S, 4, phase, 2) == ""


def test_a_trainer_that_says_nothing_is_silent_from_its_start_on() -> None:
    pulse = Pulse()
    pulse.begin(100.0)
    assert pulse.trouble(100.0 + SILENT_S) == ""
    assert pulse.trouble(101.0 + SILENT_S) == "silent for 1 min 1 s"
    pulse.begin(500.0)
    assert pulse.trouble(501.0) == "", "a new attempt"


def test_a_stack_shows_where_the_trainer_is_and_ends_nothing(served: Home) -> None:
    run = served.submit(steps=3, step_s=2.0)
    served.wait_state(run, RunState.RUNNING)
    pid = served.trainer_pid(run)

    def stack() -> wire.Stack | None:
        found = served.client.ask(wire.GetStack(run), wire.Stack)
        return found if "in train" in found.text else None

    found = wait_for(stack, "the trainer to be in its step")
    assert (found.run, found.pid) == (run, pid)
    assert 'fake_trainer.py", line' in found.text and "relay.py" in found.text, "every thread"
    again = served.client.ask(wire.GetStack(run), wire.Stack)
    assert again.text.count("Current thread") == 1, "each answer is one dump"
    assert served.wait_state(run, RunState.FINISHED).attempt == 1


def test_a_trainer_that_hangs_with_the_interpreter_shows_its_stack_too(served: Home) -> None:
    run = served.submit(steps=3, step_s=0.2, hang_at=2)
    served.wait_step(run, 1)
    found = wait_for(
        lambda: hit if "hang" in (hit := served.client.ask(wire.GetStack(run), wire.Stack)).text else None,
        "the trainer to hang",
    )
    assert "in hang" in found.text
    served.client.command(wire.StopRun(run, kill=True))
    served.wait_state(run, RunState.STOPPED)


def test_there_is_no_stack_without_a_trainer_that_can_answer(served: Home) -> None:
    run = served.submit(steps=400, step_s=0.05)
    served.wait_step(run, 1)
    pid = served.trainer_pid(run)
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: is_halted(pid) or None, "the trainer to halt")  # it is told when it next gets a processor
    began_s = time.monotonic()
    with pytest.raises(Refused, match="stopped by a signal"):
        served.client.ask(wire.GetStack(run), wire.Stack)
    assert time.monotonic() - began_s < 10
    os.kill(pid, signal.SIGCONT)
    served.client.command(wire.StopRun(run))
    served.wait_state(run, RunState.STOPPED)
    wait_for(lambda: True if start_ticks(pid) is None else None, "the trainer's end")
    with pytest.raises(Refused, match="no trainer that lives"):
        served.client.ask(wire.GetStack(run), wire.Stack)
