"""All runs: which learns, which waits, how far each came, and why one stopped.

Runs are marked (`x`) to be laid side by side, and found by words of what the list says of them. Deliberately left out:
the comparison itself (`tui.screens.compare`), and starting a run (`ponder run RECIPE`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal
from textual.widget import Widget
from textual.widgets import Input

from ponder import metrics, wire
from ponder.event_text import format_accuracy, format_ago, format_duration, step_of
from ponder.metrics import METRICS, find_metric, format_metric
from ponder.plot_text import MOST_RUNS, short_number, sparkline
from tui import actions
from tui.screens.frame import ConsoleScreen, elapsed_words
from tui.screens.text_line import Part, TextLine
from tui.terms import STATES
from tui.widgets import Cell, Column, LineView, ListRow, ListSource, Paragraph, Span, VirtualList

SPARK_CELLS = 12
STEP_CELLS = 11
COLUMNS = (
    Column("", 1),
    Column("", 1),
    Column("run", 20),
    Column("state", 10),
    Column("step", STEP_CELLS, "right"),
    Column("reward", 6, "right", drop=2),
    Column("accuracy", 8, "right", drop=1),
    Column("length", 6, "right", drop=6),
    Column("turns", 6, "right", drop=7),
    Column("heard", 16, "right", drop=5),
    Column("reward curve", SPARK_CELLS, drop=3),
    Column("what", 0, drop=4),
)


NO_RUNS = "no runs yet: `ponder demo` or `ponder run RECIPE` starts one"


class FilterLine(Input):
    """The line in which words are typed; they are looked for while they are."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "drop", "everything", show=False),
        Binding("down", "keep", "to the list", show=False),
    ]

    def action_keep(self) -> None:
        """To the list, with the words."""
        if isinstance(self.screen, RunsScreen):
            self.screen.close_filter()

    def action_drop(self) -> None:
        """To the list, with every run."""
        self.value = ""
        self.action_keep()


