"""All runs: which learns, which waits, how far each came, and why one stopped.

Deliberately left out: comparing runs, and starting one (`ponder run RECIPE`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Container
from textual.widget import Widget

from ponder import metrics, wire
from ponder.event_text import format_accuracy, format_ago
from ponder.metrics import METRICS, find_metric, format_metric
from ponder.plot_text import sparkline
from tui import actions
from tui.screens.frame import ConsoleScreen, elapsed_words
from tui.screens.text_line import Part, TextLine
from tui.terms import STATES
from tui.widgets import Cell, Column, LineView, ListRow, ListSource, Paragraph, Span, VirtualList

SPARK_CELLS = 12
COLUMNS = (
    Column("", 1),
    Column("run", 20),
    Column("state", 10),
    Column("step", 11, "right"),
    Column("reward", 6, "right", drop=2),
    Column("accuracy", 8, "right", drop=1),
    Column("reward curve", SPARK_CELLS, drop=3),
    Column("what", 0, drop=4),
)


class RunsScreen(ConsoleScreen):
    """See the module."""

    screen_name: ClassVar[str] = "runs"
    AUTO_FOCUS: ClassVar[str | None] = "#runs"
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("runs")]

    def __init__(self) -> None:
        super().__init__()
        self._runs: list[wire.RunRow] = []
        self._details: dict[str, wire.RunDetail] = {}

    def body(self) -> Iterable[Widget]:
        """The list, and below it what is known about the run under the cursor."""
        yield VirtualList(COLUMNS, id="runs", empty="no runs yet: `ponder demo` or `ponder run RECIPE` starts one")
        yield TextLine(id="run-head", rule="-" if self.console.is_ascii else "─")
        with Container(id="run-below"):
            yield LineView(id="run-facts", gutter=False)
            yield LineView(id="run-newest", gutter=False)

    async def pull(self) -> None:
        """The newest runs, and all about the one under the cursor."""
        shown = self.query_one("#runs", VirtualList)
        self._runs = (await self.console.ask(wire.ListRuns(limit=500), wire.Runs)).runs
        key = shown.cursor_key or (self._runs[0].name if self._runs else "")
        chosen = next((row for row in self._runs if row.name == key), None)
        if chosen is not None and (key not in self._details or self._details[key].row != chosen):
            self._details = {key: await self.console.ask(wire.GetRun(key), wire.RunDetail)}

    def on_virtual_list_row_highlighted(self, _: VirtualList.RowHighlighted) -> None:
        """Another run is under the cursor."""
        self.console.want()

    async def on_virtual_list_row_selected(self, event: VirtualList.RowSelected) -> None:
        """Watch the run."""
        await self.console.watch_run(event.key)
        await self.console.show_screen("live")

    def copied(self) -> tuple[str, str] | None:
        """The name of the run under the cursor."""
        key = self.query_one(VirtualList).cursor_key
        return ("the name", key) if key is not None else None

    async def action_runs_open(self) -> None:
        """Watch the run under the cursor."""
        if (key := self.query_one("#runs", VirtualList).cursor_key) is not None:
            await self.console.watch_run(key)
            await self.console.show_screen("live")

    def paint(self) -> None:
        """The list and the facts."""
        if not self.is_ready:
            return
        runs = self.query_one("#runs", VirtualList)
        runs.set_source(ListSource([self._row(row) for row in self._runs]))
        detail = self._details.get(runs.cursor_key or "")
        head = self.query_one("#run-head", TextLine)
        head.show([Part(detail.row.name, "title"), Part(detail.row.title, "dim", 1)] if detail is not None else [])
        newest = self.query_one("#run-newest", LineView)
        figures = _newest(detail) if detail is not None else []
        newest.set_document(figures)
        facts = _facts(detail, self.console.now_us()) if detail is not None else []
        self.query_one("#run-facts", LineView).set_document([*facts, *([] if newest.display else figures)])

    def _row(self, row: wire.RunRow) -> ListRow:
        word = STATES[row.state]
        queue = f"place {row.queue_place} in the queue" if row.queue_place else ""
        return ListRow(
            row.name,
            (
                Cell(word.sign, word.style),
                Cell(row.name, "title" if row.name == self.console.run_name else "plain"),
                Cell(row.state, word.style),
                f"{row.step:,}/{row.steps:,}",
                _headline(row, metrics.REWARD_MEAN),
                _headline(row, metrics.EVAL_ACCURACY),
                sparkline(row.spark, SPARK_CELLS, self.console.is_ascii),
                Cell(f"! {row.stuck}", "warning") if row.stuck else row.reason or queue or f"{row.title or row.stage}",
            ),
        )


def _headline(row: wire.RunRow, name: str) -> str:
    value = row.headlines.get(name)
    return "-" if value is None else format_metric(name, value)


def _facts(detail: wire.RunDetail, now_us: int) -> list[Paragraph]:
    """What is known about a run, a fact a line."""
    row = detail.row
    size = f" ({detail.parameters / 1e6:.2f} M parameters)" if detail.parameters else ""
    lines = [
        ("state", f"{row.state}: {row.stuck or row.reason or STATES[row.state].meaning}"),
        ("model", f"{detail.model}{size} on {detail.device or '-'}, stage {row.stage}"),
        ("time", f"submitted {_clock(row.created_us)} ({format_ago(row.created_us, now_us)}), ran {_ran(row, now_us)}"),
        ("answers", f"{detail.rollouts:,} in {row.step:,} of {row.steps:,} steps, attempt {row.attempt}"),
    ]
    if row.forked_from:
        lines.append(("past", f"forked from {row.forked_from} at step {row.forked_at:,}"))
    if detail.evaluations:
        first, last = detail.evaluations[0], detail.evaluations[-1]
        lines.append(("held out", f"step {first[0]:,}: {format_accuracy(first[1])}"))
        if last[0] != first[0]:
            lines.append(("", f"step {last[0]:,}: {format_accuracy(last[1])}"))
    lines.append(("folder", detail.folder))
    lines += [
        ("" if number else "attempts", f"{attempt.attempt}: pid {attempt.pid}, {attempt.cause or 'alive'}")
        for number, attempt in enumerate(detail.attempts)
    ]
    return [Paragraph.of(f" {label:<9} {text}", [Span(0, 10, "dim")]) for label, text in lines]


def _newest(detail: wire.RunDetail) -> list[Paragraph]:
    """The newest value of every metric, in the order of their declaration; members of families come last."""
    order = list(METRICS)
    names = sorted(detail.newest, key=lambda name: (order.index(name) if name in METRICS else len(order), name))
    known = [(metric, detail.newest[name]) for name in names if (metric := find_metric(name))]
    return [
        Paragraph.of(f" {metric.label:<22}{format_metric(metric.name, value):>10} {_unit(metric.name)}".rstrip())
        for metric, value in known
    ]


def _unit(name: str) -> str:
    metric = find_metric(name)
    return "" if metric is None or metric.unit in ("share", "reward") else metric.unit


def _clock(time_us: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(time_us / 1e6))


def _ran(row: wire.RunRow, now_us: int) -> str:
    return elapsed_words(row, now_us) or "not yet"
