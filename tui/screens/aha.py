"""Where answers turn back on themselves: how often, what it did, since when, and the traces.

Above the rates over the run and what each outcome counts; below the traces, and the one under the cursor in full:
beside the list where there is room, else instead of it. A count of marker words is no proof of thought, so every
number here is about what the turn did to the answer; a change of its rate is told with what was turned near it. Of a
game there are finds, too: winning moves that nobody expected. Deliberately left out: comparing two steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.widget import Widget

from ponder import metrics, wire
from ponder.events import Outcome
from ponder.plot_text import Curve, Frame
from ponder.turn_story import ASKED, cause_line, chance_line, chance_of, change_line, span_for, tell_changes
from tui import actions
from tui.answers import answer_paragraphs, find_paragraphs, prompt_paragraph, turn_paragraphs
from tui.axes import value_range
from tui.screens.frame import ConsoleScreen
from tui.screens.help import words_page
from tui.screens.text_line import Part, TextLine
from tui.terms import OUTCOMES
from tui.widgets import BrailleChart, Cell, Column, LineView, ListRow, ListSource, Paragraph, Span, VirtualList

TRACES = 200
ORDERS = {"rescued": "rescued first", "newest": "newest first", "first": "oldest first", "best": "best first"}
FINDS = "finds"
"""Shown in place of an outcome's turns: games with a winning move that whom the policy imitated would hardly make."""
RATES = (metrics.REFLECT, metrics.RESCUED, metrics.HARMED)
COUNT_CELLS = 16
COLUMNS = (
    Column("step", 6, "right"),
    Column("", 3),
    Column("turn", 6),
    Column("asked", 0, drop=1),
    Column("before", 0),
    Column("after", 0),
)


