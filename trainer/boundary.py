"""Orders at a step boundary: each is answered there, by an event that says what is true now.

    set      the next step runs with the new value            CommandApplied | CommandRefused
    pause    hold here, keeping memory, until resume or stop  CommandApplied, RunPaused
    resume   go on                                            CommandApplied, RunResumed
    save     write a checkpoint now                           CommandApplied (the checkpoint's own event comes first)
    quarantine  a prompt is asked no more                     CommandApplied | CommandRefused
    lift     ... and is asked again                           CommandApplied | CommandRefused
    stop     end here; the loop saves                         CommandApplied
    reward_model  the next batch is scored with another version     CommandApplied | CommandRefused
    release  a pause without memory: end here; the loop saves answered by the daemon, when the process is gone

A trainer that was told to end by SIGTERM ends here too, held or not. While held, the trainer's thread waits in
`link.commands` for the next order; whoever sends orders wakes it. Deliberately left out: everything inside a step,
which no order can interrupt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ponder import events
from ponder import knobs as knob_words
from ponder.errors import KnobError, PonderError, RecipeError, Refused
from ponder.events import HELD, CommandApplied, CommandRefused, Ending, Progress, RunPaused, RunResumed
from ponder.knobs import Knobs
from ponder.presets import check_together
from ponder.wire import (
    KnobOrder,
    LiftOrder,
    Order,
    PauseOrder,
    QuarantineOrder,
    ResumeOrder,
    RewardModelOrder,
    SaveOrder,
    StopOrder,
)
from trainer.link import Link

TakeVersion = Callable[[int, str, int], int]
"""Takes a version of the live reward model: its number, its file's SHA-256 (or empty), the step; the number before."""

HELD_WAIT_S = 0.5
"""While held, a sign of life goes out this often."""


