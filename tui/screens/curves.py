"""Any of a run's metrics as curves, several at once, several runs over each other, with what was changed as marks.

    head     the runs with their letters, how the curves are smoothed, what x is
    charts   each with its name and its values at the cursor; `>` stands before the one in focus
    foot     the cursor's step, and what the mark there is

Where a run has more steps than the screen has columns a column stands for several: it shows their least and greatest
value. Which metrics are shown, and how, is kept between sessions. Deliberately left out: what the metrics mean
(`ponder.metrics`, shown in the chooser), and comparing runs in numbers (`tui.screens.compare`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual import events
from textual.binding import BindingType
from textual.containers import Container
from textual.widget import Widget

from ponder import metrics, wire
from ponder.event_text import format_duration
from ponder.judged import RunJudges, judges_of
from ponder.metrics import METRICS, REFERENCE_LINES, find_metric, format_metric, is_evaluation, with_lines
from ponder.plot_text import MOST_RUNS, Frame, mark_sign, short_number
from tui import actions
from tui.axes import curve_range
from tui.grid import LEAST_HEIGHT, LEAST_WIDTH, grid_columns
from tui.screens.chooser import Choice, Chooser
from tui.screens.frame import ConsoleScreen
from tui.screens.text_line import Part, TextLine
from tui.series import RunSeries, Window, part_window, whole_window
from tui.terms import CURVE_SIGNS, judge_legend
from tui.view import View
from tui.widgets.curve_chart import CurveChart

MOST_METRICS = 24
MOST_CHARTS = 12
LETTERS = "abcdefgh"
BESIDE = 12
"""Cells of each of the two words on the right of the head: how curves are smoothed, and what x is."""
SMOOTHINGS = (0.0, 0.6, 0.9, 0.99)


class CurvesScreen(ConsoleScreen):
    """See the module."""

    screen_name: ClassVar[str] = "curves"
    AUTO_FOCUS: ClassVar[str | None] = "#curve-0"
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("curves")]

    def __init__(self) -> None:
        super().__init__()
        self._metrics: list[str] = []
        self._logs: list[str] = []
        self._smoothing = 0.0
        self._is_time = False
        self._others: list[str] = []
        self._rows: dict[str, wire.RunRow] = {}
        self._judges: dict[str, RunJudges] = {}
        """Who judges each of the other runs."""
        self._series: dict[str, RunSeries] = {}
        self._view = View()
        self._page = 0
        self._drawn: tuple[object, ...] = ()
        self._large: str | None = None
        """The metric that is shown alone."""

    def body(self) -> Iterable[Widget]:
        """Head, charts, foot."""
        yield TextLine(id="curves-head")
        with Container(id="curves"):
            for number in range(MOST_CHARTS):
                yield CurveChart(id=f"curve-{number}", ascii=self.console.is_ascii)
        yield TextLine(id="curves-foot")

    def on_mount(self) -> None:
        """What was shown the last time."""
        memory = self.console.memory
        self._metrics = memory.recall("curves.metrics", list(metrics.HEADLINES))[:MOST_METRICS]
        self._logs = memory.recall("curves.log", [])
        self._smoothing = memory.recall("curves.smoothing", SMOOTHINGS[1])
        if self._smoothing not in SMOOTHINGS:
            self._smoothing = 0.0
        self._is_time = memory.recall("curves.time", False)
        super().on_mount()

    # -- what is shown --

    def overlay(self, runs: Sequence[str]) -> None:
        """Lay these runs over the watched one."""
        self._others = [name for name in runs if name != self.console.run_name][: MOST_RUNS - 1]
        self.console.want()

    def show_metric(self, name: str) -> None:
        """Show this metric alone, and keep it among the chosen ones."""
        if name not in self._metrics:
            self._metrics = [name, *self._metrics][:MOST_METRICS]
            self.console.memory.keep("curves.metrics", self._metrics)
        self._large = name
        self.console.want()

    @property
    def _runs(self) -> list[str]:
        """The runs in the order of their letters; the watched one is the first."""
        watched = [self.console.run_name] if self.console.row is not None else []
        return [*watched, *(name for name in self._others if name not in watched)]

    @property
    def _shown(self) -> list[str]:
        """The metrics of this page."""
        if self._large is not None:
            return [self._large]
        size = self._page_size
        self._page = min(self._page, max(0, math.ceil(len(self._metrics) / size) - 1))
        return self._metrics[self._page * size : (self._page + 1) * size]

    @property
    def _page_size(self) -> int:
        room = self.query_one("#curves").size
        return max(1, min(MOST_CHARTS, (room.width // LEAST_WIDTH) * (room.height // LEAST_HEIGHT)))

    @property
    def _columns(self) -> int:
        """Columns of dots of a chart."""
        return max(20, 2 * (self.query_one("#curve-0").size.width - 6))

    def _window(self, run: str, step: int) -> Window:
        """What has to be known of a run; by the clock, where others' parts are not known, always the whole."""
        is_part = not self._view.is_whole and (not self._is_time or run == self.console.run_name)
        return part_window(*self._view.range, self._columns) if is_part else whole_window(step, self._columns)

    # -- data --

    async def pull(self) -> None:
        """Of each run what is new of the metrics in view."""
        console = self.console
        watched = console.row
        if watched is None:
            return
        for name in self._others:
            if name not in self._rows or not self._rows[name].state.is_over:
                detail = await console.ask(wire.GetRun(name, only_ends=True), wire.RunDetail)
                turned = (await console.ask(wire.GetKnobs(name), wire.KnobTable)).changes
                self._rows[name], self._judges[name] = detail.row, judges_of(detail, turned)
        if watched.name not in self._series:
            self._view = View()  # another run's steps are other places
        self._view.reach(float(watched.step), float(max([watched.step, *(self._rows[n].step for n in self._others)])))
        self._series = {name: self._series.get(name, RunSeries()) for name in self._runs}
        for name in self._runs:
            row, series = watched if name == watched.name else self._rows[name], self._series[name]
            for request in series.requests(row, with_lines(self._shown), self._window(name, row.step)):
                series.take(request, await console.ask(request, wire.Curves))
            series.caught_up(row)

    # -- keys --

    def action_curves_choose(self) -> None:
        """Choose the metrics that are shown, of all that the runs have."""
        detail = self.console.detail
        known = [*METRICS, *(sorted(set(detail.newest) - set(METRICS)) if detail is not None else [])]
        has = set(detail.newest) if detail is not None else set()
        names = [name for name in known if name in has or name in self._metrics]
        declared = [(name, find_metric(name)) for name in names]
        choices = [Choice(name, metric.label, metric.doc) for name, metric in declared if metric is not None]
        self.app.push_screen(Chooser("a metric", choices, self._metrics, MOST_METRICS), self._take_metrics)

    def _take_metrics(self, names: list[str] | None) -> None:
        if names:
            self._metrics, self._page, self._large = names, 0, None
            self.console.memory.keep("curves.metrics", names)
        self.console.want()

    async def action_curves_runs(self) -> None:
        """Choose the runs that lie over the watched one."""
        found = await self.console.try_ask(wire.ListRuns(limit=500), wire.Runs)
        if found is None:
            return
        choices = [
            Choice(row.name, f"{row.state}, step {row.step:,}", row.title)
            for row in found.runs
            if row.name != self.console.run_name
        ]
        if not choices:
            self.console.say("there is no other run to lay over this one")
            return
        self.app.push_screen(Chooser("a run", choices, self._others, MOST_RUNS - 1), self._take_runs)

    def _take_runs(self, names: list[str] | None) -> None:
        self.overlay(names or [])

    def action_curves_smooth(self) -> None:
        """Smooth more, or not at all."""
        self._smoothing = SMOOTHINGS[(SMOOTHINGS.index(self._smoothing) + 1) % len(SMOOTHINGS)]
        self.console.memory.keep("curves.smoothing", self._smoothing)
        self.paint()

    def action_curves_axis(self) -> None:
        """Steps or wall time along x."""
        self._is_time = not self._is_time
        self.console.memory.keep("curves.time", self._is_time)
        self.console.want()

    def action_curves_log(self) -> None:
        """The chart in focus by the logarithm, or plainly again."""
        name = self._focused
        if name is None:
            return
        self._logs = [other for other in self._logs if other != name] if name in self._logs else [*self._logs, name]
        self.console.memory.keep("curves.log", self._logs)
        self.paint()

    def action_curves_open(self) -> None:
        """One chart alone, or all again."""
        self._large = None if self._large is not None else self._focused
        self.query_one("#curve-0").focus()
        self.console.want()

    def action_curves_more(self) -> None:
        """The next page of charts."""
        pages = math.ceil(len(self._metrics) / self._page_size)
        if pages < 2 or self._large is not None:
            self.console.say("all chosen metrics are in view; `m` chooses")
            return
        self._page = (self._page + 1) % pages
        self.console.want()

    def action_curves_closer(self) -> None:
        """Half as many steps, around the cursor."""
        self._view.zoom(0.5)
        self.console.want()

    def action_curves_wider(self) -> None:
        """Twice as many."""
        self._view.zoom(2.0)
        self.console.want()

    def action_curves_earlier(self) -> None:
        """Half a view back."""
        self._pan(-0.5)

    def action_curves_later(self) -> None:
        """Half a view on."""
        self._pan(0.5)

    def _pan(self, share: float) -> None:
        if self._view.pan(share):
            self.console.want()
        else:
            self.console.say("everything is in view; `z` zooms in")

    def action_curves_left(self) -> None:
        """The cursor a column back."""
        self._moved(self._view.move(-1, self._columns // 2))

    def action_curves_right(self) -> None:
        """The cursor a column on."""
        self._moved(self._view.move(1, self._columns // 2))

    def _moved(self, has_moved_on: bool) -> None:
        if has_moved_on:
            self.console.want()
        self.paint()

    def action_curves_next_mark(self) -> None:
        """The cursor to the next mark."""
        self._go_to_mark(1)

    def action_curves_last_mark(self) -> None:
        """The cursor to the mark before it."""
        self._go_to_mark(-1)

    def _go_to_mark(self, direction: int) -> None:
        places = sorted({float(step) for step, _, _ in self._marks()})
        here = math.inf if self._view.cursor is None else self._view.cursor
        found = [step for step in places if (step > here if direction > 0 else step < here)]
        if found:
            self._moved(self._view.point(found[0] if direction > 0 else found[-1]))
        else:
            self.console.say("there is no mark further on" if direction > 0 else "there is no mark before this")

    def on_curve_chart_pointed(self, event: CurveChart.Pointed) -> None:
        """A click into a chart."""
        series = self._series.get(self.console.run_name)
        step = series.step_at(event.x) if self._is_time and series is not None else event.x
        self._moved(self._view.point(float(round(step))))

    def on_descendant_focus(self, _: events.DescendantFocus) -> None:
        """Another chart is in focus."""
        self.paint()

    def go_back(self) -> bool:
        """From one chart to all, from the cursor to the newest, from a part to the whole."""
        if self._large is not None:
            self._large = None
        elif self._view.cursor is not None:
            self._view.cursor = None
        elif not self._view.is_whole:
            self._view.show_all()
        else:
            return False
        self.console.want()
        return True

    @property
    def _focused(self) -> str | None:
        """The metric whose chart is in focus."""
        focused = self.focused
        number = int(focused.id.removeprefix("curve-")) if isinstance(focused, CurveChart) and focused.id else 0
        shown = self._shown
        return shown[number] if number < len(shown) else None

    # -- painting --

    def paint(self) -> None:
        """Everything; the widgets repaint only what differs."""
        if not self.is_ready:
            return
        shown = self._shown
        self._lay_out(len(shown))
        drawn = self._look(shown)
        if drawn != self._drawn:
            self._drawn = drawn
            self._paint_charts(shown)
        self._paint_head()
        self._paint_foot()

    def _paint_charts(self, shown: Sequence[str]) -> None:
        frame_marks, (low, high), cursor = self._frame_marks(), self._x_view(), self._x_cursor()
        for number in range(MOST_CHARTS):
            chart = self.query_one(f"#curve-{number}", CurveChart)
            if number < len(shown):
                frame = Frame(low, high, marks=frame_marks, cursor=cursor, x_words=self._x_words)
                self._paint_chart(chart, shown[number], frame)

    def _look(self, shown: Sequence[str]) -> tuple[object, ...]:
        """Everything that decides how the charts look: while it is the same there is nothing to draw."""
        known = tuple((run, series.changes) for run, series in self._series.items())
        view, how = self._view, (self._smoothing, self._is_time, tuple(self._logs))
        judged = tuple(self._judges_of(run).reward for run in self._runs)
        return known, tuple(shown), view.range, view.cursor, how, self._focused, self.query_one("#curves").size, judged

    def _lay_out(self, count: int) -> None:
        """As many charts as there are metrics, in rows and columns that suit the room."""
        room = self.query_one("#curves")
        columns = grid_columns(count, room.size.width, room.size.height)
        if room.styles.grid_size_columns != columns:
            room.styles.grid_size_columns = columns
        for number in range(MOST_CHARTS):
            chart = self.query_one(f"#curve-{number}")
            if chart.display != (number < count):
                chart.display = number < count
        if isinstance(self.focused, CurveChart) and not self.focused.display:
            self.query_one("#curve-0").focus()

    def _paint_chart(self, chart: CurveChart, name: str, frame: Frame) -> None:
        metric = find_metric(name)
        is_share = metric is not None and metric.is_share
        is_log = name in self._logs
        smoothing = self._smoothing if not is_evaluation(name) else 0.0
        curves, values, judges = [], [], []
        is_alone = len(self._runs) < 2
        scale = 100.0 if is_share else 1.0
        for letter, run in zip(LETTERS, self._runs, strict=False):
            series = self._series.get(run)
            if series is None:
                continue
            sign = "" if is_alone else letter
            curve = series.curve(name, smoothing=smoothing, scale=scale, is_time=self._is_time, sign=sign)
            value = series.value_at(name, self._step_of(series))
            curves.append(curve)
            judges.append(self._judges_of(run).of_curve(name))
            values.append("-" if value is None else format_metric(name, value))
        line, sign, _ = REFERENCE_LINES.get(name, ("", "", ""))
        series = self._series.get(self.console.run_name)
        if is_alone and series is not None and (value := series.value_at(line, self._step_of(series))) is not None:
            curves.append(series.curve(line, smoothing=0.0, scale=scale, is_time=self._is_time, sign=sign))
            judges.append(judges[0])
            values.append(format_metric(line, value))
        low, high = frame.x_low or 0.0, frame.x_high or 0.0
        heights = [y for curve in curves for x, y in curve.points if low <= x <= high]
        heights += [y for curve in curves for x, *ends in curve.bands if low <= x <= high for y in ends]
        y_low, y_high = curve_range(heights, is_share, is_log)
        focus = "> " if self._focused == name and len(self._shown) > 1 else ""
        unit = f", {metric.unit}" if metric is not None and metric.unit not in ("", "share", "reward") else ""
        label = name if metric is None else f"{metric.label}{', %' if is_share else unit}"
        chart.set_curves(
            curves,
            frame=Frame(low, high, y_low, y_high, frame.marks, frame.cursor, is_log, frame.x_words),
            title=f"{focus}{label}{' (log)' if is_log else ''}",
            values=values,
            judges=judges,
        )

    def _judges_of(self, run: str) -> RunJudges:
        return self.console.judges if run == self.console.run_name else self._judges.get(run, RunJudges())

    def _step_of(self, series: RunSeries) -> float:
        """Where the cursor is in a run: at its own step, or by the clock at the same time since its beginning."""
        if self._view.cursor is None:
            return math.inf
        watched = self._series.get(self.console.run_name)
        if not self._is_time or watched is None or watched is series:
            return self._view.cursor
        return series.step_at(watched.seconds_at(self._view.cursor))

    def _x_view(self) -> tuple[float, float]:
        low, high = self._view.range
        if not self._is_time:
            return low, high
        watched = self._series.get(self.console.run_name)
        if not self._view.is_whole and watched is not None:
            return watched.seconds_at(low), max(watched.seconds_at(high), watched.seconds_at(low) + 1.0)
        return 0.0, max([1.0, *(series.seconds_at(math.inf) for series in self._series.values())])

    def _x_cursor(self) -> float | None:
        watched = self._series.get(self.console.run_name)
        if self._view.cursor is None or watched is None:
            return None
        return watched.seconds_at(self._view.cursor) if self._is_time else self._view.cursor

    def _x_words(self, x: float) -> str:
        return format_duration(x) if self._is_time else short_number(x)

    def _marks(self) -> list[tuple[int, str, str]]:
        """(step, what, run) of every mark, those of the watched run by its own steps."""
        return sorted((step, what, run) for run, series in self._series.items() for step, what in series.marks)

    def _frame_marks(self) -> dict[float, str]:
        places: dict[float, str] = {}
        for run, series in self._series.items():
            for step, what in series.marks:
                x = series.seconds_at(step) if self._is_time else float(step)
                if run == self.console.run_name or x not in places:
                    places[x] = mark_sign(what)
        return places

    def _paint_head(self) -> None:
        runs, smoothing = self._runs, self._smoothing
        names = [Part(f" {name}" if len(runs) < 2 else f" {letter} {name}", "title", 20 + number if number else 0)
                 for number, (letter, name) in enumerate(zip(LETTERS, runs, strict=False))]  # fmt: skip
        pages = math.ceil(len(self._metrics) / self._page_size)
        low, high = self._view.range
        window = self._window(self.console.run_name, int(self._view.here))
        room = self.size.width - sum(len(part.text) + 2 for part in names) - 2 * BESIDE
        legend = judge_legend(self.query(CurveChart), room)
        self.query_one("#curves-head", TextLine).show(
            names or [Part(" no run", "dim")],
            [
                Part(f"page {self._page + 1}/{pages}" if pages > 1 and self._large is None else "", "warning", 2),
                Part(f"{window.span:,} steps a point" if window.span > 1 else "", "dim", 4),
                Part(legend, "dim", 30),
                Part("" if self._view.is_whole else f"steps {low:,.0f} to {high:,.0f}", "plain", 3),
                Part(f"smoothing {smoothing:g}" if smoothing else "not smoothed", "dim", 5),
                Part(f"x: {'time' if self._is_time else 'step'} ", "dim", 6),
            ],
        )

    def _paint_foot(self) -> None:
        foot, marks = self.query_one("#curves-foot", TextLine), self._marks()
        if self._view.cursor is None:
            signs = sorted({mark_sign(what) for _, what, _ in marks})
            words = ", ".join(f"{sign} {CURVE_SIGNS[sign]}" for sign in signs)
            count = f"{len(marks)} mark{'s' if len(marks) != 1 else ''}"
            here = f" {count}: {words}" if marks else " nothing was turned, and the run never went back: no marks"
            foot.show([Part(here)], [Part("p goes to them " if marks else "", "dim", 1)])
            return
        low, high = self._view.range
        near = 1.0 * (high - low) / max(1, self._columns)
        found = [mark for mark in marks if abs(mark[0] - self._view.cursor) <= max(0.5, near)]
        parts = [Part(f" step {self._view.cursor:,.0f}", "title")]
        watched = self._series.get(self.console.run_name)
        if watched is not None and (seconds := watched.seconds_at(self._view.cursor)):
            parts.append(Part(f"after {format_duration(seconds)}", "dim", 9))
        letters = dict(zip(self._runs, LETTERS, strict=False))
        for number, (step, what) in enumerate(dict.fromkeys((step, what) for step, what, _ in found)):
            owners = [letters[run] for other_step, other, run in found if (other_step, other) == (step, what)]
            whose = f" ({', '.join(sorted(owners))})" if len(letters) > 1 else ""
            at = f" at step {step:,}" if step != self._view.cursor else ""
            parts.append(Part(f"{mark_sign(what)} {self._in_full(step, what)}{at}{whose}", "warning", number))
        foot.show(parts, [Part("" if found else "no mark here ", "dim", 10)])

    def _in_full(self, step: int, what: str) -> str:
        """What the watchdog found, where it was the watched run's; every other mark says all there is."""
        rule = what.removeprefix("watchdog: ").partition(" ")[0]
        firings = self.console.detail.firings if self.console.detail is not None and mark_sign(what) == "w" else []
        return next((f"watchdog: {said}" for at, said in firings if at == step and said.startswith(rule)), what)
