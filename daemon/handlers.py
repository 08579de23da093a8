"""One function an acting request: does the run exist, does the value fit, may it change now, does the state allow it?

    Handlers.act    in the daemon's one thread: checked, committed (accepted), handed to the supervisor

A request that was accepted before is answered as it was then, whatever has become of it since: a resend is harmless.
What was said then is remembered of the newest few, and is lost with the daemon.
What needs no trainer, such as stopping a queued run, is done here at once and is applied as soon as it is accepted.
Deliberately left out: requests that only read (`daemon.desk`), and sockets.
"""

from __future__ import annotations

import contextlib
import getpass
import shutil
from collections.abc import Callable
from pathlib import Path

from daemon.facts import RELEASED
from daemon.fork import plan_fork, share_past
from daemon.judges import Judges
from daemon.run import Run
from daemon.saved import NOT_HERE, choose_step
from daemon.supervisor import Supervisor
from daemon.turn_book import TurnBook
from daemon.watched import part_of, refuse_elsewhere, refuse_unhonoured, refuse_urgent
from ponder import wire
from ponder.checkpoints import is_pinned, pin_of, set_pin
from ponder.errors import NotFound, Refused, StoreError
from ponder.events import LIFT_VERB, QUARANTINE_VERB, RELEASE_VERB, REWARD_MODEL_VERB, RunState
from ponder.knobs import KnobValue, check_value, find_knob
from ponder.paths import Paths, explain_file_error, saved_steps
from store.reader import Reader
from store.writer import RUN_VERB, Writer

REMEMBERED = 256
"""So many of the newest answers."""
FULL_DISK_BYTES = 128 << 20
"""With less than this left no run is taken."""

Acting = (
    wire.SubmitRun | wire.ForkRun | wire.SetKnob | wire.PauseRun | wire.ResumeRun | wire.StopRun | wire.SaveRun
    | wire.PinCheckpoint | wire.UnpinCheckpoint | wire.QuarantinePrompt | wire.LiftQuarantine | wire.Annotate
    | wire.RankAnswers | wire.UndoRanking | wire.ReleaseBrake | wire.TellRewardModel | wire.ImportRankings
    | wire.TellMeasured | wire.LabelTurn | wire.ShutDown
)  # fmt: skip

VERBS: dict[type[Acting], str] = {
    wire.SubmitRun: RUN_VERB,
    wire.ForkRun: RUN_VERB,
    wire.SetKnob: "set",
    wire.PauseRun: "pause",
    wire.ResumeRun: "resume",
    wire.StopRun: "stop",
    wire.SaveRun: "save",
    wire.PinCheckpoint: "pin",
    wire.UnpinCheckpoint: "unpin",
    wire.QuarantinePrompt: QUARANTINE_VERB,
    wire.LiftQuarantine: LIFT_VERB,
    wire.ReleaseBrake: RELEASE_VERB,
    wire.TellRewardModel: REWARD_MODEL_VERB,
}