class AhaScreen(ConsoleScreen):
    """See the module."""

    screen_name: ClassVar[str] = "aha"
    placed_in = "#traces"
    AUTO_FOCUS: ClassVar[str | None] = "#traces"
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("aha")]

    def __init__(self) -> None:
        super().__init__()
        self._aha: wire.Aha | None = None
        self._curves: dict[str, list[tuple[int, float]]] = {}
        self._shown: Outcome | str = ""
        """An outcome, FINDS, or empty: all turns."""
        self._finds: list[wire.StoredRollout] = []
        self._order = "rescued"
        self._story: list[str] = []
        self._is_reading = False

    def foreword(self) -> list[Paragraph]:
        """What each outcome means."""
        words = ((f"{word.sign} {outcome}", word.meaning) for outcome, word in OUTCOMES.items())
        return words_page("what a turn did to the answer", words, self.size.width)

    def body(self) -> Iterable[Widget]:
        """Rates and counts; traces and text."""
        rule = "-" if self.console.is_ascii else "─"
        with Horizontal(id="aha-top"):
            yield BrailleChart("%", id="rates", ascii=self.console.is_ascii)
            yield LineView(id="counts", gutter=False)
        with Container(id="aha-below"):
            with Vertical(id="traces-pane"):
                yield TextLine(id="traces-head", rule=rule)
                yield VirtualList(COLUMNS, id="traces", empty="no answer turned back on itself so far")
            with Vertical(id="trace-pane"):
                yield TextLine(id="trace-head", rule=rule)
                yield LineView(id="trace", empty="  Enter on a trace shows it here")

    async def pull(self) -> None:
        """Counts, traces of the chosen outcome, rates."""
        row = self.console.row
        if row is None:
            self._aha = None
            return
        outcome = self._shown if isinstance(self._shown, Outcome) else None
        self._aha = await self.console.ask(wire.GetAha(row.name, outcome, self._order, TRACES), wire.Aha)
        if self._shown == FINDS:
            games = wire.GetSamples(row.name, limit=TRACES, only_finds=True)
            self._finds = (await self.console.ask(games, wire.Samples)).samples
        asked = wire.GetMetrics(row.name, list(ASKED), span=span_for(row.step))
        curves = await self.console.ask(asked, wire.Curves)
        if curves.curves != self._curves:
            knobs = await self.console.ask(wire.GetKnobs(row.name), wire.KnobTable)
            self._curves, self._story = curves.curves, _story(curves, knobs, is_over=row.state.is_over)

    # -- keys --

    def action_aha_outcome(self) -> None:
        """All outcomes, then one after the other, then finds."""
        choices = ["", *Outcome, FINDS]
        self._shown = choices[(choices.index(self._shown) + 1) % len(choices)]
        self.console.want()

    def action_aha_order(self) -> None:
        """Another order."""
        orders = list(ORDERS)
        self._order = orders[(orders.index(self._order) + 1) % len(orders)]
        self.console.want()

    def action_aha_label(self) -> None:
        """To the turns that a person names."""
        self.run_worker(self.console.show_screen("label"), exit_on_error=True)

    def action_aha_open(self) -> None:
        """Read the trace under the cursor."""
        if self._chosen() is not None:
            self._is_reading = True
            self.paint()
            self.set_focus(self.query_one("#trace", LineView))

    def on_virtual_list_row_selected(self, _: VirtualList.RowSelected) -> None:
        """Enter on a trace."""
        self.action_aha_open()

    def on_virtual_list_row_highlighted(self, _: VirtualList.RowHighlighted) -> None:
        """Another trace is under the cursor."""
        self.paint()

    def copied(self) -> tuple[str, str] | None:
        """The trace under the cursor."""
        trace = self._chosen()
        return ("the trace", trace.rollout.text) if trace is not None else None

    def go_back(self) -> bool:
        """From the trace to the list."""
        if not self._is_reading:
            return False
        self._is_reading = False
        self.paint()
        self.set_focus(self.query_one("#traces", VirtualList))
        return True

    # -- painting --

    def paint(self) -> None:
        """Everything; the widgets repaint only what differs."""
        if not self.is_ready:
            return
        self.set_class(self._is_reading, "-reading")
        row, aha = self.console.row, self._aha
        last = float(max(1, row.step if row is not None else 1))
        points = [
            Curve([(step, value * 100) for step, value in self._curves.get(name, [])], metrics.METRICS[name].label, 0.8)
            for name in RATES
        ]
        shown_values = [value for curve in points for _, value in curve.points]
        self.query_one("#rates", BrailleChart).set_curves(
            points, frame=Frame(0.0, last, *value_range(shown_values, True)), latest=""
        )
        counts = self.query_one("#counts", LineView)
        counts.set_document(_counts(aha, self._story, counts.size.width) if aha is not None else [])
        has_finds = self._shown == FINDS
        title = "moves that nobody expected" if has_finds else f"{self._shown or 'all'} turns"
        self.query_one("#traces-head", TextLine).show(
            [Part(title, "title"), Part(ORDERS["newest" if has_finds else self._order], "dim", 1)],
            [Part(f"{len(self._traces)} shown", "dim", 2)],
        )
        shown = self.query_one("#traces", VirtualList)
        shown.set_source(ListSource([(_find_row if has_finds else _trace_row)(stored) for stored in self._traces]))
        self._paint_trace(self._chosen())

    @property
    def _traces(self) -> list[wire.StoredRollout]:
        """What the list shows."""
        if self._aha is None:
            return []
        return self._finds if self._shown == FINDS else self._aha.traces

    def _chosen(self) -> wire.StoredRollout | None:
        key = self.query_one("#traces", VirtualList).cursor_key
        return next((stored for stored in self._traces if str(stored.id) == key), None)

    def _paint_trace(self, stored: wire.StoredRollout | None) -> None:
        head, view = self.query_one("#trace-head", TextLine), self.query_one("#trace", LineView)
        if stored is None:
            head.show([Part("trace", "title")])
            view.set_document([])
            return
        head.show(
            [Part(f"step {stored.step:,} answer {stored.group}.{stored.rollout.index}", "title")],
            [Part("Esc back to the list" if self._is_reading else "", "dim", 1)],
        )
        answer = answer_paragraphs(self.console.counted(stored).rollout)
        document = [prompt_paragraph(stored.prompt), *answer, Paragraph.of("")]
        rollout = stored.rollout
        view.set_document([*document, *turn_paragraphs(rollout.marks), *find_paragraphs(rollout.finds)])


