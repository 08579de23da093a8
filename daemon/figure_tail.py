"""Figures of other trainers' logs, read along while the logs grow.

    a file of lines      whole lines (`daemon.tailing`)
    an event file        TensorBoard's own reader, which goes on where it was; an optional extra

Deliberately left out: what a figure is called here (`ponder.metric_files`), and who is told (`daemon.importing`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any  # Any: TensorBoard is optional and carries no types

from daemon.tailing import Tail
from ponder.metric_files import is_event_file, metric_files, our_figures, read_figures
from ponder.trackers import check_installed

Skip = Callable[[Path, int, str], None]
Found = Iterator[tuple[int, dict[str, float]]]


class FigureTail:
    """The logs of one trainer, of which more may come."""

    def __init__(self, name: str, path: Path, where: Path | None, skip: Skip) -> None:
        """`skip` is told the file and the number of a line that cannot be read, and why."""
        self._name, self._path, self._where, self._skip = name, path, where, skip
        self._logs: dict[Path, Tail | EventLog] = {}

    def take(self, *, is_last: bool = False) -> Found:
        """What came since the last call, by steps; UsageError where TensorBoard is needed and not installed."""
        for file in metric_files(self._name, self._path, self._where):
            if file not in self._logs:
                self._logs[file] = EventLog(file) if is_event_file(file) else Tail(file)
            log = self._logs[file]
            found = log.take() if isinstance(log, EventLog) else self._lines(log, is_last)
            for step, figures in found:
                yield step, our_figures(self._name, figures)

    def _lines(self, tail: Tail, is_last: bool) -> Found:
        for number, line in tail.lines(is_last=is_last):
            try:
                step, figures = read_figures(line)
            except ValueError as error:
                self._skip(tail.path, number, str(error))
                continue
            if figures:
                yield step, figures


class EventLog:
    """One event file."""

    def __init__(self, path: Path) -> None:
        check_installed("tensorboard")
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

        self._loader: Any = EventFileLoader(str(path))

    def take(self) -> Found:
        from tensorboard.util.tensor_util import make_ndarray

        for event in self._loader.Load():
            figures = {
                value.tag: float(make_ndarray(value.tensor).reshape(-1)[0])
                for value in event.summary.value
                if value.metadata.plugin_data.plugin_name == "scalars"
            }
            if finite := {tag: value for tag, value in figures.items() if math.isfinite(value)}:
                yield event.step, finite
