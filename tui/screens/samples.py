"""Every answer of the run: newest, best or longest first, filtered by a line that a person types.

Only a window of pages is held (`tui.window`), so that a million answers cost what a hundred do; the line above says
where in all of them the window is. Beside or below the list stands the answer under the cursor, where there is room for
both, else Enter shows it in the list's place. The screen never moves by itself: what is new waits above. Deliberately
left out: how many answers fit a filter, which would mean to look at all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from msgspec.structs import replace
from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import Input

from ponder import wire
from ponder.errors import PonderError, UsageError
from ponder.sample_filter import EXAMPLE, ORDERS, read_filter
from tui import actions
from tui.answers import (
    answer_paragraphs,
    find_paragraphs,
    prompt_paragraph,
    turn_paragraphs,
    with_hits,
)
from tui.place import Spot
from tui.screens.frame import ConsoleScreen
from tui.screens.group import GroupScreen
from tui.screens.odds import open_odds
from tui.screens.sample_rows import COLUMNS, WITH_PROMPT, WITH_PROMPT_COLUMNS, SampleRows
from tui.screens.text_line import Part, TextLine
from tui.screens.tokens import TokensScreen
from tui.widgets import LineView, Paragraph, VirtualList
from tui.widgets.emptiness import ASKING
from tui.window import PAGE, Window, is_plain

EXCERPT = 320
"""Characters of an answer that a row may show."""
ORDER_WORDS = {"newest": "newest first", "reward": "highest reward first", "length": "longest first"}
ENTER_WORDS = {
    "filter": "Enter shows what fits, Esc leaves",
    "step": "Enter goes there",
    "note": "Enter keeps it, empty takes it away",
}
MOST_NOTE = 2000


class SampleList(VirtualList):
    """A list whose first and last row may be far outside of what is held."""

    def action_first(self) -> None:
        """To the first of all."""
        self._go(is_last=False)

    def action_last(self) -> None:
        """To the last of all."""
        self._go(is_last=True)

    def _go(self, is_last: bool) -> None:
        if isinstance(self.screen, SamplesScreen):
            self.screen.run_worker(self.screen.go_to_end(is_last), group="ends", exclusive=True)


class SampleLine(Input):
    """The line in which a filter or a step is typed."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "drop", "leave", show=False)]

    def action_drop(self) -> None:
        """Leave without a change."""
        if isinstance(self.screen, SamplesScreen):
            self.screen.close_line()


