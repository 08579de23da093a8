"""A run done again from its recipe, with what was changed on the way, and compared with what its journal tells.

    python -P -m daemon.replay RUN [--steps N] [--json]

    journal ──► what each step told: metrics, answers, their tokens    the newest attempt's word
            ──► knob changes, and versions of the live reward model, taken again at their steps
    trainer ──► tells every step once more ──► compared ──► the first difference, or none

The trainer is the real one, in this process; it saves below the run's folder, in a folder that is deleted afterwards.
Nobody is asked and nothing of the run is written to: no daemon is needed. On a CPU, with as many threads, there is no
difference; a GPU promises none. Exit codes: 0 the same, 1 a difference, else those of `ponder.errors`. Deliberately
left out: what the machine makes of it (`ponder.metrics.MACHINE`), which differs every time.
"""

from __future__ import annotations

import math
import os
import shutil
import struct
import sys
import tempfile
import time
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from daemon.fork import share_past
from daemon.journal_link import read_history
from daemon.watched import refuse_elsewhere
from daemon.worker import set_threads
from ponder.errors import NotFound, PonderError
from ponder.events import (
    Evaluated,
    GroupScored,
    PassingEvent,
    Rollout,
    RunPaused,
    RunStarted,
    StepDone,
    TrainerEvent,
    decode_record,
)  # fmt: skip
from ponder.journal import read_records
from ponder.metrics import MACHINE
from ponder.output import say, show_error, write, write_json
from ponder.paths import CHECKPOINTS, Paths, find_paths, reward_model_beside, saved_steps
from ponder.recipe import Recipe, read_recipe
from ponder.wire import Order, ResumeOrder, StopOrder

SAY_EVERY_S = 5.0
SHOWN_CHARACTERS = 80
COMPARED = ("token_ids", "text", "finish", "reward", "advantage")
"""Of an answer; the first that differs is told."""
OF_TOKENS = ("logps", "entropies")
"""Of each token of an answer, where the journal holds them."""

Key = tuple[type[TrainerEvent], int, int]
"""An event's kind, step, and place in the step."""


@dataclass(frozen=True)
class Difference:
    """Where a replay and its journal first differ."""

    step: int
    what: str
    journal: str
    replay: str


class Differs(Exception):
    """Ends the training at the first difference."""

    def __init__(self, difference: Difference) -> None:
        super().__init__(difference.what)
        self.difference = difference


@dataclass
class Told:
    """What a journal tells of each step: where its records lie."""

    path: Path
    offsets: dict[Key, list[int]] = field(default_factory=dict)

    @property
    def steps(self) -> list[int]:
        """The steps that were done, growing."""
        return sorted(step for kind, step, _ in self.offsets if kind is StepDone)

    def events(self, key: Key) -> list[TrainerEvent]:
        """All that was told under this key, oldest first."""
        found = []
        for offset in self.offsets.get(key, []):
            payload, _ = next(read_records(self.path, offset))
            found.append(decode_record(payload).event)
        return found


def key_of(event: TrainerEvent) -> Key | None:
    """The event's key, if it is compared."""
    match event:
        case GroupScored(step=step, group=group):
            return GroupScored, step, group
        case StepDone(step=step) | Evaluated(step=step):
            return type(event), step, 0
        case _:
            return None


def read_told(path: Path) -> Told:
    """One pass over the journal; what an attempt did after the checkpoint that the next one began at is forgotten.

    A step that ends a stage may be measured twice, by this stage and as the start of the next.
    """
    told = Told(path)
    before = 0
    for payload, end in read_records(path):
        event = decode_record(payload).event
        if isinstance(event, RunStarted):
            told.offsets = {key: found for key, found in told.offsets.items() if key[1] <= event.step}
        if (key := key_of(event)) is not None:
            known = told.offsets.setdefault(key, [])
            if not isinstance(event, Evaluated):
                known.clear()
            known.append(before)
        before = end
    return told


def compare(told: TrainerEvent, again: TrainerEvent) -> Difference | None:
    """The first difference between two events of one key, None when there is none."""
    if isinstance(told, GroupScored) and isinstance(again, GroupScored):
        return _compare_groups(told, again)
    if isinstance(told, StepDone | Evaluated) and isinstance(again, StepDone | Evaluated):
        return _compare_metrics(again.step, told.metrics, again.metrics)
    raise AssertionError("events of one key are of one kind")


def _compare_groups(told: GroupScored, again: GroupScored) -> Difference | None:
    place = f"group {told.group}"
    if told.prompt != again.prompt:
        return Difference(told.step, f"{place}, prompt", told.prompt, again.prompt)
    if len(told.rollouts) != len(again.rollouts):
        return Difference(told.step, f"{place}, answers", str(len(told.rollouts)), str(len(again.rollouts)))
    for old, new in zip(told.rollouts, again.rollouts, strict=True):
        for name in COMPARED:
            if getattr(old, name) != getattr(new, name):
                what = f"{place}, answer {old.index}, {name}"
                return Difference(told.step, what, _shown(old, name), _shown(new, name))
        for name in OF_TOKENS:
            if (found := _first_other_token(getattr(old, name), getattr(new, name))) is not None:
                at, was, became = found
                what = f"{place}, answer {old.index}, {name} of token {at}"
                return Difference(told.step, what, repr(was), repr(became))
    return None


def _first_other_token(told: bytes, again: bytes) -> tuple[int, float | None, float | None] | None:
    """Which token, from 0, has another figure, and both; None where all have the same, or none was told."""
    if not told or told == again:
        return None
    old, new = ([figure for (figure,) in struct.iter_unpack("<e", figures)] for figures in (told, again))
    for at, (was, became) in enumerate(zip_longest(old, new)):
        if was != became and not (_is_nan(was) and _is_nan(became)):
            return at, was, became
    return None


