"""The answers to one prompt side by side: what each earned, and how it did against the others.

Two columns at 80 cells, four at 200, and as many rows of them as the texts leave room for. The screen never moves to a
newer group by itself; it says how far away the newest is. Explain lays the group's way through the formula over the
answers, until it is closed again. Deliberately left out: groups as a list, and diffs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Grid, Vertical
from textual.widget import Widget

from ponder import wire
from ponder.events import Outcome
from ponder.explain import Lesson
from tui import actions
from tui.answers import (
    finish_words,
    parts_words,
    reward_words,
    row_count,
    text_paragraphs,
    verdict_sign,
    verdict_word,
)
from tui.lesson_view import lesson_paragraphs
from tui.place import Spot
from tui.screens.frame import ConsoleScreen
from tui.screens.odds import open_odds
from tui.screens.text_line import Part, TextLine
from tui.terms import marks_cell
from tui.widgets import Cell, Column, LineView, ListRow, ListSource, VirtualList
from tui.widgets.emptiness import ASKING

COLUMNS = (
    Column("step", 6, "right"),
    Column("group", 5, "right"),
    Column("mean", 5, "right"),
    Column("std", 5, "right", drop=2),
    Column("rewards", 34),
    Column("rescued", 7, "right", drop=1),
    Column("prompt", 0, drop=3),
)
GROUPS_LISTED = 100
LEAST_LIST_ROWS = 5
CELLS = 12
"""Answers shown at once, at the most."""
HEAD_ROWS = 3
LEAST_TEXT_ROWS = 4
FRAME_ROWS = 6
"""Rows that the answers cannot have: status, tabs, key line, and the three about the group."""


class AnswerCell(Vertical):
    """One answer: a heading, its figures, its text."""

    DEFAULT_CSS = "AnswerCell { height: 1fr; width: 1fr; }"

    def __init__(self, number: int) -> None:
        super().__init__(id=f"cell-{number}")

    def compose(self) -> ComposeResult:
        """The three parts."""
        yield TextLine(classes="cell-head")
        yield TextLine(classes="cell-figures")
        yield LineView(classes="cell-text")

    def show(self, stored: wire.StoredRollout, count: int, is_chosen: bool) -> None:
        """Show an answer; the chosen one is marked."""
        rollout = stored.rollout
        style = "bad" if rollout.is_correct is False or rollout.reward is None else "good"
        head, figures = self.query(TextLine)
        head.show(
            [
                Part(f"{'>' if is_chosen else ' '}{rollout.index + 1}/{count}", "chosen" if is_chosen else "dim"),
                Part(f"{verdict_sign(rollout)} {verdict_word(rollout)}", style),
                Part(f"reward {reward_words(rollout)}"),
                Part(f"adv {rollout.advantage:+.2f}", "title", 1),
            ],
        )
        figures.show(
            [
                Part(f"  {finish_words(rollout)}", "plain"),
                Part(marks_cell(rollout.marks), "title", 1),
                *(Part(words, "dim", 2) for words in parts_words(rollout)),
                Part(rollout.error, "warning", 3),
            ]
        )
        self.query_one(LineView).set_document(
            [
                *text_paragraphs(rollout.text, rollout.answer_start, rollout.marks),
            ]
        )


class GroupScreen(ConsoleScreen):
    """See the module."""

    screen_name: ClassVar[str] = "group"
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("group")]

    def __init__(self) -> None:
        super().__init__()
        self._run = ""
        self._wanted_id: int | None = None
        self._detail: wire.GroupDetail | None = None
        self._applied = 0
        """The console's commands that had come true when it was told."""
        self._newest_id: int | None = None
        self._chosen = 0
        self._is_pointed = False
        """Whether an answer was pointed at from elsewhere, and its text has not got the focus yet."""
        self._is_sorted = False
        self._first = 0
        self._groups: list[wire.GroupRow] = []
        self._lesson: Lesson | None = None

    def body(self) -> Iterable[Widget]:
        """The prompt, the group at a glance, the answers."""
        yield TextLine(id="group-head")
        yield TextLine(id="group-prompt")
        yield TextLine(id="group-strip", gap=" ")
        with Grid(id="cells"):
            for number in range(CELLS):
                yield AnswerCell(number)
        yield LineView(id="lesson", empty=ASKING)
        with Vertical(id="groups-pane"):
            yield TextLine(id="groups-head", rule=self._rule)
            yield VirtualList(COLUMNS, id="groups")

    @property
    def _rule(self) -> str:
        return "-" if self.console.is_ascii else "─"

    @property
    def is_there(self) -> bool:
        """Whether the group that was asked for is shown."""
        return self.is_filled and (self._wanted_id is None or self._is_wanted)

    def look_at(self, group_id: int, index: int = 0) -> None:
        """Show this group from the next pull on, with the cursor on one of its answers, whose text gets the focus."""
        self._is_pointed = True
        self._show(group_id, index)

    def _show(self, group_id: int, index: int = 0) -> None:
        self._wanted_id = group_id
        self._chosen = index
        self._is_sorted = False
        self.console.want()

    async def pull(self) -> None:
        """The wanted group, else the run's newest."""
        row = self.console.row
        if row is None:
            return
        if row.name != self._run:
            if self._run:  # not the first look, which may be at a group that was asked for
                self._wanted_id, self._chosen, self._is_pointed = None, 0, False
            self._run, self._detail = row.name, None
        asked = self._wanted_id
        limit = GROUPS_LISTED if self.has_class("-has-room") else 1
        self._groups = (await self.console.ask(wire.GetGroups(row.name, limit=limit), wire.Groups)).groups
        self._newest_id = self._groups[0].id if self._groups else None
        wanted = asked if asked is not None else self._newest_id
        if wanted is None:
            self._detail = None
            return
        is_same = self._detail is not None and self._detail.row.id == wanted and self._applied == self.console.applied
        if not is_same or (self._detail is not None and self._detail.newer_id is None):
            detail = await self.console.ask(wire.GetGroup(wanted), wire.GroupDetail)
            if self._wanted_id != asked:  # a key wants another one by now, and the next pull brings it
                return
            self._detail, self._wanted_id, self._applied = detail, wanted, self.console.applied
        if self._is_explaining:
            await self._pull_lesson(wanted)

    async def _pull_lesson(self, group_id: int) -> None:
        """The group's numbers, again as long as its step is not done."""
        known = self._lesson.found if self._lesson is not None else None
        if known is None or known.row.id != group_id or known.version_after is None:
            self._lesson = Lesson(await self.console.ask(wire.GetExplanation(group_id), wire.Explanation))

    # -- keys --

    def action_group_left(self) -> None:
        """The answer before."""
        self._choose(self._chosen - 1)

    def action_group_right(self) -> None:
        """The answer after."""
        self._choose(self._chosen + 1)

    def _choose(self, place: int) -> None:
        answers = self._answers()
        if answers:
            self._chosen = max(0, min(place, len(answers) - 1))
            self.paint()
            if not self._is_explaining:
                cell = self.query_one(f"#cell-{self._chosen - self._first}", AnswerCell)
                cell.query_one(LineView).focus()

    def action_group_next(self) -> None:
        """The next newer group."""
        self._go(self._detail.newer_id if self._detail else None, "this is the newest group so far")

    def action_group_previous(self) -> None:
        """The next older group."""
        self._go(self._detail.older_id if self._detail else None, "this is the first group of the run")

    def action_group_newest(self) -> None:
        """The newest group."""
        self._go(self._newest_id, "there is no group yet")

    def _go(self, group_id: int | None, otherwise: str) -> None:
        if group_id is None:
            self.console.say(otherwise)
        else:
            self._show(group_id)

    def action_group_odds(self) -> None:
        """What each checkpoint makes of the chosen answer."""
        answers = self._answers()
        open_odds(self.console, answers[self._chosen] if self._chosen < len(answers) else None)

    def action_group_explain(self) -> None:
        """The numbers in place of the answers, or the answers again."""
        self._explain(not self._is_explaining)

    async def action_group_quarantine(self) -> None:
        """Ask the prompt no more, or again."""
        if self._detail is None or self.console.row is None:
            return
        prompt, is_lifted = self._detail.row.prompt_id, self._detail.is_quarantined
        kind = wire.LiftQuarantine if is_lifted else wire.QuarantinePrompt
        words = f"{'lift the quarantine' if is_lifted else 'quarantine'} of `{prompt}`"
        await self.console.send(kind(self.console.run_name, prompt, self.console.by), words)

    def go_back(self) -> bool:
        """From the numbers to the answers."""
        was_explaining = self._is_explaining
        self._explain(False)
        return was_explaining

    @property
    def _is_explaining(self) -> bool:
        return self.has_class("-explaining")

    def _explain(self, is_wanted: bool) -> None:
        if is_wanted == self._is_explaining:
            return
        self.set_class(is_wanted, "-explaining")
        if is_wanted:
            self.query_one("#lesson", LineView).focus()
            self.console.want()
        self.call_after_refresh(self.paint)  # what is shown now has no size yet

    def action_group_sort(self) -> None:
        """Best first, or as sampled."""
        self._is_sorted = not self._is_sorted
        self._chosen = 0
        self.paint()

    def spot(self) -> Spot:
        """The group, unless it is the newest, the answer, and whether it is explained."""
        spot = {"answer": str(self._chosen)} | ({"explained": "yes"} if self._is_explaining else {})
        is_newest = self._detail is None or self._detail.newer_id is None
        return spot if is_newest or self._detail is None else {"group": str(self._detail.row.id), **spot}

    def return_to(self, spot: Spot) -> None:
        """To that answer."""
        self.set_class(spot.get("explained") == "yes", "-explaining")
        if self._is_pointed or not spot.get("answer", "").isdecimal():
            return  # another screen knows better
        self._is_pointed, self._chosen = True, int(spot["answer"])
        if spot.get("group", "").isdecimal():
            self._wanted_id = int(spot["group"])

    def copied(self) -> tuple[str, str] | None:
        """The chosen answer."""
        answers = self._answers()
        return ("the answer", answers[self._chosen].rollout.text) if self._chosen < len(answers) else None

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """The answer whose text is in focus is the chosen one."""
        if self._is_pointed or event.widget is not self.focused:
            return  # the toolkit chose it as the screen came up, or it is over
        cell = event.widget.parent
        shown = [cell for cell in self.query(AnswerCell) if cell.display]
        if isinstance(cell, AnswerCell) and cell in shown and self._first + shown.index(cell) != self._chosen:
            self._chosen = self._first + shown.index(cell)
            self.paint()

    async def action_group_rescue(self) -> None:
        """The next older group with a rescue, from the newest again when there is none."""
        row, detail = self.console.row, self._detail
        if row is None or detail is None:
            return
        first = min((stored.id for stored in detail.rollouts), default=None)
        for before, words in ((first, ""), (None, "no older rescue: from the newest again")):
            request = wire.GetSamples(row.name, before_id=before, limit=1, outcome=Outcome.RESCUED)
            reply = await self.console.try_ask(request, wire.Samples)
            if reply is None:
                return
            if reply.samples:
                self.look_at(reply.samples[0].group_id, reply.samples[0].rollout.index)
                if words:
                    self.console.say(words)
                return
        self.console.say("no answer of this run was rescued by reflection so far")

    def hand_over(self, other: ConsoleScreen) -> None:
        """The tokens of the chosen answer."""
        from tui.screens.tokens import TokensScreen  # the two screens lead to each other

        answers = self._answers()
        if isinstance(other, TokensScreen) and self._chosen < len(answers):
            other.look_at(answers[self._chosen].id)

    # -- painting --

    def _answers(self) -> list[wire.StoredRollout]:
        answers = list(self._detail.rollouts) if self._detail is not None else []
        if self._is_sorted:
            worst = float("-inf")
            answers.sort(key=lambda stored: -(worst if stored.rollout.reward is None else stored.rollout.reward))
        return answers

    def paint(self) -> None:
        """The group; nothing moves but what the reader moved."""
        if not self.is_ready:
            return
        self._paint_heads()
        if self._is_explaining:
            self._paint_lesson()
        else:
            self._paint_answers()

    def _paint_lesson(self) -> None:
        """The five steps, and the chosen answer worked out."""
        view, lesson, answers = self.query_one("#lesson", LineView), self._lesson, self._answers()
        shown_id = self._detail.row.id if self._detail is not None else None
        if lesson is None or lesson.found.row.id != shown_id or self._chosen >= len(answers):
            view.set_document([])
        else:
            view.set_document(lesson_paragraphs(lesson, answers[self._chosen].rollout.index, view.size.width))

    def _paint_answers(self) -> None:
        answers = self._answers()
        columns, rows, height = self._shape(answers)
        first = 0
        if answers:
            first = max(0, min(self._chosen - self._chosen % columns, len(answers) - columns * rows))
            first += -first % columns if first + columns * rows < len(answers) else 0
        self._first = first
        shown = answers[first : first + columns * rows]
        grid = self.query_one("#cells", Grid)
        if (grid.styles.grid_size_columns, grid.styles.grid_size_rows) != (columns, rows):
            grid.styles.grid_size_columns, grid.styles.grid_size_rows = columns, rows
        free = self.size.height - self.guide_rows - FRAME_ROWS - rows * height
        has_room = rows * columns >= len(answers) and free >= LEAST_LIST_ROWS and bool(answers)
        if has_room != self.has_class("-has-room"):
            self.set_class(has_room, "-has-room")
            self.console.want()
        grid.styles.height = rows * height if has_room else "1fr"
        self._paint_groups()
        for number, cell in enumerate(self.query(AnswerCell)):
            cell.display = number < len(shown)
            if number < len(shown):
                if self._is_pointed and first + number == self._chosen and self._is_wanted:
                    self._is_pointed = False
                    cell.query_one(LineView).focus()
                cell.show(self.console.counted(shown[number]), len(answers), first + number == self._chosen)

    @property
    def _is_wanted(self) -> bool:
        """Whether the group that is shown is the one that was asked for."""
        return self._detail is not None and self._detail.row.id == self._wanted_id

    def _paint_groups(self) -> None:
        """Below the answers, where there is room: the newest groups, to go to."""
        self.query_one("#groups-head", TextLine).show(
            [Part("newest groups", "title")], [Part("Tab, Enter opens", "dim")]
        )
        self.query_one("#groups", VirtualList).set_source(ListSource([_group_row(row) for row in self._groups]))

    def on_virtual_list_row_selected(self, event: VirtualList.RowSelected) -> None:
        """Look at the group of this row."""
        self._show(int(event.key))

    def _shape(self, answers: list[wire.StoredRollout]) -> tuple[int, int, int]:
        """Columns, rows and the height of cells: two rows or more only where the whole texts fit into them."""
        width, height = self.size.width, self.size.height - self.guide_rows - FRAME_ROWS
        columns = max(1, min(4, width // 40, len(answers) or 1))
        needed = (
            max(
                row_count(
                    text_paragraphs(stored.rollout.text, stored.rollout.answer_start, stored.rollout.marks),
                    width // columns - 5,
                )
                for stored in answers
            )
            if answers
            else 1
        )
        fitting = height // (max(needed, LEAST_TEXT_ROWS) + HEAD_ROWS - 1)
        most = -(-(len(answers) or 1) // columns)
        rows = max(1, min(fitting, most, CELLS // columns))
        return columns, rows, min(height // rows, max(needed, LEAST_TEXT_ROWS) + HEAD_ROWS)

    def _paint_heads(self) -> None:
        head = self.query_one("#group-head", TextLine)
        prompt = self.query_one("#group-prompt", TextLine)
        strip = self.query_one("#group-strip", TextLine)
        detail = self._detail
        if detail is None:
            words = self.when_none("no group is scored yet; the first comes with the first step")
            head.show([Part(f" {words}", "dim")])
            prompt.show([])
            strip.show([])
            return
        row = detail.row
        rescued = f"{row.rescued} rescued" if row.rescued else ""
        is_newest = row.id == self._newest_id
        lift = self.console.keys.first(actions.BY_ID["group.quarantine"])
        head.show(
            [
                Part(f" step {row.step:,} group {row.group}", "title"),
                Part(f"{len(row.rewards)} answers"),
                Part(f"mean reward {row.mean:.2f}", "plain", 1),
                Part(f"std {row.std:.2f}", "plain", 2),
                Part("no spread: teaches nothing" if row.std == 0 else "", "warning", 3),
                Part(f"in quarantine: {lift} lifts it" if detail.is_quarantined else "", "warning", 1),
                Part(rescued, "good", 2),
                Part("best first" if self._is_sorted else "", "dim", 4),
            ],
            [Part("newest" if is_newest else "N for the newest", "dim", 5)],
        )
        known = f"(right: {detail.reference})" if detail.reference else ""
        prompt.show([Part(f" Q {row.prompt.strip()}", "plain"), Part(known, "dim", 1)])
        strip.show(self._strip())

    def _strip(self) -> list[Part]:
        """The whole group at a glance: verdict and reward of each answer, or the verdicts alone where they are many."""
        answers = [stored.rollout for stored in self._answers()]
        has_room = len(answers) * 9 <= self.size.width
        parts = []
        for place, rollout in enumerate(answers):
            text = f"{verdict_sign(rollout)} {reward_words(rollout)}" if has_room else verdict_sign(rollout)
            is_chosen = place == self._chosen
            style = "chosen" if is_chosen else "good" if rollout.is_correct else "plain"
            parts.append(Part(f"[{text}]" if is_chosen else f" {text} " if has_room else text, style))
        return parts


def _group_row(row: wire.GroupRow) -> ListRow:
    rewards = " ".join("!" if reward is None else f"{reward:g}" for reward in row.rewards)
    return ListRow(
        str(row.id),
        (
            f"{row.step:,}",
            str(row.group),
            f"{row.mean:.2f}",
            f"{row.std:.2f}",
            rewards,
            Cell(str(row.rescued) if row.rescued else "", "good"),
            Cell(row.prompt.strip(), "plain"),
        ),
        "dim" if row.std == 0 else "plain",
    )
