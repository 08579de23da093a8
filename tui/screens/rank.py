"""Answers to one prompt in order of worth, typed by a person who sees nothing but the answers.

    head      what is asked, and which answers are in view      prompt
    answers   side by side as far as there is room; scrolled together, or each alone
    below     the order as it would be kept; why a key did nothing, or what became of the last ranking
              who ranks, how fast, what is owed; what the reward model is worth, the brake

No reward, verdict, step or model stands beside an answer, in an order that says nothing. Digits are places here and
lead to no other screen; Escape does. The gauge is a second page over the answers (`m`), on which the keys of a ranking
do nothing. Deliberately left out: to which answers a key belongs (`tui.judging`), what the gauge says (`tui.gauge`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import ClassVar

from textual import events
from textual.binding import BindingType
from textual.containers import Grid, Vertical
from textual.widget import Widget

from ponder import wire
from ponder.ranking import BACK, MOST_SHOWN, TIE
from ponder.rlhf import Rlhf, rlhf_of
from tui import actions, draft, gauge, rank_words
from tui.answers import row_count
from tui.draft import Draft
from tui.judging import Judging, Sending
from tui.screens.answer_pane import AnswerPane
from tui.screens.frame import ConsoleScreen
from tui.screens.gauge_page import GaugePage, let_go
from tui.screens.reasons import Reasons
from tui.screens.text_line import Part, TextLine
from tui.widgets import LineView, Paragraph

FEEDBACK_S = 3.0
"""So seldom it is asked how the loop stands: the daemon looks at everything that was ever said."""
COLUMN_CELLS = 38
LEAST_ROWS = 10
"""Of an answer and its head, where answers stand over each other."""
HEAD_ROWS = 1
TALL_ROWS = 36
PROMPT_ROWS, TALL_PROMPT_ROWS = 3, 8
"""Of the prompt, where the terminal is not tall, and where it is."""
OTHER_KEYS = "s skip  x flag  r why  d diff  ? guidelines "


class RankScreen(ConsoleScreen):
    """See the module."""

    screen_name: ClassVar[str] = "rank"
    rests: ClassVar[bool] = False
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("rank")]

    def __init__(self) -> None:
        super().__init__()
        self._judging: Judging | None = None
        self._sent: Sending | None = None
        """What was last given to a worker."""
        self._cursor = 0
        self._first = 0
        self._is_locked = True
        self._is_following = False
        self._is_compared = False
        self._is_gauge = False
        self._by_kl = False
        self._of_task = ""
        """The task whose answers stand there."""
        self._feedback: wire.Feedback | None = None
        self._feedback_s = 0.0
        self._curves: dict[str, list[tuple[int, float]]] = {}

    def body(self) -> Iterable[Widget]:
        """Prompt, answers, what is said of them; the gauge over it."""
        rule = "-" if self.console.is_ascii else "─"
        with Vertical(id="rank-answers"):
            yield TextLine(id="rank-head", rule=rule)
            yield LineView(id="rank-prompt")
            yield LineView(id="rank-nothing", gutter=False)
            with Grid(id="ranked"):
                for place in range(MOST_SHOWN):
                    yield AnswerPane(place)
            yield TextLine(id="rank-order")
            yield TextLine(id="rank-said")
        yield GaugePage(id="rank-gauge")
        yield TextLine(id="rank-person")
        yield TextLine(id="rank-model")

    def on_mount(self) -> None:
        """Who ranks, and texts that scroll together."""
        console = self.console
        self._judging = Judging(console.ask, console.habits.outbox, self._changed)
        self._judging.by = console.by
        for pane in self.query(AnswerPane):
            self.watch(pane.text, "scroll_y", self._follower(pane.text), init=False)
        super().on_mount()

    @property
    def judging(self) -> Judging:
        """The state of it all."""
        assert self._judging is not None
        return self._judging

    @property
    def knobs(self) -> Rlhf:
        """Of the watched run."""
        return rlhf_of(self.console.knobs)

    # -- data --

    async def pull(self) -> None:
        """What is to be ranked, if nothing is on the screen; and how the loop stands."""
        row = self.console.row
        if row is None:
            return
        annotator = self.console.annotator
        now = row.name, annotator, self.console.is_scoring
        if now != (self.judging.run, self.judging.annotator, self.judging.is_scoring):
            self.judging.begin(row.name, annotator, is_scoring=self.console.is_scoring)
            self._feedback, self._feedback_s, self._curves = None, 0.0, {}
        await self.judging.look_for_more()
        if time.monotonic() - self._feedback_s >= FEEDBACK_S:
            self._feedback = await self.console.ask(wire.GetFeedback(row.name), wire.Feedback)
            self._feedback_s = time.monotonic()
            if self._is_gauge:
                request = wire.GetMetrics(row.name, list(gauge.METRICS))
                self._curves = (await self.console.ask(request, wire.Curves)).curves

    def _changed(self) -> None:
        if self.is_ready and self.console.shown is self and not self.is_tiny:
            self.paint()

    def on_screen_suspend(self) -> None:
        """Out of sight."""
        if self._judging is not None and not self._is_gauge:
            self._judging.pause()

    def on_screen_resume(self) -> None:
        """In sight again."""
        super().on_screen_resume()
        if self._judging is not None and not self._is_gauge:
            self._judging.go_on()

    # -- keys of a ranking, in their order --

    def _press(self, key: str) -> None:
        if self._is_gauge:
            self.console.say("the answers are behind the gauge: m leads back to them")
            return
        if self.is_tiny:
            return
        is_acting = key == draft.ENTER or (key == draft.UNDO and not self._takes_back())
        if is_acting and self.console.is_readonly:
            self.console.say("! this console only reads (`--readonly`)", "warning")
            return
        self.judging.press(key)
        said = self.judging.draft
        if said is not None and said.task.is_scoring:
            self._choose(len(said.keys.typed))
        self._deliver()

    def _takes_back(self) -> bool:
        """Whether an undo would only take back what was typed here."""
        said = self.judging.draft
        return said is not None and not said.is_empty and not said.is_old

    def _deliver(self) -> None:
        """Give what is on its way to a worker; it may be a key held back that sent it there."""
        sending = self.judging.sending
        if sending is not None and sending is not self._sent:
            self._sent = sending
            self.run_worker(self.judging.deliver(sending), exit_on_error=True)

    def action_rank_place(self, key: str = "") -> None:
        """The next best; a click or the palette names none."""
        if key:
            self._press(key)
        else:
            self.console.say("type the number of the best answer, then of the next best")

    def action_rank_tie(self) -> None:
        """As good as the one before."""
        self._press(TIE)

    def action_rank_back(self) -> None:
        """The last key back."""
        self._press(BACK)

    def action_rank_bad(self) -> None:
        """All are bad."""
        self._press(draft.ALL_BAD)

    def action_rank_skip(self) -> None:
        """No opinion."""
        self._press(draft.SKIP)

    def action_rank_flag(self) -> None:
        """The next digit is a hack; on the gauge: what stands along x."""
        if self._is_gauge:
            self._by_kl = not self._by_kl
            self.paint()
        else:
            self._press(draft.FLAG)

    def action_rank_undo(self) -> None:
        """The last key, or the last ranking."""
        self._press(draft.UNDO)

    def action_rank_commit(self) -> None:
        """Keep it."""
        self._press(draft.ENTER)

    # -- other keys --

    def action_rank_way(self) -> None:
        """Scores, or an order."""
        said = self.judging.draft
        if self._is_gauge or self.judging.is_moving or (said is not None and not said.is_empty):
            self.console.say("Enter keeps what is typed, u takes it back; then v changes the way")
            return
        self.console.is_scoring = not self.console.is_scoring
        self.console.want()

    def action_rank_reasons(self) -> None:
        """Why."""
        said = self.judging.draft
        if said is None or self._is_gauge or self.judging.is_moving:
            self.console.say("there is nothing to give reasons for")
            return

        def answered(reasons: tuple[tuple[str, ...], str] | None) -> None:
            if reasons is not None:
                self.judging.say_more(*reasons)

        self.app.push_screen(Reasons(said.reasons, said.note), answered)

    def action_rank_diff(self) -> None:
        """Against the best so far, or plainly."""
        said = self.judging.draft
        if not self._is_compared and (said is None or said.best is None):
            self.console.say("type the best answer's digit first: the others are compared with it")
            return
        self._is_compared = not self._is_compared
        self.paint()

    def action_rank_lock(self) -> None:
        """Together, or each alone."""
        self._is_locked = not self._is_locked
        self.console.say("answers scroll together" if self._is_locked else "each answer scrolls alone")
        self.paint()

    def action_rank_gauge(self) -> None:
        """The gauge over the answers, or the answers again."""
        self._is_gauge = not self._is_gauge
        if self._is_gauge:
            self.judging.pause()
        else:
            self.judging.go_on()
        self._ask_again()
        self.paint()
        self.set_focus(self.query_one("#gauge-page", LineView) if self._is_gauge else self._text_of(self._cursor))

    def action_rank_release(self) -> None:
        """Let go of the brake, if that is meant."""
        if self._is_gauge:
            let_go(self.console, self._feedback, self._ask_again)
        else:
            self.console.say("the brake stands on the gauge: m leads there")

    def _ask_again(self) -> None:
        """How the loop stands, now."""
        self._feedback_s = 0.0
        self.console.want()

    def action_rank_left(self) -> None:
        """The answer before."""
        self._choose(self._cursor - 1)

    def action_rank_right(self) -> None:
        """The answer after."""
        self._choose(self._cursor + 1)

    def _choose(self, place: int) -> None:
        said = self.judging.draft
        if said is not None and not self._is_gauge:
            self._cursor = max(0, min(place, len(said.task.answers) - 1))
            self.paint()
            self.set_focus(self._text_of(self._cursor))

    def _text_of(self, place: int) -> LineView | None:
        shown = [pane for pane in self.query(AnswerPane) if pane.display]
        return shown[place - self._first].text if 0 <= place - self._first < len(shown) else None

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """The answer whose text is in focus is the one under the cursor."""
        shown = [pane for pane in self.query(AnswerPane) if pane.display]
        pane = event.widget.parent
        if isinstance(pane, AnswerPane) and pane in shown and self._first + shown.index(pane) != self._cursor:
            self._cursor = self._first + shown.index(pane)
            self.paint()

    def _follower(self, view: LineView) -> Callable[[], None]:
        """What is done when that text was scrolled."""
        return lambda: self._scrolled(view)

    def _scrolled(self, view: LineView) -> None:
        """The others follow the one that was moved, as far as they reach."""
        if not self._is_locked or self._is_following:
            return
        self._is_following = True
        try:
            for pane in self.query(AnswerPane):
                if pane.display and pane.text is not view:
                    pane.text.scroll_to(y=view.scroll_offset.y, animate=False, immediate=True)
        finally:
            self._is_following = False

    def go_back(self) -> bool:
        """From the gauge, the comparison, or a flag that waits for its digit."""
        if self._is_gauge:
            self.action_rank_gauge()
            return True
        if self._is_compared:
            self.action_rank_diff()
            return True
        said = self.judging.draft
        if said is not None and said.is_flagging:
            self._press(draft.FLAG)
            return True
        return False

    def copied(self) -> tuple[str, str] | None:
        """The answer under the cursor."""
        said = self.judging.draft
        if said is None or self._cursor >= len(said.task.answers):
            return None
        return "the answer", said.task.answers[self._cursor].text

    def foreword(self) -> list[Paragraph]:
        """The guidelines of the run."""
        task = self.judging.newest
        if task is None:
            return []
        head = f"guidelines for ranking (version {task.guidelines_version:08x})"
        return [Paragraph.of(head, style="title"), Paragraph.of(task.guidelines.strip("\n"))]

    # -- painting --

    def paint(self) -> None:
        """What is known; and once new answers are on the screen, say so to whoever holds keys for them."""
        if not self.is_ready:
            return
        self.set_class(self._is_gauge, "-gauge")
        now_us = self.console.now_us()
        feedback, judging = self._feedback, self.judging
        ranked = judging.newest.ranked if judging.newest is not None else 0
        self.query_one("#rank-person", TextLine).show(
            gauge.person_parts(judging.annotator, feedback, max(ranked, len(judging.done)), judging.newest)
        )
        is_live = self.knobs.live or not self.console.knobs
        is_told = is_live or not judging.is_scoring  # the line above says already that nothing learns from scores
        self.query_one("#rank-model", TextLine).show(
            gauge.model_parts(judging.annotator, feedback, now_us, is_live) if is_told else []
        )
        if self._is_gauge:
            self.query_one(GaugePage).show(
                self._feedback, self._curves, self.knobs, self.console.run_name, by_kl=self._by_kl
            )
            return
        said = judging.draft
        self.set_class(said is None, "-nothing")
        self._paint_head(said)
        if said is None:
            self._of_task = ""
            self.query_one("#rank-nothing", LineView).set_document(
                rank_words.nothing(self.console.row, *self.judging.nothing, is_learning=self.knobs.live)
            )
        else:
            self._paint_answers(said)
        self._paint_order(said)
        if said is not None and not judging.is_shown and judging.sending is None:
            self.call_after_refresh(self._are_shown, said.task.key)

    def _are_shown(self, key: str) -> None:
        if self.console.shown is self and not self._is_gauge and not self.is_tiny:
            self.judging.shown(key)
            self._deliver()

    def _paint_head(self, said: Draft | None) -> None:
        head = self.query_one("#rank-head", TextLine)
        leave = Part("Esc other screens", "dim", 2)
        if said is None:
            head.show([Part("rank", "title")], [leave])
            return
        count = len(said.task.answers)
        columns, rows = self._shape(said)
        in_view = range(self._first, min(count, self._first + columns * rows))
        is_whole = len(in_view) == count
        how = f"compared with {said.best + 1}" if self._is_compared and said.best is not None else ""
        head.show(
            [
                Part(rank_words.task_words(said), "title"),
                Part("" if is_whole else f"in view {rank_words.range_words(in_view)} of {count} (h l)", "warning", 3),
                Part(how, "warning", 1),
                Part("" if self._is_locked else "each scrolls alone", "dim", 4),
            ],
            [leave],
        )

    def _shape(self, said: Draft) -> tuple[int, int]:
        """Columns and rows of answers: rows only where each keeps room to be read, or fits whole."""
        count = len(said.task.answers)
        width, height = self.size.width, self.query_one("#ranked", Grid).size.height or self.size.height - 10
        columns = max(1, min(width // COLUMN_CELLS, count))
        rows = -(-count // columns)
        if rows == 1:
            return columns, 1
        even = -(-count // rows)
        needed = max(row_count([Paragraph.of(a.text)], width // even - 4) for a in said.task.answers) + HEAD_ROWS
        return (even, rows) if height // rows >= min(needed, LEAST_ROWS) else (columns, 1)

    def _paint_answers(self, said: Draft) -> None:
        task = said.task
        is_new = task.key != self._of_task
        if is_new:
            self._of_task, self._cursor, self._is_compared = task.key, 0, False
        if said.best is None:
            self._is_compared = False
        self._paint_prompt(task.prompt.strip("\n"))
        count = len(task.answers)
        columns, rows = self._shape(said)
        self._first = max(0, min(self._cursor - self._cursor % columns, count - columns)) if rows == 1 else 0
        grid = self.query_one("#ranked", Grid)
        if (grid.styles.grid_size_columns, grid.styles.grid_size_rows) != (columns, rows):
            grid.styles.grid_size_columns, grid.styles.grid_size_rows = columns, rows
        in_view = range(self._first, min(count, self._first + columns * rows))
        for number, pane in enumerate(self.query(AnswerPane)):
            pane.display = number < len(in_view)
            if pane.display:
                self._paint_pane(pane, said, in_view[number])
                if is_new:
                    pane.text.scroll_to(y=0, animate=False, immediate=True)
        if is_new:
            self.set_focus(self._text_of(0))

    def _paint_prompt(self, text: str) -> None:
        """As many rows as it needs, up to a few; the rest is scrolled to."""
        prompt = self.query_one("#rank-prompt", LineView)
        document = [Paragraph.of(text, style="prompt")]
        most = PROMPT_ROWS if self.size.height < TALL_ROWS else TALL_PROMPT_ROWS
        rows = max(1, min(most, row_count(document, self.size.width - 4)))
        if prompt.styles.height is None or prompt.styles.height.value != rows:
            prompt.styles.height = rows
        prompt.set_document(document)

    def _paint_pane(self, pane: AnswerPane, said: Draft, place: int) -> None:
        words = said.place_words(place)
        is_placed = place in said.keys.placed
        pane.query_one(TextLine).show(
            [
                Part(f"{'>' if place == self._cursor else ' '}[{place + 1}]", "chosen" if is_placed else "title"),
                Part(words, "good" if is_placed else "dim"),
                Part("! hack or broken" if place in said.flags else "", "warning"),
            ]
        )
        answer = said.task.answers[place]
        best = said.best
        if self._is_compared and best is not None and best != place:
            document = [rank_words.compared(answer.text, said.task.answers[best].text)]
        else:
            document = [Paragraph.of(answer.text)]
        if not answer.text.strip():
            document = [Paragraph.of("(an empty answer)", style="dim")]
        if answer.is_truncated:
            document.append(Paragraph.of("(cut off here: it was too long)", style="dim"))
        pane.text.set_document(document)

    def _paint_order(self, said: Draft | None) -> None:
        judging = self.judging
        order, note = self.query_one("#rank-order", TextLine), self.query_one("#rank-said", TextLine)
        held = "".join(judging.held[:12]).replace(draft.ENTER, " Enter ").replace(BACK, " Back ")
        if judging.sending is not None and judging.sending.is_waiting:
            order.show([Part(" no daemon answers: this ranking waits here and is sent again by itself", "warning")])
        elif judging.sending is not None:
            order.show([Part(" being kept", "dim"), Part(f"typed ahead: {held}" if held else "", "warning")])
        elif said is None:
            order.show([])
        else:
            reasons = rank_words.reason_words(said)
            more = OTHER_KEYS if said.is_empty and not reasons else reasons
            order.show(rank_words.order_parts(said), [Part(more, "dim", 3)])
        complaint = said.complaint if said is not None and said.complaint else judging.complaint
        note.show([Part(f" {complaint}", "warning") if complaint else Part(f" {judging.reveal}", "dim")])
