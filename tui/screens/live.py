"""The live screen: the run's curves, an answer while it is written, and the answers scored last.

Which answer is read, and for how long, is decided in `tui.reading`; its score comes once it is stored, and its turns
are marked then. Deliberately left out: other metrics than the four headlines, and the other answers to the prompt
(`tui.screens.group`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.widget import Widget

from ponder import metrics, wire
from ponder.event_text import format_accuracy, measured
from ponder.events import Outcome
from ponder.metrics import METRICS, format_metric, is_evaluation
from ponder.plot_text import Curve, Frame, mark_sign
from tui import actions
from tui.answers import (
    LEGEND,
    answer_paragraphs,
    prompt_paragraph,
    reward_words,
    row_count,
    text_paragraphs,
    verdict_sign,
)
from tui.axes import value_range
from tui.feed import STEPS_KEPT, Stream, StreamKey
from tui.reading import Reading
from tui.screens.frame import ConsoleScreen
from tui.screens.text_line import Part, TextLine
from tui.terms import judge_legend, marks_cell, outcome_style
from tui.widgets import BrailleChart, Cell, Column, LineView, ListRow, ListSource, Paragraph, VirtualList
from tui.widgets.emptiness import ASKING

BEST_SHOWN = 20
SCORED_ROWS, LEAST_PAGE = 200, 20
SMOOTHING = 0.8
GROUPS_LOOKED_AT = 256

NO_SCORES = "scored answers appear here, newest first"
SCORED_COLUMNS = (
    Column("step", 6, "right"),
    Column("answer", 7, "right", drop=2),
    Column("reward", 6, "right"),
    Column("adv", 6, "right"),
    Column("tokens", 6, "right", drop=3),
    Column("turns", 8),
    Column("text", 0, drop=1),
)


class LiveScreen(ConsoleScreen):
    """See the module."""

    screen_name: ClassVar[str] = "live"
    AUTO_FOCUS: ClassVar[str | None] = "#text"
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("live")]

    def __init__(self) -> None:
        super().__init__()
        self._run = ""
        self._attempt = 0
        self._step = 0
        self._curves: dict[str, dict[int, float]] = {}
        self._interventions: list[tuple[int, str]] = []
        self._samples: list[wire.StoredRollout] = []
        self._rows: list[ListRow] = []
        self._best: list[wire.StoredRollout] = []
        self._scored: dict[StreamKey, wire.StoredRollout] = {}
        self._groups: dict[tuple[int, int], int] = {}
        self._reading = Reading()
        self._page = SCORED_ROWS
        self._pulls = 0
        self._charted: tuple[object, ...] = ()
        """After which pull the charts were made, and how wide they were."""
        self._listed: list[ListRow] | None = None

    def body(self) -> Iterable[Widget]:
        """Curves above; the text and the list below, or beside each other where there is room."""
        with Horizontal(id="charts"):
            for name in metrics.HEADLINES:
                yield BrailleChart(id=f"chart-{name.replace('/', '-')}", ascii=self.console.is_ascii)
        yield TextLine(id="measured")
        with Container(id="below"):
            with Vertical(id="reading"):
                yield TextLine(id="reading-head", rule=self._rule)
                yield LineView(follow=True, id="text", empty="  the first answer appears here as it is written")
            with Vertical(id="scored"):
                yield TextLine(id="scored-head", rule=self._rule)
                yield VirtualList(SCORED_COLUMNS, id="scored-list", empty=NO_SCORES, follow_first=True)

    @property
    def _rule(self) -> str:
        return "-" if self.console.is_ascii else "─"

    # -- data --

    async def pull(self) -> None:
        """Curves after what is known, the newest scored answers, and the scores of the texts being shown."""
        row = self.console.row
        if row is None:
            return
        if (row.name, row.attempt) != (self._run, self._attempt) or row.step < self._step:
            self._forget(row)
        self._step = row.step
        newest = min((max(curve) for name, curve in self._curves.items() if curve and _is_each_step(name)), default=-1)
        # The newest step is asked for again: its evaluation comes after its own metrics.
        curves = await self.console.ask(
            wire.GetMetrics(row.name, list(metrics.HEADLINES), after_step=max(newest - 1, -1)), wire.Curves
        )
        for name, points in curves.curves.items():
            self._curves.setdefault(name, {}).update(points)
        self._interventions = curves.marks if newest < 0 else _merged(self._interventions, curves.marks)
        await self._pull_samples(row.name)
        if row.state.is_over and not self._best:
            request = wire.GetAha(row.name, Outcome.RESCUED, "best", BEST_SHOWN)
            self._best = (await self.console.ask(request, wire.Aha)).traces
        elif not row.state.is_over:
            self._best = []
        await self._pull_scores(row.name)
        self._pulls += 1

    async def _pull_samples(self, run: str) -> None:
        """The newest scored answers: about as many as are new, or all where no known one is among them."""
        page = (await self.console.ask(wire.GetSamples(run, limit=self._page), wire.Samples)).samples
        known = self._samples[0].id if self._samples else None
        place = next((place for place, stored in enumerate(page) if stored.id == known), None)
        if place is None and self._page < SCORED_ROWS:
            self._page = SCORED_ROWS
            await self._pull_samples(run)
        elif place is None:
            self._take_samples(page)
        else:
            self._page = max(LEAST_PAGE, min(2 * place, SCORED_ROWS))
            if place:
                self._take_samples([*page[:place], *self._samples][:SCORED_ROWS])

    def _take_samples(self, samples: list[wire.StoredRollout]) -> None:
        """Rows are made once for an answer, not for every picture: at ten a second that would be most of the work."""
        self._samples = samples
        known = {row.key: row for row in self._rows}
        self._rows = [known.get(str(stored.id)) or _scored_row(stored) for stored in samples]

    def _forget(self, row: wire.RunRow) -> None:
        """Another run, or the same one gone back to a checkpoint: begin anew."""
        self._reading.forget()
        self._best = []
        self._take_samples([])
        if row.name == self._run:
            self.console.streams.clear()  # what was written after that checkpoint never happened
        self._run, self._attempt = row.name, row.attempt
        self._curves, self._scored, self._groups, self._interventions = {}, {}, {}, []

    async def _pull_scores(self, run: str) -> None:
        """Bring the scores of the streamed texts in view that are finished and not scored yet."""
        wanted = [key for key in self._reading.in_view(self.console.streams) if key not in self._scored]
        for step in sorted({key[0] for key in wanted}):
            if any((key[0], key[1]) not in self._groups for key in wanted if key[0] == step):
                rows = (await self.console.ask(wire.GetGroups(run, step, limit=GROUPS_LOOKED_AT), wire.Groups)).groups
                self._groups.update({(row.step, row.group): row.id for row in rows})
        for place in sorted({(key[0], key[1]) for key in wanted} & set(self._groups)):
            detail = await self.console.ask(wire.GetGroup(self._groups[place]), wire.GroupDetail)
            for stored in detail.rollouts:
                self._scored[(stored.step, stored.group, stored.rollout.index)] = self.console.counted(stored)
        oldest = (self.console.streams.newest_step or 0) - STEPS_KEPT
        keep = self._reading.watched[0] if self._reading.watched else oldest
        self._scored = {key: value for key, value in self._scored.items() if key[0] >= oldest or key[0] == keep}
        self._groups = {key: value for key, value in self._groups.items() if key[0] >= oldest or key[0] == keep}

    # -- keys --

    def action_live_next(self) -> None:
        """The next of the streamed answers."""
        self._turn(1)

    def action_live_previous(self) -> None:
        """The previous one."""
        self._turn(-1)

    def _turn(self, by: int) -> None:
        if self._reading.turn(self.console.streams, by, time.monotonic()):
            self.query_one("#text", LineView).follow()
            self.paint()
            self.console.want()
        else:
            self.console.say("no answer is being written just now")

    def action_live_hold(self) -> None:
        """Keep this answer, or follow again."""
        self._reading.is_held = not self._reading.is_held
        self.paint()

    async def action_live_open(self) -> None:
        """Compare the group of the answer under the cursor, or of the text being read."""
        key = self.query_one("#scored-list", VirtualList).cursor_key
        focused = self.focused
        stored = self._scored.get(self._reading.watched) if self._reading.watched is not None else None
        if focused is not None and focused.id == "text" and stored is not None:
            await self._compare(stored.group_id, stored.rollout.index)
        elif key is not None:
            chosen = next((stored for stored in self._samples if str(stored.id) == key), None)
            if chosen is not None:
                await self._compare(chosen.group_id, chosen.rollout.index)

    async def on_virtual_list_row_selected(self, _: VirtualList.RowSelected) -> None:
        """Enter on a row."""
        await self.action_live_open()

    def copied(self) -> tuple[str, str] | None:
        """The answer being read, or that of the row under the cursor."""
        focused, watched = self.focused, self._reading.watched
        if focused is not None and focused.id == "scored-list":
            key = self.query_one("#scored-list", VirtualList).cursor_key
            return next((("the answer", row.rollout.text) for row in self._samples if str(row.id) == key), None)
        if watched is None:
            return None
        stored, stream = self._scored.get(watched), self.console.streams.find(watched)
        if stored is not None:
            return "the answer", stored.rollout.text
        return ("the answer as far as it is written", stream.text) if stream is not None else None

    async def _compare(self, group_id: int, index: int) -> None:
        from tui.screens.group import GroupScreen  # the two screens lead to each other

        await self.console.show_screen("group")
        if isinstance(self.console.shown, GroupScreen):
            self.console.shown.look_at(group_id, index)

    # -- painting --

    def paint(self) -> None:
        """Everything; the widgets repaint only what differs."""
        if not self.is_ready:
            return
        is_over = self.console.row is not None and self.console.row.state.is_over
        if self._reading.choose(self.console.streams, time.monotonic(), is_over):
            self.query_one("#text", LineView).follow()
        self._paint_charts()
        self._paint_measured()
        self._paint_reading()
        self._paint_scored()

    def _paint_charts(self) -> None:
        """Once a pull: at ten pictures a second they would be most of the work."""
        row = self.console.row
        charts = {name: self.query_one(f"#chart-{name.replace('/', '-')}", BrailleChart) for name in metrics.HEADLINES}
        charted = (self._pulls, self._run, *(chart.size.width for chart in charts.values()))
        if charted == self._charted:
            return
        self._charted = charted
        last = max([1, *(max(curve) for curve in self._curves.values() if curve)])
        marks = {float(step): mark_sign(what) for step, what in self._interventions}
        for name, chart in charts.items():
            metric = METRICS[name]
            points = sorted(self._curves.get(name, {}).items())
            scale = 100.0 if metric.is_share else 1.0
            latest = row.headlines.get(name) if row is not None else None
            values = [value * scale for _, value in points]
            smoothing = SMOOTHING if _is_each_step(name) and len(points) > 8 else 0.0
            unit = f" {metric.unit}" if metric.unit == "tokens" else ""
            chart.set_curves(
                [Curve([(float(step), value * scale) for step, value in points], metric.label, smoothing)],
                frame=Frame(0.0, float(last), *value_range(values, metric.is_share), marks),
                title=_title(metric.label, chart.size.width),
                latest="" if latest is None else format_metric(name, latest) + unit,
                judges=[self.console.judges.of_curve(name)],
            )

    def _paint_measured(self) -> None:
        detail = self.console.detail
        evaluations = detail.evaluations if detail is not None else []
        line = self.query_one("#measured", TextLine)
        found = measured(evaluations[-1][1]) if evaluations else []
        if not found:
            line.show([Part(words := " held-out accuracy: not measured yet", "dim")], self._legend(words))
            return
        if metrics.EVAL_ACCURACY not in evaluations[-1][1]:
            what, said = found[0]
            after = Part(f"after step {evaluations[-1][0]:,}", "dim", 2)
            line.show([Part(words := f" {what} {said}", "title"), after], self._legend(words))
            return
        first_step, first = evaluations[0]
        step, newest = evaluations[-1]
        began = f"{first.get(metrics.EVAL_ACCURACY, 0.0):.1%} -> " if step > first_step else ""
        problems = newest.get(metrics.EVAL_PROBLEMS)
        count = f" on {problems:.0f} problems" if problems else ""
        extras = [
            Part(f"{METRICS[name].label} {format_metric(name, newest[name])}", "plain", 4 + number)
            for number, name in enumerate((metrics.EVAL_RESCUED, metrics.EVAL_HARMED, metrics.EVAL_STEP_TRUTH))
            if name in newest
        ]
        line.show(
            [
                Part(words := f" held-out accuracy {began}{format_accuracy(newest)}", "title"),
                Part(f"after step {step:,}{count}", "dim", 2),
                *extras,
            ],
            self._legend(words),
        )

    def _legend(self, words: str) -> list[Part]:
        """What the signs behind the charts' names mean, on the right of these words."""
        room = self.size.width - len(words) - 3
        return [Part(judge_legend(self.query_one("#charts").query(BrailleChart), room), "dim", 1)]

    def _paint_reading(self) -> None:
        head, view = self.query_one("#reading-head", TextLine), self.query_one("#text", LineView)
        watched, streams = self._reading.watched, self.console.streams
        held = [Part("HELD", "warning")] if self._reading.is_held else []
        stream = streams.find(watched) if watched else None
        stored = self._scored.get(watched) if watched else None
        if watched is None or (stream is None and stored is None):
            head.show([Part(self._waiting_words(), "title"), *held])
            if watched is None:
                if view.following:
                    view.action_scroll_home()  # a finished text is read from its beginning
                view.set_document(self._newest_scored(view))
            return
        step, group, index = watched
        count = len(streams.of_step(step))
        state = "scored" if stored is not None else "finished" if stream is None or stream.is_done else "being written"
        place = f" ({self._reading.place + 1} of {count})" if count else ""
        head.show(
            [
                Part(f"step {step:,}", "title"),
                Part(f"answer {group}.{index}{place}", "title", 1),
                *(held or [Part(state, "running")]),
            ],
            [Part(LEGEND, "dim", 2)],
        )
        view.set_document(self._document(stream, stored, view))

    def _waiting_words(self) -> str:
        row, progress = self.console.row, self.console.progress
        if row is None:
            return "no run"
        if row.state.is_over and self._best:
            return f"{row.state}: answers that reflection rescued"
        if row.state.is_over or progress is None:
            return f"{row.state}: the answer scored last" if self._samples else str(row.state)
        words = {"evaluate": "measuring on held-out problems", "load": "loading the model"}
        is_counted = progress.total > 0 and progress.total != row.steps
        total = f" {progress.done:,} of {progress.total:,}" if is_counted else ""
        return f"{words.get(progress.phase, progress.phase)}{total}"

    def _newest_scored(self, view: LineView) -> list[Paragraph]:
        """What to read while nothing is being written: the best rescues of a run that is over, else what came last."""
        if not self.is_pulled:
            return [Paragraph.of(ASKING, style="dim")]
        row = self.console.row
        if not self._samples and row is not None and (row.reason or row.queue_place):
            words = row.reason or f"place {row.queue_place} in the queue; it starts when a device is free"
            return [Paragraph.of(f"{row.state}: {words}", style="bad" if row.state.is_over else "plain", sign="!")]
        document: list[Paragraph] = []
        width, room = max(1, view.size.width - 4), view.size.height
        prompt = ""
        for stored in self._best or self._samples:
            asked = [prompt_paragraph(stored.prompt)] if stored.prompt != prompt else []
            prompt = stored.prompt
            more = [*asked, *answer_paragraphs(self.console.counted(stored).rollout), Paragraph.of("")]
            if document and not self._best and row_count([*document, *more], width) - 1 > room:
                break
            document += more
        return document[:-1]

    def _document(self, stream: Stream | None, stored: wire.StoredRollout | None, view: LineView) -> list[Paragraph]:
        """The watched answer, and below it, while there is room, the others of its step."""
        width, room = max(1, view.size.width - 4), view.size.height
        document = _answer(stream, stored)
        used = row_count(document, width)
        watched = self._reading.watched
        for other in self._reading.others(self.console.streams):
            is_same_prompt = watched is not None and other.key[1] == watched[1]
            more = [Paragraph.of(""), *_answer(other, self._scored.get(other.key), is_same_prompt)]
            used += row_count(more, width)
            if used > room:
                break
            document += more
        return document

    def _paint_scored(self) -> None:
        row = self.console.row
        total = f"{self.console.detail.rollouts:,} answers so far" if self.console.detail is not None else ""
        self.query_one("#scored-head", TextLine).show([Part("scored last", "title")], [Part(total, "dim", 1)])
        rows = self._rows if row is not None else []
        if rows is not self._listed:
            self._listed = rows
            self.query_one("#scored-list", VirtualList).set_source(ListSource(rows))


