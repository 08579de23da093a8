"""The body of `ponder.log_run`: a run's folder, its lock and its journal, in a process that the daemon did not start.

    loop ── log ──► tasks ──► the telling thread: groups, marks, figures ──► journal.pj ──► relay ──► daemon
      ▲                                    └ dropped, and said once, where the disk is full
      └── orders ◄── the journal's link ◄── relay ◄── daemon
    end ── waits for    the telling thread, and a moment for the daemon's acknowledgement where one listens

The folder is the same as a trainer's (`ponder.paths`), with this process in `attempt.json` and the lock held by it, so
that the daemon knows by the kernel whether it lives. Whoever forks, as loaders of data do, leaves the lock to us. After
`begin` nothing raises into the loop. Deliberately left out: how answers are read (`trainer.foreign`), and what the
daemon makes of the run (`daemon.watched`).
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import msgspec

from daemon.journal_link import JournalLink
from daemon.log import say
from daemon.processes import LOCK_NAME, STARTED_NAME, Started, boot_id, read_started, start_ticks, write_facts
from daemon.relay import Relay
from daemon.shim import take_lock
from daemon.told import Told, read_told
from ponder import wire
from ponder.client import is_listening
from ponder.errors import NotFound, Refused, StoreError, UsageError
from ponder.events import (
    ELSEWHERE,
    HELD,
    CommandApplied,
    CommandRefused,
    Ending,
    Evaluated,
    Preview,
    PreviewAnswer,
    Progress,
    RunBroke,
    RunEnded,
    RunPaused,
    RunResumed,
    RunStarted,
    StepDone,
    TrainerEvent,
)  # fmt: skip
from ponder.knobs import Knobs, KnobValue, with_value
from ponder.metrics import EVAL
from ponder.paths import Paths, explain_file_error, find_paths, make_private_folder, open_private_file
from ponder.recipe import ModelPart, Recipe, RunPart, TaskPart, dump_recipe, parse_recipe, read_recipe
from ponder.stage import StageKind, StagePart
from ponder.telling import NO_SETTERS, Completion, Order
from ponder.watched import (
    STAGE,
    VERBS,
    WatchedPart,
    check_honours,
    check_same_judges,
    clean,
    plain_settings,
    read_judges,
    run_name,
)
from store.reader import Reader
from trainer.foreign import our_name, read_step

MOST_WAITING = 64
"""Of more steps than these that wait to be told, the answers are left out."""
HELD_WAIT_S = 0.5
LOCK_PATIENCE_S = 1.0
"""The daemon touches the lock for an instant."""
END_PATIENCE_S = 60.0
ACKNOWLEDGED_S = 3.0
SHOWN_ANSWERS = 8
SHOWN_CHARACTERS = 4000
MOST_STEPS = 10_000_000
UNSAID = "its program ended without a word on the run"


def begin(
    name: str, config: Mapping[str, object], *, steps: int = 0, model: str = "", honours: Sequence[str] = (),
    knobs: Mapping[str, KnobValue] | None = None, producer: str = "", judges: Sequence[str] = (), resume: str = "",
) -> Producer:  # fmt: skip
    """See `ponder.telling.log_run`."""
    if not 0 <= steps <= MOST_STEPS:
        raise UsageError(f"`steps` cannot be {steps}", f"it takes 0 to {MOST_STEPS:,}; 0 where nobody knows")
    settings, promised = dict(knobs or {}), list(dict.fromkeys([*honours, *(knobs or {})]))
    if missing := [word for word in check_honours(promised) if word not in VERBS and word not in settings]:
        raise UsageError(f"what `{missing[0]}` is now is not said", f'give `knobs={{"{missing[0]}": ...}}`')
    called = clean(producer)[:200] or "a loop of its own"
    part = WatchedPart(called, promised, *read_judges(judges), plain_settings(config))
    paths = find_paths()
    make_private_folder(paths.home)
    if resume:
        with _closed_on_error(_lock_again(paths, resume, judges)) as lock:
            return Producer(paths, resume, lock, steps=steps, model=model, is_resumed=True)
    text = _recipe(run_name(name), part, settings, steps, model)
    folder = _claim(paths, run_name(name))
    with _closed_on_error(_lock(paths, folder)) as lock:
        recipe = open_private_file(paths.run_recipe(folder), os.O_WRONLY | os.O_TRUNC)
        with os.fdopen(recipe, "w", encoding="utf-8") as file:
            file.write(text)
        return Producer(paths, folder, lock, steps=steps, model=model)


@contextlib.contextmanager
def _closed_on_error(lock: int) -> Iterator[int]:
    """A lock that is let go of when what follows fails; StoreError where a file cannot be written."""
    try:
        yield lock
    except BaseException as error:
        os.close(lock)
        if isinstance(error, OSError):
            raise StoreError(f"the run cannot begin: {error.strerror or error}", "free some disk space") from error
        raise


def _recipe(name: str, part: WatchedPart, settings: Mapping[str, KnobValue], steps: int, model: str) -> str:
    knobs = Knobs()
    for knob, value in settings.items():
        knobs = with_value(knobs, knob, value)
    recipe = Recipe(
        RunPart(name, title=f"trains elsewhere: {part.producer}"[:200]), ModelPart(clean(model) or "unknown"),
        TaskPart(STAGE), StagePart(StageKind.RL, max(steps, 1), STAGE), watched=part,
        **msgspec.structs.asdict(knobs),
    )  # fmt: skip
    text = dump_recipe(recipe)
    parse_recipe(text, f"what is said of `{name}`")
    return text


def _claim(paths: Paths, name: str) -> str:
    """A folder that nobody has, for a name that no run has."""
    make_private_folder(paths.runs)
    known = _known_names(paths)
    number = 1
    while True:
        whole = f"{name}-{number}"
        if whole not in known:
            try:
                paths.run(whole).mkdir(mode=0o700)
            except FileExistsError:
                pass
            except OSError as error:
                raise explain_file_error(error, paths.run(whole)) from error
            else:
                return whole
        number += 1


def _known_names(paths: Paths) -> set[str]:
    """The store's runs; none where there is no store yet."""
    if not paths.store.exists():
        return set()
    with contextlib.closing(Reader(paths.store)) as reader:
        return reader.names()


