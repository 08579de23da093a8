"""Orders at a step boundary: each is answered there, by an event that says what is true now.

    set      the next step runs with the new value            CommandApplied | CommandRefused
    pause    hold here, keeping memory, until resume or stop  CommandApplied, RunPaused
    resume   go on                                            CommandApplied, RunResumed
    save     write a checkpoint now                           CommandApplied (the checkpoint's own event comes first)
    stop     end here; the loop saves                         CommandApplied

While held, the trainer's thread waits in `link.commands` for the next order; whoever sends orders wakes it.
Deliberately left out: everything inside a step, which no order can interrupt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ponder import knobs as knob_words
from ponder.errors import KnobError
from ponder.events import CommandApplied, CommandRefused, Progress, RunPaused, RunResumed
from ponder.knobs import Knobs
from ponder.presets import check_together
from ponder.wire import KnobOrder, Order, PauseOrder, ResumeOrder, SaveOrder, StopOrder
from trainer.link import Link

HELD_WAIT_S = 0.5
"""While held, a sign of life goes out this often."""


class Boundary:
    """Takes orders between steps and holds what they change."""

    def __init__(self, link: Link, knobs: Knobs, *, steps: int, replay: Sequence[CommandApplied] = ()) -> None:
        self.knobs = knobs
        self.wants_stop = False
        self._link = link
        self._steps = steps
        self._is_held = False
        self._replay = [change for change in replay if change.verb == "set"]

    def take(self, step: int, save: Callable[[], None]) -> None:
        """Take all orders that wait after `step`; returns when the run may go on, or `wants_stop`.

        `replay` are the changes that an earlier attempt already applied and told: they take effect again at the same
        step, without being told again.
        """
        for change in self._replay:
            if change.step == step and change.new is not None:
                self.knobs = knob_words.with_value(self.knobs, change.name, change.new)
        for order in self._link.commands():
            self._obey(order, step, save)
        while self._is_held and not self.wants_stop:
            self._link.preview(Progress(step, "pause", step, self._steps))
            for order in self._link.commands(HELD_WAIT_S):
                self._obey(order, step, save)

    def hold(self, step: int, reason: str, trace: str = "") -> None:
        """Hold at the next `take`, until resume or stop, for a reason that no person gave."""
        self._is_held = True
        self._link.emit(RunPaused(step, reason, trace))

    def _obey(self, order: Order, step: int, save: Callable[[], None]) -> None:
        match order.action:
            case KnobOrder(name=name, value=value):
                self._set(order.command, step, name, value)
            case PauseOrder():
                if self._is_held:
                    self._refuse(order, step, "pause", "the run is already paused")
                    return
                self._is_held = True
                self._apply(order, step, "pause")
                self._link.emit(RunPaused(step))
            case ResumeOrder():
                if not self._is_held:
                    self._refuse(order, step, "resume", "the run is not paused")
                    return
                self._is_held = False
                self._apply(order, step, "resume")
                self._link.emit(RunResumed(step))
            case SaveOrder():
                save()
                self._apply(order, step, "save")
            case StopOrder():
                self.wants_stop = True
                self._apply(order, step, "stop")

    def _set(self, command: str, step: int, name: str, value: knob_words.KnobValue) -> None:
        try:
            knob = knob_words.find_knob(name)
            if not knob.is_live:
                raise KnobError(f"`{name}` takes effect with the next run only", "change it in the recipe")
            old = knob_words.get_value(self.knobs, name)
            changed = knob_words.with_value(self.knobs, name, value)
            check_together(changed)
        except KnobError as error:
            self._link.emit(CommandRefused(command, step, "set", error.message, error.hint))
            return
        self.knobs, new = changed, knob_words.get_value(changed, name)
        self._link.emit(CommandApplied(command, step, "set", name, old, new))

    def _apply(self, order: Order, step: int, verb: str) -> None:
        self._link.emit(CommandApplied(order.command, step, verb))

    def _refuse(self, order: Order, step: int, verb: str, message: str) -> None:
        self._link.emit(CommandRefused(order.command, step, verb, message))