class RunsScreen(ConsoleScreen):
    """See the module."""

    screen_name: ClassVar[str] = "runs"
    rests: ClassVar[bool] = False
    placed_in = "#runs"
    AUTO_FOCUS: ClassVar[str | None] = "#runs"
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("runs")]

    def __init__(self) -> None:
        super().__init__()
        self._runs: list[wire.RunRow] = []
        self._details: dict[str, wire.RunDetail] = {}
        self._marked: list[str] = []
        self._words = ""

    def body(self) -> Iterable[Widget]:
        """The list, and below it what is known about the run under the cursor."""
        with Horizontal(id="filter"):
            yield TextLine(id="filter-name")
            yield FilterLine(placeholder="words of a name, a title, a state", id="filter-words", compact=True)
        yield VirtualList(COLUMNS, id="runs", empty=NO_RUNS)
        yield TextLine(id="run-head", rule="-" if self.console.is_ascii else "─")
        with Container(id="run-below"):
            yield LineView(id="run-facts", gutter=False)
            yield LineView(id="run-newest", gutter=False)

    def on_mount(self) -> None:
        """With the words of the last time."""
        self._words = self.console.memory.recall("runs.filter", "")
        super().on_mount()

    async def pull(self) -> None:
        """The newest runs, and all about the one under the cursor."""
        shown = self.query_one("#runs", VirtualList)
        self._runs = (await self.console.ask(wire.ListRuns(limit=500), wire.Runs)).runs
        key = shown.cursor_key or (self._runs[0].name if self._runs else "")
        chosen = next((row for row in self._runs if row.name == key), None)
        if chosen is not None and (key not in self._details or self._details[key].row != chosen):
            self._details = {key: await self.console.ask(wire.GetRun(key, only_ends=True), wire.RunDetail)}

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

    def action_runs_mark(self) -> None:
        """Mark the run under the cursor, or take its mark away."""
        key = self.query_one("#runs", VirtualList).cursor_key
        if key in self._marked:
            self._marked.remove(key)
        elif key is not None and len(self._marked) == MOST_RUNS:
            self.console.say(f"{MOST_RUNS} runs are marked already, and more cannot be compared", "warning")
        elif key is not None:
            self._marked.append(key)
            self.query_one("#runs", VirtualList).action_cursor_by(1)
        self.paint()

    async def action_runs_compare(self) -> None:
        """Lay the marked runs side by side, or the one under the cursor beside the one that is marked or watched."""
        chosen = list(self._marked)
        for name in (self.query_one("#runs", VirtualList).cursor_key, self.console.run_name):
            if len(chosen) < 2 and name and name not in chosen:
                chosen.append(name)
        from ponder.compare import compare, request  # with the page 30 ms, which a start need not wait for
        from tui.screens.compare import ComparePage

        if len(chosen) < 2:
            self.console.say("`m` marks a run: two are needed to compare", "warning")
            return
        details: list[wire.RunDetail] = []
        curves: list[wire.Curves] = []
        for name in chosen:
            detail = await self.console.try_ask(wire.GetRun(name), wire.RunDetail)
            found = await self.console.try_ask(request(detail.row), wire.Curves) if detail is not None else None
            if detail is None or found is None:
                return
            details.append(detail)
            curves.append(found)
        self.app.push_screen(ComparePage(compare(details, curves)), self._to_curves)

    async def _to_curves(self, is_for_curves: bool | None) -> None:
        if is_for_curves:
            await self._overlay()

    async def action_runs_overlay(self) -> None:
        """The marked runs as curves over each other."""
        await self._overlay()

    async def _overlay(self) -> None:
        from tui.screens.curves import CurvesScreen  # as the live screen and the group lead to each other

        key = self.query_one("#runs", VirtualList).cursor_key
        chosen = self._marked or ([key] if key is not None else [])
        if len(self._marked) > 1 and self.console.run_name not in chosen:
            await self.console.watch_run(chosen[0])
        await self.console.show_screen("curves")
        if isinstance(self.console.shown, CurvesScreen):
            self.console.shown.overlay(chosen)

    def action_runs_find(self) -> None:
        """Type words that the shown runs have."""
        self.add_class("-filtered")
        line = self.query_one(FilterLine)
        line.value = self._words
        self.set_focus(line)

    @on(Input.Changed)
    def typed(self, event: Input.Changed) -> None:
        """Other words, other runs."""
        if self._words != event.value:
            self._words = event.value
            self.console.memory.keep("runs.filter", self._words)
            self.paint()

    @on(Input.Submitted)
    def entered(self) -> None:
        """The words are complete."""
        self.close_filter()

    def close_filter(self) -> None:
        """Back to the list."""
        self.set_focus(self.query_one("#runs", VirtualList))
        self.paint()
        self.console.want()

    def go_back(self) -> bool:
        """From some runs to all, and from marks to none."""
        if self._words:
            self._words = ""
            self.query_one(FilterLine).value = ""
            self.console.memory.keep("runs.filter", "")
        elif self._marked:
            self._marked = []
        else:
            return False
        self.paint()
        return True

    def paint(self) -> None:
        """The list and the facts."""
        if not self.is_ready:
            return
        runs = self.query_one("#runs", VirtualList)
        found = [row for row in self._runs if fits(row, self._words)]
        self.query_one("#filter-name", TextLine).show(
            [Part(f" / {len(found)} of {len(self._runs)} runs fit:", "title")]
        )
        self.set_class(bool(self._words) or self.query_one(FilterLine).has_focus, "-filtered")
        runs.say_when_empty("no run has these words; Esc shows all" if self._runs else NO_RUNS)
        runs.set_source(ListSource([self._row(row) for row in found]))
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
                Cell("x" if row.name in self._marked else "", "title"),
                Cell(word.sign, word.style),
                Cell(row.name, "title" if row.name == self.console.run_name else "plain"),
                Cell(row.state, word.style),
                _steps(row),
                _headline(row, metrics.REWARD_MEAN),
                _headline(row, metrics.EVAL_ACCURACY),
                _headline(row, metrics.LENGTH_MEAN),
                _headline(row, metrics.REFLECT),
                Cell(_heard(row, self.console.now_us()), "warning" if row.stuck else "dim"),
                sparkline(row.spark, SPARK_CELLS, self.console.is_ascii),
                Cell(f"! {row.stuck}", "warning") if row.stuck else row.reason or queue or f"{row.title or row.stage}",
            ),
        )


def fits(row: wire.RunRow, words: str) -> bool:
    """Whether all words are in what the list says of a run."""
    said = f"{row.name} {row.title} {row.state} {row.stage} {row.reason} {row.stuck} {row.forked_from}".lower()
    return all(word in said for word in words.lower().split())


def _steps(row: wire.RunRow) -> str:
    """How far it is, in as many cells as there are."""
    words = step_of(row.step, row.steps, "/")
    return words if len(words) <= STEP_CELLS else f"{short_number(row.step)}/{short_number(row.steps)}"


def _heard(row: wire.RunRow, now_us: int) -> str:
    """When the trainer was heard last, or when it ended; in whole minutes once that is long enough to say."""
    at_us = row.ended_us or row.seen_us
    if at_us is None:
        return "-"
    seconds = (now_us - at_us) / 1e6
    return f"{format_duration(seconds if seconds < 60 else seconds // 60 * 60)} ago".replace(" 0 s", "")


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
        ("answers", f"{detail.rollouts:,} in {step_of(row.step, row.steps)} steps, attempt {row.attempt}"),
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