def _lock(paths: Paths, run: str) -> int:
    try:
        lock = take_lock(paths.run(run) / LOCK_NAME, LOCK_PATIENCE_S)
    except OSError as error:
        raise explain_file_error(error, paths.run(run)) from error
    if lock is None:
        raise Refused("conflict", f"another process tells of `{run}`", "end it, or begin a run of your own")
    return lock


def _lock_again(paths: Paths, run: str, judges: Sequence[str]) -> int:
    """The lock of a run that was told of before, and of nobody else who judges it."""
    part = read_recipe(paths.run_recipe(run)).watched if paths.run_recipe(run).exists() else WatchedPart()
    if not part.producer:
        raise NotFound(f"no run `{run}` was told of before", "`ponder ls` lists the runs")
    check_same_judges(run, part, judges)
    return _lock(paths, run)


@dataclass(frozen=True)
class Asked:
    """An order for the loop."""

    verb: str
    name: str
    value: KnobValue | None
    order: wire.Order
    producer: Producer

    def applied(self, old: KnobValue | None = None) -> None:
        self.producer.answer(self, old)

    def refused(self, why: str) -> None:
        self.producer.refuse(self, why)


class Producer:
    """A run that is being told (`ponder.telling.Run`)."""

    def __init__(self, paths: Paths, name: str, lock: int, *, steps: int, model: str, is_resumed: bool = False) -> None:
        """The run's journal is open and its beginning told; `lock` is the run's own."""
        self.name = name
        self.told = read_told(paths.journal(name)) if is_resumed else Told()
        """What was told before."""
        self._paths, self._lock, self._steps = paths, lock, steps
        self._pid, self._is_over, self._is_stopped = os.getpid(), False, False
        self._step, self._warned = self.told.step, set[str]()
        self._groups = dict(self.told.groups)
        self._tasks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        before = read_started(paths.run(name))
        attempt = before.attempt + 1 if before else 1
        self._link = JournalLink(paths.journal(name), attempt, waits_for_room=False)
        self._emit(
            RunStarted(self._step, steps, STAGE, model or "unknown", 0, "", 0, self._step if is_resumed else None)
        )
        self._link.preview(Progress(self._step, ELSEWHERE, self._step, steps))
        now_us, ticks = time.time_ns() // 1000, start_ticks(self._pid) or 0
        write_facts(paths.run(name), STARTED_NAME, Started(attempt, self._pid, ticks, boot_id(), self._pid, now_us))
        self._relay = Relay(self._link, paths.endpoint("ingest"), name, attempt)
        self._teller = threading.Thread(target=self._tell, name="telling", daemon=True)
        self._relay.start()
        self._teller.start()
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self._at_exit)

    # ---- the loop's side

    def log(
        self, step: int, metrics: Mapping[str, float] | None = None, rollouts: Sequence[Completion] = (),
        *, is_evaluation: bool = False,
    ) -> None:  # fmt: skip
        """See `ponder.telling.Run`."""
        if self._is_closed():
            return
        try:
            self._step, answers = max(self._step, int(step)), list(rollouts)
            figures = self._figures(metrics or {}, EVAL if is_evaluation else "")
        except Exception as error:  # a border: the loop's own values, which may be anything
            self._warn("log", f"what was told of step {step} is left out: {error}")
            return
        if answers and self._tasks.qsize() > MOST_WAITING:
            self._warn("late", "answers come faster than they are told: those of some steps are left out")
            answers = []
        if is_evaluation:
            self._tasks.put(lambda: self._emit(Evaluated(int(step), figures)))
        else:
            self._tasks.put(lambda: self._tell_step(int(step), figures, answers))

    def log_more(self, step: int, answers: Sequence[Completion]) -> None:
        """Answers of a step that was told before, whose figures stay."""
        self._tasks.put(lambda: self._tell_answers(step, answers))

    def settle(self) -> None:
        """Return when all that was logged is told."""
        is_told = threading.Event()
        self._tasks.put(is_told.set)
        is_told.wait()

    def orders(self, wait_s: float = 0.0) -> list[Order]:
        """See `ponder.telling.Run`."""
        if self._is_closed():
            return []
        return [
            Asked(
                str(order.action.__struct_config__.tag), getattr(order.action, "name", ""),
                getattr(order.action, "value", None), order, self,
            )
            for order in self._link.commands(wait_s)
        ]  # fmt: skip

    def obey(self, step: int, setters: Mapping[str, Callable[[KnobValue], object]] = NO_SETTERS) -> bool:
        """See `ponder.telling.Run`."""
        self._step = max(self._step, step)
        is_held = False
        while not self._is_closed():
            for order in self.orders(HELD_WAIT_S if is_held else 0.0):
                match order.verb:
                    case "pause" | "resume":
                        is_held = order.verb == "pause"
                        order.applied()
                        self._show(step, HELD if is_held else ELSEWHERE)
                    case "stop":
                        order.applied()
                        return True
                    case "set" if order.value is not None and order.name in setters:
                        _set(order, setters[order.name], order.value)
                    case _:
                        order.refused(f"this loop has nothing that does `{order.name or order.verb}`")
            if not is_held:
                break
            self._show(step, HELD)
        return False

    def end(self, message: str = "", *, is_stopped: bool = False) -> None:
        """See `ponder.telling.Run`."""
        outcome = Ending.STOPPED if is_stopped or self._is_stopped else Ending.FINISHED
        self._close(lambda: RunEnded(self._step, outcome, clean(message)))

    def fail(self, why: str) -> None:
        """See `ponder.telling.Run`."""
        self._close(lambda: RunBroke(self._step, ELSEWHERE, clean(why)[:2000]))

    def __enter__(self) -> Producer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_by(error)

    def answer(self, asked: Asked, old: KnobValue | None) -> None:
        """What was asked is true from now on."""
        step, verb = self._step, asked.verb
        self._is_stopped = self._is_stopped or verb == "stop"
        applied = CommandApplied(asked.order.command, step, verb, asked.name, old, asked.value)
        self._tasks.put(lambda: self._emit(applied))
        if verb in ("pause", "resume"):
            self._tasks.put(lambda: self._emit(RunPaused(step) if verb == "pause" else RunResumed(step)))

    def refuse(self, asked: Asked, why: str) -> None:
        """What was asked is not done."""
        refused = CommandRefused(asked.order.command, self._step, asked.verb, clean(why))
        self._tasks.put(lambda: self._emit(refused))

    # ---- the telling thread's side

    def _tell(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except (StoreError, OSError) as error:  # no room: what comes later may find some
                self._warn("disk", f"something is not told: {getattr(error, 'message', error)}")
            except Exception as error:  # a border: the loop's own answers, which may be anything
                self._warn("tell", f"something is not told: {type(error).__name__}: {error}")

    def _tell_step(self, step: int, figures: dict[str, float], answers: Sequence[Completion]) -> None:
        found: dict[str, float] = {}
        try:
            found = self._tell_answers(step, answers)
        finally:  # figures are small, and may find room where answers do not
            self._emit(StepDone(step, step, found | figures))
            self._link.preview(Progress(step, ELSEWHERE, step, self._steps))

    def _tell_answers(self, step: int, answers: Sequence[Completion]) -> dict[str, float]:
        groups, found = read_step(step, answers, self._groups.get(step, 0))
        if groups:
            self._show_answers(step, groups[0].prompt, [one.text for one in groups[0].rollouts])
        for group in groups:
            self._emit(group)
            self._groups[step] = group.group + 1
        return found

    def _show_answers(self, step: int, prompt: str, texts: Sequence[str]) -> None:
        """What the console's Live screen shows of a step."""
        self._link.preview(
            Preview(step, [
                PreviewAnswer(0, index, 0, text[:SHOWN_CHARACTERS], prompt[:SHOWN_CHARACTERS], is_done=True)
                for index, text in enumerate(texts[:SHOWN_ANSWERS])
            ])
        )  # fmt: skip

    def _emit(self, event: TrainerEvent) -> None:
        self._link.emit(event)

    def _show(self, step: int, phase: str) -> None:
        self._tasks.put(lambda: self._link.preview(Progress(step, phase, step, self._steps)))

    # ---- inside

    def _figures(self, metrics: Mapping[str, float], prefix: str) -> dict[str, float]:
        figures = {}
        for name, value in metrics.items():
            try:
                number = float(value)
            except (TypeError, ValueError):
                self._warn(f"metric {name}", f"the metric `{name}` is no number and is left out")
                continue
            if math.isfinite(number) or not prefix:
                known = our_name(clean(str(name))) if not prefix else f"{prefix}{str(name).removeprefix(prefix)}"
                figures[clean(known)] = number
        return figures

    def _is_closed(self) -> bool:
        return self._is_over or os.getpid() != self._pid

    def _close(self, last: Callable[[], TrainerEvent]) -> None:
        if self._is_closed():
            return
        self._is_over = True
        atexit.unregister(self._at_exit)
        self._tasks.put(lambda: self._emit(last()))
        self._tasks.put(None)
        self._teller.join(END_PATIENCE_S)
        deadline = time.monotonic() + ACKNOWLEDGED_S
        while is_listening(self._paths.socket("ingest")) and time.monotonic() < deadline:
            if self._relay.acked_seq >= self._link.last_seq:
                break
            time.sleep(0.01)
        self._relay.close()
        with contextlib.suppress(OSError):
            self._link.close()
            os.close(self._lock)

    def _end_by(self, error: BaseException | None) -> None:
        if error is None:
            self.end()
        elif isinstance(error, KeyboardInterrupt):
            self.end("interrupted by Ctrl-C", is_stopped=True)
        elif isinstance(error, SystemExit) and not error.code:
            self.end(UNSAID, is_stopped=True)
        else:
            self.fail(f"{type(error).__name__}: {error}")

    def _at_exit(self) -> None:
        """The program ends and has not said how its loop did."""
        error = getattr(sys, "last_value", None)
        if error is None and not (self._steps and self._step >= self._steps):
            self.end(UNSAID, is_stopped=True)
        else:
            self._end_by(error)

    def _forget(self) -> None:
        """In a process that was forked from ours: the lock is not its own."""
        if not self._is_over:
            self._is_over = True
            with contextlib.suppress(OSError):
                os.close(self._lock)

    def _warn(self, kind: str, line: str) -> None:
        """Once a kind."""
        if kind not in self._warned:
            self._warned.add(kind)
            say(f"ponder: {self.name}: {line}")


def _set(order: Order, setter: Callable[[KnobValue], object], value: KnobValue) -> None:
    """Turn a knob of the loop's; what the setter gives back is the value before."""
    try:
        old = setter(value)
    except Exception as error:  # a border: the loop's own code
        order.refused(f"{type(error).__name__}: {error}")
    else:
        order.applied(old if isinstance(old, bool | int | float | str) else None)
