"""A run's figures into what other programs draw: TensorBoard's event files, Weights & Biases' offline folders.

    GetMetrics ──► put(step, time, figures)    the whole past, a window of steps at a time, without what was taken back
    follow     ──► put, back_to(step)          with `follow`, what comes until the run is over

Both are written by the libraries' own writers, which are optional. A tracker is told when a run goes back to a
checkpoint: what came after it is made again. Deliberately left out: texts, which neither shows well, and reading.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol  # Any: both libraries are optional

from ponder.client import Client
from ponder.errors import PonderError, UsageError
from ponder.events import Evaluated, RunStarted, StateChanged, StepDone
from ponder.file_kind import ELSEWHERE
from ponder.wire import Curves, Events, GetEvents, GetMetrics, GetRun, RunDetail

WINDOW = 500
"""Steps of one request."""
FLUSH_S = 5
"""What TensorBoard was told is in its file after so long at most."""


class Tracker(Protocol):
    """Takes figures by step."""

    def put(self, step: int, time_us: int | None, figures: Mapping[str, float]) -> None:
        """What was measured after a step, and when; of one step there may be several."""

    def back_to(self, step: int) -> None:
        """What came after this step is not true any more."""

    def close(self) -> None:
        """Everything is in the folder when this returns."""


def rows_of(client: Client, run: str) -> Iterator[tuple[int, int | None, dict[str, float]]]:
    """(step, when it was done in microseconds, figures) of every step of a run's whole past, the first first."""
    last = client.ask(GetRun(run, only_ends=True), RunDetail).row.step
    for after in range(-1, last + 1, WINDOW):
        found = client.ask(
            GetMetrics(run, after_step=after, until_step=after + WINDOW, with_times=True), Curves
        )  # fmt: skip
        times = dict(found.times)
        rows: defaultdict[int, dict[str, float]] = defaultdict(dict)
        for name, points in found.curves.items():
            for step, value in points:
                rows[step][name] = value
        for step in sorted(rows):
            yield step, times.get(step), rows[step]


def track(client: Client, run: str, tracker: Tracker, *, follow: bool, patience_s: float | None = None) -> int:
    """Tell a tracker all that a run has measured and, with `follow`, measures until its end; returns how many steps.

    `patience_s` is how long a daemon may be away meanwhile; None: as for every follower.
    """
    head = client.ask(GetEvents(limit=1), Events).head
    count = 0
    for step, time_us, figures in rows_of(client, run):
        tracker.put(step, time_us, figures)
        count += 1
    if not follow or client.ask(GetRun(run, only_ends=True), RunDetail).row.state.is_over:
        return count
    for stored in client.follow(run, head, patience_s=patience_s):
        match stored.event:
            case StepDone(step=step, metrics=figures):
                tracker.put(step, stored.time_us, figures)
                count += 1
            case Evaluated(step=step, metrics=figures):
                tracker.put(step, stored.time_us, figures)
            case RunStarted(step=step):
                tracker.back_to(step)
            case StateChanged(new=new) if new.is_over:
                return count
            case _:
                pass
    return count


def check_installed(package: str) -> None:
    """UsageError where a program's own library, which is an extra of the same name, is not there."""
    if find_spec(package) is None:
        raise UsageError(f"this needs the package `{package}`", f'pip install "ponder[{package}]"')


class TensorBoard:
    """A folder that `tensorboard --logdir` shows, by TensorBoard's own writer."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError without the library, PonderError where the folder cannot be made."""
        check_installed("tensorboard")
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event: Any = event_pb2
        self._summary: Any = summary_pb2
        with _writing(folder):
            self._writer: Any = EventFileWriter(str(folder), flush_secs=FLUSH_S)
        self._time_us = 0

    def put(self, step: int, time_us: int | None, figures: Mapping[str, float]) -> None:
        self._time_us = time_us or self._time_us
        values = [self._summary.Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        self._add(step, summary=self._summary.Summary(value=values))

    def back_to(self, step: int) -> None:
        start = self._event.SessionLog(status=self._event.SessionLog.START)
        self._add(step + 1, session_log=start)  # TensorBoard forgets this step and what is later
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _add(self, step: int, **what: object) -> None:
        self._writer.add_event(self._event.Event(wall_time=self._time_us / 1e6, step=step, **what))


class Wandb:
    """A folder that `wandb sync` sends, by wandb's own writer, which is asked to stay offline."""

    def __init__(self, folder: Path, run: str, config: Mapping[str, str]) -> None:
        """Raises UsageError without the library, PonderError where the folder cannot be made."""
        check_installed("wandb")
        import wandb

        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._run: Any = wandb.init(
            mode="offline", dir=str(folder), project="ponder", name=run, id=run, config=dict(config),
            settings=wandb.Settings(
                console="off", silent=True, save_code=False, x_disable_stats=True, x_disable_meta=True
            ),
        )  # fmt: skip
        self._run.define_metric("*", step_metric=STEP)

    def put(self, step: int, time_us: int | None, figures: Mapping[str, float]) -> None:
        at = {} if time_us is None else {TIME: time_us / 1e6}
        self._run.log({STEP: step, **at, **figures})

    def back_to(self, step: int) -> None:
        """Its history cannot be taken back: a step that is done again is there twice, the newer one later."""

    def close(self) -> None:
        self._run.finish()


STEP, TIME = "ponder/step", "ponder/time_s"
"""wandb's own step counts what was logged; a run that went back would be refused."""


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PonderError(
            f"`{folder}` cannot be written: {error.strerror or os.strerror(error.errno or 0)}",
            ELSEWHERE,
        ) from error