def _scored_row(stored: wire.StoredRollout) -> ListRow:
    rollout = stored.rollout
    style = "good" if rollout.is_correct else "plain" if rollout.reward is not None else "warning"
    return ListRow(
        str(stored.id),
        (
            f"{stored.step:,}",
            f"{stored.group}.{rollout.index}",
            Cell(f"{verdict_sign(rollout)} {reward_words(rollout)}", style),
            f"{rollout.advantage:+.2f}",
            f"{rollout.length_tokens:,}{'!' if rollout.finish == 'truncated' else ' '}",
            Cell(marks_cell(rollout.marks), outcome_style(rollout.marks)),
            rollout.text.strip(),
        ),
    )


def _answer(stream: Stream | None, stored: wire.StoredRollout | None, is_prompt_known: bool = False) -> list[Paragraph]:
    """One answer, with its prompt unless that stands above: scored if it is, else as far as it is written."""
    if stored is not None:
        asked, text = stored.prompt, answer_paragraphs(stored.rollout)
    elif stream is not None:
        asked, text = stream.prompt, text_paragraphs(stream.text + ("" if stream.is_done else "_"))
    else:
        return []
    return text if is_prompt_known else [prompt_paragraph(asked), *text]


def _is_each_step(name: str) -> bool:
    """Whether a metric comes with every step, not with evaluations only."""
    return not is_evaluation(name)


def _title(label: str, width: int) -> str:
    """The label, or its last word where the value needs the room."""
    return label if len(label) + 8 <= width else label.split()[-1]


def _merged(old: list[tuple[int, str]], new: list[tuple[int, str]]) -> list[tuple[int, str]]:
    return sorted(set(old) | set(new))