def _trace_row(stored: wire.StoredRollout) -> ListRow:
    rollout = stored.rollout
    mark = rollout.marks[-1] if rollout.marks else None
    word = OUTCOMES[mark.outcome] if mark is not None else None
    style = word.style if word is not None else "plain"
    return ListRow(
        str(stored.id),
        (
            f"{stored.step:,}",
            Cell("AHA" if rollout.is_aha else word.sign if word is not None else "", style),
            mark.word if mark is not None else "",
            Cell(stored.prompt.strip(), "dim"),
            (mark.before or "no try yet") if mark is not None else "",
            Cell((mark.after or "no other try") if mark is not None else "", style),
        ),
    )


def _find_row(stored: wire.StoredRollout) -> ListRow:
    """The least expected find of a game, in the columns of a turn: how probable it was before, and is."""
    find = min(stored.rollout.finds, key=lambda find: find.imitated)
    return ListRow(
        str(stored.id),
        (
            f"{stored.step:,}", Cell("F", "good"), find.move, Cell(find.position, "dim"), f"{find.imitated:.2%}",
            Cell(f"{find.now:.1%}", "good"),
        ),
    )  # fmt: skip


def _story(curves: wire.Curves, knobs: wire.KnobTable, *, is_over: bool) -> list[str]:
    """What changed, and what chance would do."""
    values = {row.name: row.value for row in knobs.knobs}
    told = [change_line(one) for one in tell_changes(curves.curves, curves.marks, values, is_over=is_over)]
    found = chance_of(curves.curves)
    rest = [chance_line(found) if found is not None else "", cause_line(curves.curves)]
    return [*told, *filter(None, rest)]


def _counts(aha: wire.Aha, story: Sequence[str], width: int) -> list[Paragraph]:
    """What each outcome counts: number, share of all answers, bar, meaning; then what changed."""
    lines: list[Paragraph] = []
    turned = sum(aha.counts.values())
    most = max([1, *aha.counts.values()])
    share = f" ({turned / aha.rollouts:.1%})" if aha.rollouts else ""
    badges = f", {aha.badges:,} AHA" if aha.badges else ""
    lines.append(Paragraph.of(f"{turned:,} of {aha.rollouts:,} answers turn back{share}{badges}", style="title"))
    rescued, harmed = aha.counts.get(Outcome.RESCUED, 0), aha.counts.get(Outcome.HARMED, 0)
    since = f", first at step {aha.first_occurrence:,}" if aha.first_occurrence is not None else ""
    lines.append(Paragraph.of(f"net {rescued - harmed:+,}{since}"))
    for outcome in Outcome:
        count = aha.counts.get(outcome, 0)
        word = OUTCOMES[outcome]
        bar = "#" * round(count / most * 12)
        rate = f"{count / aha.rollouts:.1%}" if aha.rollouts else "-"
        head = f"{word.sign} {outcome:<11} {count:>9,} {rate:>6} "
        style = {"good": "good", "bad": "bad"}.get(word.style, "plain")
        text = f"{head}{bar:<13}{word.meaning if width > 90 else ''}".rstrip()
        lines.append(Paragraph.of(text, [Span(0, len(head), style), Span(len(head) + 13, len(text), "dim")]))
    lines += [Paragraph.of(line, style="plain" if "likely cause" not in line else "warning") for line in story]
    first = aha.first_rescue
    words = (
        "nothing was rescued so far"
        if first is None
        else f"first rescue at step {first.step:,}: {first.prompt.strip()}"
    )
    lines.append(Paragraph.of(words, style="dim"))
    return lines