def _shown(rollout: Rollout, name: str) -> str:
    value = getattr(rollout, name)
    if isinstance(value, bytes):
        ids = array("I", value)
        return f"{len(ids)} tokens {ids.tolist()}"
    return repr(value)


def _compare_metrics(step: int, told: Mapping[str, float], again: Mapping[str, float]) -> Difference | None:
    for name in sorted(told.keys() | again.keys()):
        old, new = told.get(name), again.get(name)
        if not name.startswith(MACHINE) and old != new and not (_is_nan(old) and _is_nan(new)):
            return Difference(step, name, repr(old), repr(new))
    return None


def _is_nan(value: float | None) -> bool:
    return value is not None and math.isnan(value)


class ComparingLink:
    """The trainer's window onto a journal: what it tells is compared; it hears that it may go on, and when to end."""

    def __init__(self, told: Told, last: int) -> None:
        """`last` is the step after which it ends."""
        self.is_ending = False
        self._told, self._last = told, last
        self._said_s = time.monotonic()
        self.steps = 0

    def emit(self, event: TrainerEvent) -> None:
        """Compare; raises Differs."""
        if isinstance(event, RunPaused) and event.trace:
            raise PonderError(f"it cannot go on: {event.reason}", "the run's own reward code must work as it did")
        key = key_of(event)
        if key is None:
            return
        told = self._told.events(key)
        if told:
            differences = [compare(old, event) for old in told]
            if None not in differences and (last := differences[-1]) is not None:
                raise Differs(last)
        elif key[1] < self._last or not isinstance(event, Evaluated):  # the last evaluation may have been cut off
            raise Differs(Difference(key[1], f"{key[0].__name__} {key[2]}", "never told", "told"))
        if isinstance(event, StepDone):
            self.steps += 1
            self._say_progress(event.step)

    def preview(self, event: PassingEvent) -> None:
        """Passes by."""
        self._at = event.step

    def commands(self, wait_s: float = 0.0) -> list[Order]:
        """Stop after the last step; go on where somebody once let it go on."""
        if self._at >= self._last:
            return [Order("replay-stop", StopOrder())]
        return [Order("replay-resume", ResumeOrder())] if wait_s else []

    _at = 0

    def _say_progress(self, step: int) -> None:
        now = time.monotonic()
        if sys.stderr.isatty():
            print(f"\rstep {step} of {self._last}: the same", end="", file=sys.stderr, flush=True)
        elif now - self._said_s >= SAY_EVERY_S:
            self._said_s = now
            say(f"step {step} of {self._last}: the same")


def replay(paths: Paths, run: str, most_steps: int | None) -> tuple[int, Difference | None]:
    """Do the run again; returns how many steps were the same, and the first difference."""
    journal = paths.journal(run)
    told = read_told(journal)
    if not told.steps:
        raise NotFound(f"`{run}` has told of no step yet", "`ponder ls` lists the runs and their steps")
    recipe = read_recipe(paths.run_recipe(run))
    refuse_elsewhere(run, recipe.watched if recipe.watched.producer else None, "nothing here can do its steps again")
    if recipe.compute.processes > 1:
        raise PonderError(
            f"`{run}` was learnt by {recipe.compute.processes} processes, which add up in another order than one does",
            "runs with `compute.processes = 1` can be replayed",
        )
    done = told.steps[:most_steps]
    changes = read_history(journal).changes
    turned = sum(change.verb == "set" for change in changes)
    say(f"doing {len(done)} of {recipe.steps} steps of {run} again, {turned} knob changes among them")
    set_threads(recipe.compute.threads)
    from trainer.stages import run as train

    folder = Path(tempfile.mkdtemp(prefix=".replay-", dir=paths.run(run)))
    link = ComparingLink(told, done[-1])
    try:
        if recipe.fork.run:
            share_past(_begin_of(paths, run, recipe), recipe.fork.step, folder)
        if (versions := paths.reward_model(run)).is_dir():
            reward_model_beside(folder / CHECKPOINTS).symlink_to(versions)
        train(recipe, folder / CHECKPOINTS, link, models_folder=paths.models, replay=changes)
    except Differs as found:
        return link.steps, found.difference
    finally:
        if sys.stderr.isatty():
            print(file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
    missing = next((step for step in done[link.steps :]), None)
    return link.steps, None if missing is None else Difference(missing, "the step", "told", "never told")


def _begin_of(paths: Paths, run: str, recipe: Recipe) -> Path:
    """The folder that still has the checkpoint at which a fork began."""
    fork = recipe.fork
    for name in (run, fork.run):
        if fork.step in saved_steps(paths.checkpoints(name)):
            return paths.run(name)
    raise NotFound(
        f"the checkpoint of step {fork.step}, at which `{run}` began, is deleted",
        "a run keeps as many as `saving.keep` says",
    )


def main(arguments: list[str]) -> int:
    """Be the program; `ponder replay` checks and completes the arguments."""
    run, *options = arguments
    most = int(options[options.index("--steps") + 1]) if "--steps" in options else None
    os.umask(0o077)
    try:
        steps, difference = replay(find_paths(), run, most)
    except PonderError as error:
        show_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    if "--json" in options:
        write_json("replay", {"run": run, "steps": steps, "difference": difference})
    elif difference is None:
        write(f"{run}: {steps} steps done again, no difference")
    else:
        write(f"{run} differs at step {difference.step}: {difference.what}")
        write(f"  journal  {difference.journal[:SHOWN_CHARACTERS]}")
        write(f"  replay   {difference.replay[:SHOWN_CHARACTERS]}")
    return 0 if difference is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
