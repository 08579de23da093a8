"""What is true of a run, derived: from what its trainer journaled, which commands wait, and how its process ended.

    events of the attempt ──► Facts ──┬─ while it lives: living_state
    orders that wait ─────────────────┤
    exit.json, the lock ──────────────┴─ when it is gone: judge ──► finished | stopped | paused | failed | restarting

Nothing here does anything: no process, no store, no clock. A trainer's own word counts only where it is journaled, and
a new daemon that reads the same journal comes to the same answer. Deliberately left out: acting on it
(`daemon.supervisor`).
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass

from daemon.processes import Ended
from ponder.errors import RankLost
from ponder.events import (
    CheckpointSaved,
    CommandApplied,
    Ending,
    Evaluated,
    FeedEvent,
    RunBroke,
    RunEnded,
    RunPaused,
    RunResumed,
    RunStarted,
    RunState,
    StepDone,
    TrainerEvent,
)  # fmt: skip

RELEASED = "released"
"""Why a run is paused whose trainer is gone: it gave its memory back."""


@dataclass
class Facts:
    """What the events of one attempt say, taken one by one; an event that is seen twice changes nothing."""

    is_ready: bool = False
    is_held: bool = False
    held_by: str = ""
    """The pause command under which it holds, or held last."""
    held_because: str = ""
    """Why it holds, where it was not a person who asked."""
    is_stopping: bool = False
    ended: RunEnded | None = None
    broke: RunBroke | None = None
    step: int = 0
    checkpoint: int | None = None
    """The step of the newest checkpoint of this attempt."""

    def see(self, event: TrainerEvent | FeedEvent) -> None:
        """Take one event of the attempt, in order."""
        match event:
            case RunStarted(step=step):
                self.is_ready, self.step = True, step
            case StepDone(step=step) | Evaluated(step=step):
                self.step = max(self.step, step)
            case CheckpointSaved(step=step):
                self.checkpoint = step
            case CommandApplied(verb="pause", command=command):
                self.is_held, self.held_by = True, command
            case CommandApplied(verb="resume"):
                self.is_held, self.held_because = False, ""
            case CommandApplied(verb="stop"):
                self.is_stopping = True
            case RunPaused(reason=reason):
                self.is_held, self.held_because = True, reason
                self.held_by = "" if reason else self.held_by
            case RunResumed():
                self.is_held, self.held_because = False, ""
            case RunEnded():
                self.ended = event
            case RunBroke():
                self.broke = event
            case _:
                pass


def living_reason(facts: Facts, state: RunState, before: str) -> str:
    """What is said beside the state of a run whose trainer lives; `before` is what was said while it was the same."""
    return facts.held_because if state is RunState.PAUSED and facts.held_because else before


def living_state(facts: Facts, waiting: Iterable[str], is_ending: bool) -> RunState:
    """The state of a run whose trainer lives; `waiting` are the verbs of its unanswered orders."""
    verbs = set(waiting)
    if is_ending or facts.is_stopping or "stop" in verbs:
        return RunState.STOPPING
    if not facts.is_ready:
        return RunState.STARTING
    if facts.is_held:
        return RunState.PAUSED
    if "pause" in verbs:
        return RunState.PAUSING
    return RunState.RUNNING


@dataclass(frozen=True)
class Verdict:
    """Why a trainer is gone, and what that makes of its run."""

    cause: str
    state: RunState
    """FINISHED, STOPPED, PAUSED, FAILED, or RESTARTING: to be tried again from the newest checkpoint."""
    reason: str


def judge(facts: Facts, ended: Ended | None, *, is_stop_wanted: bool, is_same_boot: bool, last_line: str) -> Verdict:
    """The verdict over an attempt whose process is gone and whose journal is read to its end.

    A death from outside (a signal, want of memory, a reboot) is tried again; what the trainer itself says cannot go on,
    and a bug's traceback, are not: the same again would end the same.
    """
    if facts.ended is not None:
        return _verdict_of_end(facts.ended, is_stop_wanted)
    if facts.broke is not None:
        reason = facts.broke.message + (f" ({facts.broke.hint})" if facts.broke.hint else "")
        return Verdict(f"broke in `{facts.broke.phase}`: {facts.broke.message}", RunState.FAILED, reason)
    cause = _cause_of_death(ended, is_same_boot, last_line)
    if is_stop_wanted:
        return Verdict(cause, RunState.STOPPED, "stopped at once; its last checkpoint stays")
    is_error = ended is not None and ended.exit_code not in (None, RankLost.exit_code)
    return Verdict(cause, RunState.FAILED if is_error else RunState.RESTARTING, cause)


def _verdict_of_end(ended: RunEnded, is_stop_wanted: bool) -> Verdict:
    match ended.outcome:
        case Ending.FINISHED:
            return Verdict(ended.outcome, RunState.FINISHED, ended.message)
        case Ending.RELEASED if not is_stop_wanted:
            return Verdict(ended.outcome, RunState.PAUSED, RELEASED)
        case Ending.INTERRUPTED if not is_stop_wanted:
            cause = f"interrupted by SIGTERM, with a checkpoint after step {ended.step}"
            return Verdict(cause, RunState.RESTARTING, cause)
        case _:
            return Verdict(ended.outcome, RunState.STOPPED, ended.message)


def _cause_of_death(ended: Ended | None, is_same_boot: bool, last_line: str) -> str:
    if not is_same_boot:
        return "the machine was restarted"
    if ended is None:
        return "gone without a trace: its shim was killed too"
    if ended.exit_code == RankLost.exit_code and last_line:
        return last_line + (": out of memory" if ended.is_out_of_memory else "")
    if ended.is_out_of_memory:
        return "out of memory: killed by the kernel"
    if ended.signal is not None:
        names = {known.value: f" ({known.name})" for known in signal.Signals}  # real-time signals have no name
        return f"killed by signal {ended.signal}{names.get(ended.signal, '')}"
    said = f": {last_line}" if last_line else ""
    return f"ended with exit code {ended.exit_code}{said}"