class Handlers:
    """Acts on what it is asked, with the daemon's own writer and supervisor."""

    def __init__(
        self, paths: Paths, writer: Writer, reader: Reader, supervisor: Supervisor, note_change: Callable[[], None]
    ) -> None:
        self._paths, self._writer, self._reader, self._supervisor = paths, writer, reader, supervisor
        self._note_change = note_change
        self._judges = Judges(paths, writer, reader, supervisor, self.act)
        self._turn_book = TurnBook(paths, reader)
        self._answered: dict[str, wire.Accepted] = {}
        """The newest answers by the id of what was asked, oldest first."""
        self.is_news = False
        """Something was done that the supervisor should look at without waiting for its turn."""
        self.is_closing = False
        """The daemon ends as soon as no trainer lives."""
        self.wants_end = False
        """The daemon ends now; trainers live on."""

    def act(self, ask: wire.Ask) -> wire.Accepted:
        """Do, or accept, what is asked; raises the PonderError that says why not."""
        request = ask.request
        accepted = None if isinstance(request, wire.ShutDown) else self._accepted_before(ask)
        if accepted is not None:
            return self._answered.get(ask.id, accepted)
        accepted = self._answered[ask.id] = self._accept(ask)
        while len(self._answered) > REMEMBERED:
            del self._answered[next(iter(self._answered))]
        return accepted

    def _accept(self, ask: wire.Ask) -> wire.Accepted:
        """What was not accepted before."""
        self.is_news = True
        try:
            match request := ask.request:
                case wire.ShutDown():
                    return self._shut_down(ask.id, request)
                case wire.SubmitRun():
                    return self._submit(ask.id, request)
                case wire.ForkRun():
                    return self._fork(ask.id, request)
                case wire.SetKnob():
                    return self._set(ask.id, request)
                case wire.PauseRun():
                    return self._pause(ask.id, request)
                case wire.ResumeRun():
                    return self._resume(ask.id, request)
                case wire.StopRun():
                    return self._stop(ask.id, request)
                case wire.SaveRun():
                    return self._save(ask.id, request)
                case wire.PinCheckpoint() | wire.UnpinCheckpoint():
                    return self._pin(ask.id, request)
                case wire.QuarantinePrompt() | wire.LiftQuarantine():
                    return self._quarantine(ask.id, request)
                case wire.Annotate():
                    return self._annotate(ask.id, request)
                case wire.RankAnswers():
                    return self._judges.rank(ask.id, request, _who(request.by))
                case wire.UndoRanking():
                    return self._judges.undo(ask.id, request, _who(request.by))
                case wire.LabelTurn():
                    return self._turn_book.keep(ask.id, request, _who(request.by))
                case wire.ReleaseBrake():
                    return self._judges.release(ask.id, request, _who(request.by))
                case wire.ImportRankings():
                    return self._judges.import_(ask.id, request, _who(request.by))
                case wire.TellRewardModel():
                    return self._judges.tell(ask.id, request, _who(request.by))
                case wire.TellMeasured():
                    return self._keep_measured(ask.id, request)
                case _:
                    raise Refused("bad_request", "this request only reads")
        finally:
            self._note_change()

    def _accepted_before(self, ask: wire.Ask) -> wire.Accepted | None:
        try:
            status = self._reader.command(ask.id)
        except NotFound:
            return None
        if status.verb != VERBS.get(type(ask.request)):  # type: ignore[arg-type]  # reading requests have no verb
            raise Refused("conflict", "this id already means another command", "ask again with a new id")
        return wire.Accepted(ask.id, status.run)

    # ---- one function a request

    def _submit(self, command: str, request: wire.SubmitRun) -> wire.Accepted:
        self._refuse_full_disk()
        if part_of(request.recipe) is not None:
            raise Refused("elsewhere", "a recipe with `[watched]` is of a run that trains elsewhere", "leave it out")
        name = self._writer.submit_run(command, request.recipe, request.source, _who(request.by), self._has_folder)
        self._supervisor.add(name)
        return wire.Accepted(command, name)

    def _fork(self, command: str, request: wire.ForkRun) -> wire.Accepted:
        """The past lies in the new run's folder before anybody can know of the run, and start it."""
        self._refuse_full_disk()
        parent = self._reader.run(request.run)
        refuse_elsewhere(parent.row.name, part_of(parent.recipe), NOT_HERE)
        fork = plan_fork(parent, self._reader.knobs(parent.row.name).changes, request, self._paths)
        source, name = str(self._paths.run_recipe(parent.row.name)), ""
        try:
            with self._writer.together():
                name = self._writer.submit_run(command, fork.recipe, source, _who(request.by), self._has_folder)
                self._writer.begin_changed(name, _who(request.by), fork.changes)
                share_past(self._paths.run(parent.row.name), fork.step, self._paths.run(name))
        except BaseException:
            if name:  # which nobody knows of now
                shutil.rmtree(self._paths.run(name), ignore_errors=True)
            raise
        self._supervisor.add(name)
        return wire.Accepted(command, name, f"forked from {parent.row.name} at step {fork.step}")

    def _set(self, command: str, request: wire.SetKnob) -> wire.Accepted:
        run = self._active(request.run)
        knob = find_knob(request.name)
        if not knob.is_live:
            raise Refused(
                "not_live", f"`{knob.name}` takes effect with the next run only", "set it in the recipe of a new run"
            )
        value = check_value(knob.name, request.value)
        refuse_unhonoured(run.name, run.watched, knob.name, f"set `{knob.name}`")
        return self._order(run, command, "set", wire.KnobOrder(knob.name, value), request.by, knob.name, value)

    def _pause(self, command: str, request: wire.PauseRun) -> wire.Accepted:
        run = self._active(request.run)
        pauses = [order.action for order in run.orders.values() if isinstance(order.action, wire.PauseOrder)]
        refuse_unhonoured(run.name, run.watched, "pause", "pause")
        if request.release:
            refuse_elsewhere(run.name, run.watched, "its memory is not the daemon's to free")
        can_release = request.release and run.has_attempt and not any(pause.release for pause in pauses)
        if run.state in (RunState.PAUSED, RunState.PAUSING) and not can_release:
            raise Refused("conflict", f"`{run.name}` is already {run.state}", f"`ponder resume {run.name}` goes on")
        if run.state is RunState.STOPPING:
            raise Refused("conflict", f"`{run.name}` is stopping")
        if run.state is RunState.QUEUED:
            return self._do(run, command, "pause", request.by, RunState.PAUSED, "paused in the queue")
        if request.release and not run.has_attempt:  # it waits to be started again, from its checkpoint
            run.hold = ""
            return self._do(run, command, "pause", request.by, RunState.PAUSED, RELEASED)
        order = wire.PauseOrder(request.release)
        return self._order(run, command, "pause", order, request.by, value=request.release or None)

    def _resume(self, command: str, request: wire.ResumeRun) -> wire.Accepted:
        name = self._reader.resolve(request.run)
        run = self._supervisor.runs.get(name)
        if run is None:
            return self._resume_from_checkpoint(command, name, request.by)
        is_waiting = any(isinstance(order.action, wire.PauseOrder) for order in run.orders.values())
        if run.state is not RunState.PAUSED and not run.hold and not is_waiting:
            raise Refused("conflict", f"`{name}` is not paused, it is {run.state}")
        if run.has_slot or run.watched is not None:
            return self._order(run, command, "resume", wire.ResumeOrder(), request.by)
        return self._do(run, command, "resume", request.by, RunState.QUEUED, "")

    def _resume_from_checkpoint(self, command: str, name: str, by: str) -> wire.Accepted:
        row = self._reader.run(name).row
        if row.state is RunState.FINISHED:
            raise Refused("over", f"`{name}` has finished all its steps", "`ponder run` starts a new one")
        refuse_elsewhere(name, part_of(self._reader.run(name).recipe), "nothing here can start it again")
        self._supervisor.add(name)
        run = self._supervisor.runs[name]
        run.state = row.state
        try:
            return self._do(run, command, "resume", by, RunState.QUEUED, f"resumed after it was {row.state}")
        except BaseException:
            del self._supervisor.runs[name]
            raise

    def _stop(self, command: str, request: wire.StopRun) -> wire.Accepted:
        run = self._active(request.run)
        refuse_urgent(run.name, run.watched, request)
        refuse_unhonoured(run.name, run.watched, "stop", "stop")
        is_urgent = request.now or request.kill
        if run.state is RunState.STOPPING and not is_urgent:
            raise Refused(
                "conflict", f"`{run.name}` is already stopping", f"`ponder stop --now {run.name}` ends it now"
            )
        if not run.has_attempt:
            return self._do(run, command, "stop", request.by, RunState.STOPPED, f"stopped while {run.state}")
        if is_urgent:
            self._supervisor.press_stop(run.name, is_kill=request.kill)
        return self._order(run, command, "stop", wire.StopOrder(), request.by)

    def _save(self, command: str, request: wire.SaveRun) -> wire.Accepted:
        run = self._active(request.run)
        refuse_elsewhere(run.name, run.watched, "its checkpoints are its own")
        if not run.has_slot:
            raise Refused("conflict", f"`{run.name}` has no trainer, it is {run.state}: there is nothing new to save")
        return self._order(run, command, "save", wire.SaveOrder(), request.by)

    def _pin(self, command: str, request: wire.PinCheckpoint | wire.UnpinCheckpoint) -> wire.Accepted:
        """Done here, whether a trainer lives or not: it looks for the pin before it deletes."""
        row = self._reader.run(request.run).row
        name, root, wants_pin = row.name, self._paths.checkpoints(row.name), isinstance(request, wire.PinCheckpoint)
        refuse_elsewhere(name, part_of(self._reader.run(name).recipe), NOT_HERE)
        step = choose_step(name, saved_steps(root), request.step)
        was_pinned = is_pinned(root, step)
        try:
            with self._writer.together():
                self._writer.accept_command(command, name, VERBS[type(request)], value=step, by=_who(request.by))
                self._writer.settle_command(command, row.step)
                _write_pin(root, step, wants_pin)
                choose_step(name, saved_steps(root), step)  # its trainer may have been quicker
        except BaseException:
            with contextlib.suppress(StoreError):
                _write_pin(root, step, was_pinned)
            raise
        return wire.Accepted(command, name, "it was so before" if was_pinned is wants_pin else "")

    def _quarantine(self, command: str, request: wire.QuarantinePrompt | wire.LiftQuarantine) -> wire.Accepted:
        """A prompt that the run has asked; others may be spelled wrong, and nobody would notice."""
        run = self._active(request.run)
        refuse_elsewhere(run.name, run.watched, "its prompts are its own")
        if not self._reader.has_asked(run.name, request.prompt_id):
            hint = "the ids stand in `ponder group GROUP`"
            raise NotFound(f"`{run.name}` has never asked the prompt `{request.prompt_id[:80]}`", hint)
        kind = wire.LiftOrder if isinstance(request, wire.LiftQuarantine) else wire.QuarantineOrder
        action = kind(request.prompt_id)
        return self._order(run, command, VERBS[type(request)], action, request.by, value=request.prompt_id)

    def _annotate(self, command: str, request: wire.Annotate) -> wire.Accepted:
        """Done at once, and the same again is harmless: no command is written down."""
        run = self._writer.annotate(
            request.rollout_id, request.is_starred, request.is_flagged, request.note, _who(request.by)
        )
        return wire.Accepted(command, run)

    def _keep_measured(self, command: str, request: wire.TellMeasured) -> wire.Accepted:
        """Done at once, and the same again is harmless: the run itself never hears of it."""
        run = self._reader.resolve(request.run)
        is_new = self._writer.keep_measured(run, request, _who(request.by))
        return wire.Accepted(command, run, "" if is_new else "it was told before")

    def _shut_down(self, command: str, request: wire.ShutDown) -> wire.Accepted:
        if not request.stop_runs:
            self.wants_end = True
            return wire.Accepted(command, "", "trainers go on without the daemon" if self._has_trainers() else "")
        self.is_closing = True
        for run in [run for run in self._supervisor.runs.values() if run.has_slot]:
            stop = wire.new_id()
            if run.state is not RunState.STOPPING:
                self._stop(stop, wire.StopRun(run.name, by=f"ponder down --stop-runs by {_who('')}"))
        return wire.Accepted(command, "", "running runs are stopped with a checkpoint first")

    # ---- what they share

    def _refuse_full_disk(self) -> None:
        free = shutil.disk_usage(self._paths.home).free
        if free < FULL_DISK_BYTES:
            message = f"only {free >> 20} MB of disk are left beside the store"
            raise StoreError(message, "free some space, or set PONDER_HOME to another disk", "disk_full")

    def _has_folder(self, name: str) -> bool:
        """Whether a run that the store does not know left its folder: a new run must not go on from what is in it."""
        return self._paths.run(name).exists()

    def _has_trainers(self) -> bool:
        return self._supervisor.has_trainers()

    def _active(self, reference: str) -> Run:
        """The run that is meant, if it is not over."""
        name = self._reader.resolve(reference)
        run = self._supervisor.runs.get(name)
        if run is None:
            state = self._reader.run(name).row.state
            hint = "" if state is RunState.FINISHED else f"`ponder resume {name}` goes on from its checkpoint"
            raise Refused("over", f"`{name}` is over, it {_ended(state)}", hint)
        return run

    def _order(
        self, run: Run, command: str, verb: str, action: wire.Action, by: str,
        name: str = "", value: KnobValue | None = None,
    ) -> wire.Accepted:  # fmt: skip
        """Accept for the trainer to do at its next step boundary."""
        self._writer.accept_command(command, run.name, verb, name, value, _who(by))
        self._supervisor.give(run.name, wire.Order(command, action))
        message = "" if run.has_attempt else "it is given to the trainer when the run starts"
        return wire.Accepted(command, run.name, message)

    def _do(self, run: Run, command: str, verb: str, by: str, state: RunState, reason: str) -> wire.Accepted:
        """Accept and do at once, for what needs no trainer."""
        with self._writer.together():
            self._writer.accept_command(command, run.name, verb, by=_who(by))
            self._supervisor.write_state(run, state, reason)
            self._writer.settle_command(command, run.facts.step)
        self._supervisor.remember_state(run, state, reason)
        return wire.Accepted(command, run.name, reason)


def _write_pin(root: Path, step: int, is_to_stay: bool) -> None:
    try:
        set_pin(root, step, is_to_stay)
    except OSError as error:
        raise explain_file_error(error, pin_of(root, step)) from error


def _who(by: str) -> str:
    """Who asks; all of a socket's clients are one user."""
    return by or getpass.getuser()


def _ended(state: RunState) -> str:
    return {RunState.FINISHED: "finished", RunState.STOPPED: "was stopped"}.get(state, "failed")