class Boundary:
    """Takes orders between steps and holds what they change."""

    def __init__(
        self, link: Link, knobs: Knobs, *, steps: int, replay: Sequence[CommandApplied] = (),
        check: Callable[[Knobs], None] = lambda _: None, take_version: TakeVersion | None = None,
        quarantined: set[str] | None = None,
    ) -> None:  # fmt: skip
        """`check` raises a RecipeError on knobs with which the run could not go on.

        `quarantined` are the ids of prompts that are asked no more, which orders change; None where none is asked.
        """
        self.knobs = knobs
        self._check, self._take_version = check, take_version
        self.ends_as: Ending | None = None
        """How the run is to end here, when it is."""
        self.is_held = False
        self._released_by = ""
        """The pause command under which the run is to be released."""
        self._link = link
        self._steps = steps
        self._quarantined = quarantined
        self._replay = replay

    @property
    def wants_stop(self) -> bool:
        """Whether the run goes no further here."""
        return self.ends_as is not None

    def take(self, step: int, save: Callable[[], None]) -> None:
        """Take all orders that wait after `step`; returns when the run may go on, or `wants_stop`.

        `replay` are the changes that an earlier attempt already applied and told: they take effect again at the same
        step, without being told again.
        """
        for change in self._replay:
            if change.step == step and change.new is not None:
                self._do_again(change, change.new)
        self._obey_all(self._link.commands(), step, save)
        while self.is_held and not self.wants_stop:
            self._link.preview(Progress(step, HELD, step, self._steps))
            self._obey_all(self._link.commands(HELD_WAIT_S), step, save)

    def _do_again(self, change: CommandApplied, new: knob_words.KnobValue) -> None:
        match change.verb:
            case "set":
                self.knobs = knob_words.with_value(self.knobs, change.name, new)
            case events.QUARANTINE_VERB if self._quarantined is not None:
                self._quarantined.add(str(new))
            case events.LIFT_VERB if self._quarantined is not None:
                self._quarantined.discard(str(new))
            case events.REWARD_MODEL_VERB if self._take_version:
                self._take_version(int(new), "", change.step)

    def hold(self, step: int, reason: str, trace: str = "") -> None:
        """Hold at the next `take`, until resume or stop, for a reason that no person gave."""
        self.is_held = True
        self._link.emit(RunPaused(step, reason, trace))

    def _obey_all(self, orders: Sequence[Order], step: int, save: Callable[[], None]) -> None:
        for order in orders:
            self._obey(order, step, save)
        if self._link.is_ending and self.ends_as is None:
            self.ends_as = Ending.INTERRUPTED

    def _obey(self, order: Order, step: int, save: Callable[[], None]) -> None:
        match order.action:
            case KnobOrder(name=name, value=value):
                self._set(order.command, step, name, value)
            case RewardModelOrder(version=version, sha256=sha256):
                self._take(order.command, step, version, sha256)
            case PauseOrder(release=release):
                self._pause(order, step, release)
            case ResumeOrder():
                self._resume(order, step)
            case SaveOrder():
                save()
                self._apply(order, step, "save")
            case QuarantineOrder(prompt_id=prompt_id):
                self._quarantine(order.command, step, prompt_id)
            case LiftOrder(prompt_id=prompt_id):
                self._lift(order.command, step, prompt_id)
            case StopOrder():
                self.ends_as = Ending.STOPPED
                self._apply(order, step, "stop")

    def _pause(self, order: Order, step: int, release: bool) -> None:
        if release and self.ends_as is None:
            self.ends_as, self._released_by = Ending.RELEASED, order.command
        elif self.is_held or self.wants_stop:
            self._link.emit(CommandRefused(order.command, step, "pause", "the run is already paused"))
        else:
            self.is_held = True
            self._apply(order, step, "pause")
            self._link.emit(RunPaused(step))

    def _resume(self, order: Order, step: int) -> None:
        is_released = self.ends_as is Ending.RELEASED
        if not (self.is_held or is_released):
            self._link.emit(CommandRefused(order.command, step, "resume", "the run is not paused"))
            return
        if is_released:
            self.ends_as = None
            why = "the run was resumed before it was released"
            self._link.emit(CommandRefused(self._released_by, step, "pause", why))
        self.is_held = False
        self._apply(order, step, "resume")
        self._link.emit(RunResumed(step))

    def _quarantine(self, command: str, step: int, prompt_id: str) -> None:
        if self._quarantined is None or prompt_id in self._quarantined:
            why = "this stage asks no prompts" if self._quarantined is None else "the prompt is in quarantine already"
            self._link.emit(CommandRefused(command, step, events.QUARANTINE_VERB, why))
            return
        self._quarantined.add(prompt_id)
        self._link.emit(CommandApplied(command, step, events.QUARANTINE_VERB, new=prompt_id))

    def _lift(self, command: str, step: int, prompt_id: str) -> None:
        if self._quarantined is None or prompt_id not in self._quarantined:
            why = "this stage asks no prompts" if self._quarantined is None else "the prompt is not in quarantine"
            self._link.emit(CommandRefused(command, step, events.LIFT_VERB, why))
            return
        self._quarantined.remove(prompt_id)
        self._link.emit(CommandApplied(command, step, events.LIFT_VERB, new=prompt_id))

    def _set(self, command: str, step: int, name: str, value: knob_words.KnobValue) -> None:
        try:
            knob = knob_words.find_knob(name)
            if not knob.is_live:
                raise KnobError(f"`{name}` takes effect with the next run only", "change it in the recipe")
            old = knob_words.get_value(self.knobs, name)
            changed = knob_words.with_value(self.knobs, name, value)
            check_together(changed)
            self._check(changed)
        except (KnobError, RecipeError) as error:
            self._link.emit(CommandRefused(command, step, "set", error.message, error.hint))
            return
        self.knobs, new = changed, knob_words.get_value(changed, name)
        self._link.emit(CommandApplied(command, step, "set", name, old, new))

    def _take(self, command: str, step: int, version: int, sha256: str) -> None:
        try:
            if self._take_version is None:
                raise Refused("conflict", "this stage has no live reward model")
            old = self._take_version(version, sha256, step)
        except PonderError as error:
            self._link.emit(CommandRefused(command, step, events.REWARD_MODEL_VERB, error.message, error.hint))
            return
        self._link.emit(CommandApplied(command, step, events.REWARD_MODEL_VERB, "version", old, version))

    def _apply(self, order: Order, step: int, verb: str) -> None:
        self._link.emit(CommandApplied(order.command, step, verb))