class SamplesScreen(ConsoleScreen):
    """See the module."""

    screen_name: ClassVar[str] = "samples"
    AUTO_FOCUS: ClassVar[str | None] = "#samples"
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("samples")]

    def __init__(self) -> None:
        super().__init__()
        self._window = Window(self._ask)
        self._filter = ""
        self._attempt = 0
        self._is_growing = False
        self._shown_version = (-1, False)
        self._answer: wire.StoredRollout | None = None
        self._is_reading = False
        self._line = ""
        """What is being typed: `filter`, `step`, `note`, or nothing."""

    def body(self) -> Iterable[Widget]:
        """What is shown, the line to type in, the list, the answer under the cursor."""
        rule = "-" if self.console.is_ascii else "─"
        yield TextLine(id="samples-head")
        with Horizontal(id="sample-line"):
            yield TextLine(id="sample-line-name")
            yield SampleLine(id="sample-line-value", compact=True)
            yield TextLine(id="sample-line-check")
        with Container(id="samples-below"):
            with Vertical(id="samples-pane"):
                yield SampleList(COLUMNS, id="samples", empty="no answer is scored yet")
            with Vertical(id="answer-pane"):
                yield TextLine(id="answer-head", rule=rule)
                yield LineView(id="answer", empty="  the answer under the cursor stands here")

    # -- asking --

    async def _ask(self, request: wire.GetSamples) -> wire.Samples | None:
        return await self.console.try_ask(request, wire.Samples)

    def _asked(self, **more: object) -> wire.GetSamples:
        """The request as things stand, the filter and the order included."""
        wanted = replace(self._window.asked, run=self.console.run_name, excerpt=EXCERPT)
        return replace(wanted, **more)

    def spot(self) -> Spot:
        """The filter, the order, the row under the cursor and its step."""
        stored = self._chosen()
        row = {"row": str(stored.id), "step": str(stored.step)} if stored is not None else {}
        return {"filter": self._filter, "order": self._window.asked.order, **row}

    def return_to(self, spot: Spot) -> None:
        """To that row; a filter that is none any more counts as none."""
        asked = replace(self._asked(), order=spot["order"] if spot.get("order") in ORDERS else ORDERS[0])
        try:
            asked = read_filter(spot.get("filter", ""), asked)
            self._filter = spot.get("filter", "")
        except UsageError:
            self._filter = ""
        if asked.order == "newest" and spot.get("step", "").isdecimal():
            asked = replace(asked, from_step=int(spot["step"]))
        self._window.asked = asked
        self._list.come_to(spot.get("row", ""))

    def copied(self) -> tuple[str, str] | None:
        """The answer under the cursor, as far as it is here."""
        stored = self._chosen()
        if stored is None:
            return None
        whole = self._answer if self._answer is not None and self._answer.id == stored.id else stored
        return "the answer" if whole is self._answer else "the beginning of the answer", whole.rollout.text

    async def pull(self) -> None:
        """The run's first page; later what came above it; the whole answer under the cursor where it is shown."""
        row, window = self.console.row, self._window
        if row is None:
            return
        is_other = row.name != window.asked.run
        if is_other or not window.is_known:
            if is_other and window.is_known:
                self._is_reading = False
            await window.begin(self._asked())
            self._attempt = row.attempt
        elif row.attempt != self._attempt:  # it went back to a checkpoint: some of the rows never happened
            self._attempt = row.attempt
            key = self._list.cursor_key
            step = next((stored.step for stored in window.rows if str(stored.id) == key), None)
            await window.begin(self._asked(from_step=step if window.asked.order == "newest" else None))
        elif self.console.detail is not None and self.console.detail.rollouts != window.total:
            if not window.rows:
                await window.begin(self._asked())
            elif window.asked.order == "newest" and self._list.cursor_index < PAGE:
                await self._grow(up=True)
        await self._pull_answer()

    async def _pull_answer(self) -> None:
        """All of the answer under the cursor."""
        key = self._list.cursor_key
        if key is None or not self._shows_answer:
            return
        if self._answer is None or str(self._answer.id) != key:
            self._answer = (await self.console.ask(wire.GetSample(int(key)), wire.Sample)).sample

    async def _grow(self, up: bool) -> None:
        """One page more, unless one is on its way."""
        if self._is_growing:
            return
        self._is_growing = True
        try:
            if await self._window.grow(up):
                self.paint()
        finally:
            self._is_growing = False

    @property
    def _list(self) -> SampleList:
        return self.query_one("#samples", SampleList)

    @property
    def _shows_answer(self) -> bool:
        return bool(self.query_one("#answer-pane").display)

    # -- keys --

    async def go_to_end(self, is_last: bool) -> None:
        """To the first or the last of all rows."""
        window, detail = self._window, self.console.detail
        is_newest = window.is_first and (detail is None or detail.rollouts == window.total)
        if (window.is_last if is_last else is_newest) or await window.begin(self._asked(from_end=is_last)):
            self.paint()
            self._list.move_to_index(len(window.rows) - 1 if is_last else 0)

    async def action_samples_sort(self) -> None:
        """Another order, from its beginning."""
        order = ORDERS[(ORDERS.index(self._window.asked.order) + 1) % len(ORDERS)]
        if await self._window.begin(self._asked(order=order)):
            self.paint()
            self._list.move_to_index(0)

    def action_samples_filter(self) -> None:
        """Type a filter."""
        self._open_line("filter", self._filter)

    def action_samples_step(self) -> None:
        """Type a step to go to."""
        self._open_line("step", "")

    async def action_samples_open(self) -> None:
        """Read the answer under the cursor."""
        if self._list.cursor_key is None:
            return
        self._is_reading = True
        self.set_class(True, "-reading")
        await self._show_answer()
        self.set_focus(self.query_one("#answer", LineView))

    async def _show_answer(self) -> None:
        try:
            await self._pull_answer()
        except PonderError as error:
            self.console.say(f"! {error.message}", "bad")
        self.paint()

    async def action_samples_next(self) -> None:
        """The row below, read at once."""
        self._list.action_cursor_by(1)
        await self._show_answer()

    async def action_samples_previous(self) -> None:
        """The row above, read at once."""
        self._list.action_cursor_by(-1)
        await self._show_answer()

    def action_samples_odds(self) -> None:
        """What each checkpoint makes of the answer."""
        open_odds(self.console, self._chosen())

    async def action_samples_star(self) -> None:
        """Star it, or no longer."""
        if (stored := self._chosen()) is not None:
            is_on = not stored.is_starred
            words = "starred" if is_on else "no longer starred"
            await self._say_of(stored, wire.Annotate(stored.id, is_starred=is_on, by=self.console.by), words)

    async def action_samples_flag(self) -> None:
        """Flag it, or no longer."""
        if (stored := self._chosen()) is not None:
            is_on = not stored.is_flagged
            words = "flagged" if is_on else "no longer flagged"
            await self._say_of(stored, wire.Annotate(stored.id, is_flagged=is_on, by=self.console.by), words)

    def action_samples_note(self) -> None:
        """Type a note."""
        stored = self._chosen()
        if stored is not None and self.console.is_readonly:
            self.console.say("! this console only reads (`--readonly`)", "warning")
        elif stored is not None:
            self._open_line("note", stored.note)

    async def _say_of(self, stored: wire.StoredRollout, request: wire.Annotate, words: str) -> None:
        """Have it written down, and show it."""
        if await self.console.send(request, f"answer {stored.id} is {words}"):
            known = {name: getattr(request, name) for name in ("is_starred", "is_flagged", "note")}
            said = {name: value for name, value in known.items() if value is not None}
            self._window.replace(replace(stored, **said))
            if self._answer is not None and self._answer.id == stored.id:
                self._answer = replace(self._answer, **said)
            self.paint()

    async def on_virtual_list_row_selected(self, _: VirtualList.RowSelected) -> None:
        """Enter on a row."""
        await self.action_samples_open()

    async def on_virtual_list_row_highlighted(self, _: VirtualList.RowHighlighted) -> None:
        """Another row is under the cursor; the window follows before its end is reached."""
        place, window = self._list.cursor_index, self._window
        if not window.is_last and place > len(window.rows) - PAGE:
            await self._grow(up=False)
        elif not window.is_first and place < PAGE:
            await self._grow(up=True)
        self.console.want()
        self.paint()

    def go_back(self) -> bool:
        """From the line, then from the answer, then from the filter."""
        if self._line:
            self.close_line()
        elif self._is_reading:
            self._is_reading = False
            self.paint()
            self.set_focus(self._list)
        else:
            return False
        return True

    def hand_over(self, other: ConsoleScreen) -> None:
        """The group, or the tokens, of the answer under the cursor."""
        stored = self._chosen()
        if stored is not None and isinstance(other, GroupScreen):
            other.look_at(stored.group_id, stored.rollout.index)
        elif stored is not None and isinstance(other, TokensScreen):
            other.look_at(stored.id)

    def _chosen(self) -> wire.StoredRollout | None:
        key = self._list.cursor_key
        place = self._window.place_of(int(key)) if key is not None else None
        return None if place is None else self._window.rows[place]

    # -- the line --

    def _open_line(self, what: str, value: str) -> None:
        self._line = what
        line = self.query_one("#sample-line-value", SampleLine)
        line.value = value
        self.set_class(True, "-typing")
        self.set_focus(line)
        line.cursor_position = len(value)
        self._check_line()

    def close_line(self) -> None:
        """Back to the list, without a change."""
        self._line = ""
        self.set_class(False, "-typing")
        self.set_focus(self._list)
        self.paint()

    @on(Input.Changed, "#sample-line-value")
    def _check_line(self) -> None:
        """Say while typing what the line would do."""
        name, check = self.query_one("#sample-line-name", TextLine), self.query_one("#sample-line-check", TextLine)
        words = f" {self._line} "
        name.styles.width = len(words)
        name.show([Part(words, "title")])
        try:
            if self._line != "note":
                self._meant()
        except UsageError as error:
            check.show([Part(f"! {error.message}", "bad")])
        else:
            check.show([Part(ENTER_WORDS[self._line or "filter"], "dim")])

    def _meant(self) -> wire.GetSamples:
        """What the line asks for; raises UsageError."""
        value = self.query_one("#sample-line-value", SampleLine).value.strip()
        if self._line == "filter":
            plain = wire.GetSamples(self.console.run_name, limit=PAGE, order=self._window.asked.order, excerpt=EXCERPT)
            return read_filter(value, plain)
        if not value.replace(",", "").isdecimal() or len(value) > 12:
            raise UsageError("a step is a whole number", "for example `120`")
        return self._asked(order="newest", from_step=int(value.replace(",", "")))

    @on(Input.Submitted, "#sample-line-value")
    async def _submit_line(self, event: Input.Submitted) -> None:
        """Do it; say what is wrong otherwise."""
        event.stop()
        if self._line == "note":
            stored = self._chosen()
            self.close_line()
            if stored is not None:
                request = wire.Annotate(stored.id, note=event.value.strip()[:MOST_NOTE], by=self.console.by)
                await self._say_of(stored, request, "noted" if request.note else "without a note")
            return
        try:
            asked = self._meant()
        except UsageError as error:
            self.console.say(f"! {error.message}; {error.hint or EXAMPLE}", "bad")
            return
        if self._line == "filter":
            self._filter = event.value.strip()
        if await self._window.begin(asked):
            is_before = asked.from_step is not None and not self._window.rows
            if is_before:
                self.console.say(f"no answer that fits is of step {asked.from_step:,} or before it")
                await self._window.begin(self._asked(from_end=True))
            self.close_line()
            self._list.move_to_index(len(self._window.rows) - 1 if is_before else 0)
            self.console.want()

    # -- painting --

    def paint(self) -> None:
        """The list where the window moved, and the lines."""
        if not self.is_ready:
            return
        self.set_class(self._is_reading, "-reading")
        shown, window = self._list, self._window
        has_prompt = self.size.width >= WITH_PROMPT_COLUMNS
        if (window.version, has_prompt) != self._shown_version:
            self._shown_version = (window.version, has_prompt)
            shown.set_columns(WITH_PROMPT if has_prompt else COLUMNS)
            shown.set_source(SampleRows(window, has_prompt))
        words = "no answer fits the filter" if self._filter else "no answer is scored yet"
        shown.say_when_empty(words if window.is_known else ASKING)
        self._paint_head()
        self._paint_answer()

    def _paint_head(self) -> None:
        window, detail = self._window, self.console.detail
        total = max(window.total, detail.rollouts if detail is not None else 0)
        left = [
            Part(f" {total:,} answers", "title"),
            Part(ORDER_WORDS[window.asked.order], "plain", 1),
            Part(f"filter: {self._filter}" if self._filter else "/ filters, s sorts, t goes to a step", "dim", 2),
        ]
        if self._filter:
            left[2] = Part(f"filter: {self._filter}", "warning")
        if window.is_known and not window.rows:
            words = "no answer fits; / changes the filter" if self._filter else "the first come with the first step"
            self.query_one("#samples-head", TextLine).show([*left[:2], Part(words, "warning"), *left[2:]])
            return
        place = self._list.cursor_index + 1
        row = f"row {place + window.above:,}" if window.above is not None else f"step {self._step_words()}"
        if is_plain(window.asked) and window.above is not None:
            row += f" of {total:,}"
        elif window.is_first and window.is_last:
            row += f" of {len(window.rows):,} that fit"
        above = self._list.rows_above
        waiting = Part(f"{above:,} above, g for the first" if above and window.is_first else "", "dim", 3)
        self.query_one("#samples-head", TextLine).show(left, [waiting, Part(row, "plain", 1)])

    def _step_words(self) -> str:
        stored = self._chosen()
        return f"{stored.step:,}" if stored is not None else "-"

    def _paint_answer(self) -> None:
        head, view = self.query_one("#answer-head", TextLine), self.query_one("#answer", LineView)
        stored, key = self._answer, self._list.cursor_key
        if stored is None or key is None:
            head.show([])
            view.set_document([])
            return
        if str(stored.id) != key:
            return  # it is on its way
        where = f"step {stored.step:,} answer {stored.group}.{stored.rollout.index}"
        part = [Part(f"its {stored.shown} alone", "warning")] if stored.shown else []
        head.show(
            [Part(where, "title"), *part, Part(f"#{stored.id}", "dim", 3), Part("4 its group  5 its tokens", "dim", 2)],
            [Part("Esc back to the list, n next" if self._is_reading else "Enter reads", "dim", 1)],
        )
        view.set_document(answer_document(self.console.counted(stored), self._window.asked))


def answer_document(stored: wire.StoredRollout, asked: wire.GetSamples) -> list[Paragraph]:
    """An answer with what it was asked, what it earned, and what its turns did; what was looked for is marked."""
    answer = with_hits(answer_paragraphs(stored.rollout), asked.text)
    prompt = with_hits([prompt_paragraph(stored.prompt)], asked.prompt)
    known = [Paragraph.of(f"right: {stored.reference}", style="dim")] if stored.reference else []
    turns = [*turn_paragraphs(stored.rollout.marks), *find_paragraphs(stored.rollout.finds)]
    said = [Paragraph.of(f"note: {stored.note}", style="warning", sign="n")] if stored.note else []
    return [*prompt, *answer, Paragraph.of(""), *said, *known, *turns]
