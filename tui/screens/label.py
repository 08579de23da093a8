"""A turn in its text, named by a person who does not see what the detector says of it.

    head     how many are named
    text     the prompt, what stands before the turn, the turn, what comes after, whether it ends right
    words    the keys and what they say
    below    who names, and what became of the last key

Some of what is shown is no turn to the detector. How far all agree is a second page over the text (`m`); who has seen
it cannot take back what was said before. Reached from the Aha screen, under whose tab it stands. Deliberately left out:
to which turn a key belongs (`tui.labelling`), and what agreement is (`ponder.turn_labels`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Vertical
from textual.widget import Widget

from ponder import wire
from ponder.errors import PonderError
from ponder.events import Finish
from ponder.turn_labels import NO_TURN, WORDS, Agreement, Turn, agreement, agreement_lines, confusion
from tui import actions
from tui.answers import prompt_paragraph
from tui.labelling import Labelling, Telling
from tui.screens.frame import ConsoleScreen
from tui.screens.help import words_page
from tui.screens.text_line import Part, TextLine
from tui.terms import OUTCOMES
from tui.widgets import LineView, Paragraph, Span

MEANINGS = {str(outcome): word.meaning for outcome, word in OUTCOMES.items()} | {NO_TURN: "nothing turns back here"}
LONGEST = max(len(word) for word in WORDS)
CELL = 13
"""Columns of a word of the confusion table."""


class LabelScreen(ConsoleScreen):
    """See the module."""

    screen_name: ClassVar[str] = "label"
    tab: ClassVar[str] = "aha"
    rests: ClassVar[bool] = False
    AUTO_FOCUS: ClassVar[str | None] = "#label-text"
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("label")]

    def __init__(self) -> None:
        super().__init__()
        self._labelling: Labelling | None = None
        self._told: Telling | None = None
        """What was last given to a worker."""
        self._of_turn: wire.DrawnTurn | None = None
        """The turn that stands there."""
        self._is_agreement = False

    def body(self) -> Iterable[Widget]:
        """The text, the words; the agreement over them."""
        rule = "-" if self.console.is_ascii else "─"
        with Vertical(id="label-turn"):
            yield TextLine(id="label-head", rule=rule)
            yield LineView(id="label-text", empty="  asking for turns")
            yield LineView(id="label-words", gutter=False)
        with Vertical(id="label-agreement"):
            yield TextLine(id="agreement-head", rule=rule)
            yield LineView(id="agreement-text", gutter=False)
        yield TextLine(id="label-said")

    def on_mount(self) -> None:
        """Who names; the words take no focus, for there is nothing to scroll in them."""
        console = self.console
        self.query_one("#label-words", LineView).can_focus = False
        self._labelling = Labelling(console.ask, console.habits.outbox, self._changed)
        self._labelling.by = console.by
        super().on_mount()

    @property
    def labelling(self) -> Labelling:
        """The state of it all."""
        assert self._labelling is not None
        return self._labelling

    # -- data --

    async def pull(self) -> None:
        """Turns, if none are known; while the agreement is shown, what everybody said."""
        row = self.console.row
        if row is None:
            return
        annotator = self.console.annotator
        if (row.name, annotator) != (self.labelling.run, self.labelling.annotator):
            self.labelling.begin(row.name, annotator)
        await self.labelling.look()
        if self._is_agreement:
            await self.labelling.look_at_labels()

    def _changed(self) -> None:
        if self.is_ready and self.console.shown is self and not self.is_tiny:
            self.paint()

    def on_screen_resume(self) -> None:
        """Where all was named there may be more meanwhile."""
        labelling = self._labelling
        if labelling is not None and labelling.telling is None and not labelling.waiting and not self._is_agreement:
            labelling.begin("", "")
        super().on_screen_resume()

    # -- keys --

    def action_label_say(self, key: str = "") -> None:
        """A word by its digit; a click or the palette names none."""
        if not key:
            self.console.say("type the digit of what the turn did")
        elif self._may_act():
            self.labelling.say(WORDS[int(key) - 1])
            self._deliver()

    def action_label_skip(self) -> None:
        """No word for this one."""
        if self._may_act():
            self.labelling.skip()
            self._look()

    def action_label_undo(self) -> None:
        """The turn before."""
        if self._may_act():
            self.labelling.undo()
            self._deliver()
            self._look()

    def action_label_agreement(self) -> None:
        """The agreement over the turn, or the turn again."""
        self._is_agreement = not self._is_agreement
        self.labelling.forget_done()
        self.labelling.note = ""
        self.paint()
        self.set_focus(self.query_one("#agreement-text" if self._is_agreement else "#label-text", LineView))
        self.console.want()

    def go_back(self) -> bool:
        """From the agreement to the turn, from there to the traces."""
        if self._is_agreement:
            self.action_label_agreement()
        else:
            self.run_worker(self.console.show_screen("aha"), exit_on_error=True)
        return True

    def _may_act(self) -> bool:
        if self.console.is_readonly:
            self.console.say("! this console only reads (`--readonly`)", "warning")
        elif self._is_agreement:
            self.console.say("the turn is behind the agreement: m leads back to it")
        return not (self.console.is_readonly or self._is_agreement or self.is_tiny)

    def _deliver(self) -> None:
        telling = self.labelling.telling
        if telling is not None and telling is not self._told:
            self._told = telling
            self.run_worker(self.labelling.deliver(telling), exit_on_error=True)

    def _look(self) -> None:
        """Fetch the text of what comes next."""

        async def look() -> None:
            try:
                await self.labelling.look()
            except PonderError as error:
                self.console.say(f"! {error.message}", "bad")

        self.run_worker(look(), exit_on_error=True)

    def foreword(self) -> list[Paragraph]:
        """What the words mean, for which a small terminal has no room beside the turn."""
        words = ((f"{number} {word}", MEANINGS[word]) for number, word in enumerate(WORDS, 1))
        return words_page("what the turn did to the answer", words, self.size.width)

    def copied(self) -> tuple[str, str] | None:
        """The answer."""
        answer = self.labelling.answer
        return ("the answer", answer.rollout.text) if answer is not None else None

    # -- painting --

    def paint(self) -> None:
        """What is known; once a turn is on the screen, keys may name it."""
        if not self.is_ready:
            return
        self.set_class(self._is_agreement, "-agreeing")
        labelling = self.labelling
        self._paint_head()
        self._paint_text()
        self.query_one("#label-words", LineView).set_document(_words(is_tall=self.has_class("-tall")))
        self.query_one("#agreement-head", TextLine).show(
            [Part("people and the detector", "title")], [Part("m or Esc: the turn", "dim", 1)]
        )
        if self._is_agreement:
            document = [*_agreement(agreement(labelling.labels)), *_differences(labelling)]
            self.query_one("#agreement-text", LineView).set_document(document)
        is_waiting = labelling.telling is not None and labelling.telling.is_waiting
        note = "no daemon answers: this label waits here and is sent again by itself" if is_waiting else labelling.note
        self.query_one("#label-said", TextLine).show(
            [Part(f" {labelling.annotator}", "title"), Part(note, "warning" if is_waiting else "dim", 1)]
        )
        if labelling.here is not None and not labelling.is_shown and not self._is_agreement:
            self.call_after_refresh(self._is_on_screen, labelling.here)

    def _is_on_screen(self, one: wire.DrawnTurn) -> None:
        if self.console.shown is self and not self.is_tiny and self.labelling.here is one:
            self.labelling.shown()

    def _paint_head(self) -> None:
        labelling, head = self.labelling, self.query_one("#label-head", TextLine)
        if labelling.drawn is None:
            head.show([Part("label", "title")])
            return
        passed = f"{labelling.skipped:,} passed over" if labelling.skipped else ""
        head.show(
            [
                Part("what did this turn do?" if labelling.here is not None else "label", "title"),
                Part(passed, "dim", 3),
            ],
            [Part(f"{labelling.named:,} of {labelling.drawn:,} named", "plain", 1), Part("Esc traces", "dim", 2)],
        )

    def _paint_text(self) -> None:
        labelling, view = self.labelling, self.query_one("#label-text", LineView)
        here, answer = labelling.here, labelling.answer
        if here is None or answer is None:
            self._of_turn = None
            view.set_document([] if labelling.drawn is None or labelling.waiting else _nothing(labelling))
            return
        document, place = turn_document(answer, here.turn)
        view.set_document(document)
        if here is not self._of_turn:
            self._of_turn = here
            self.call_after_refresh(view.show_span, place, 0)


def turn_document(answer: wire.StoredRollout, turn: Turn) -> tuple[list[Paragraph], int]:
    """The answer cut at this turn, no other one marked, and which of the paragraphs it begins."""
    rollout = answer.rollout
    before, turned = rollout.text[: turn.start].strip(), rollout.text[turn.start :].rstrip()
    word = turn.end - turn.start
    ending = {True: "it ends right", False: "it ends wrong", None: "nobody judged how it ends"}[rollout.is_correct]
    if rollout.finish is Finish.TRUNCATED:
        ending += ", cut off: it was too long"
    document = [
        prompt_paragraph(answer.prompt),
        *([Paragraph.of(before, style="think", sign="T")] if before else []),
        Paragraph.of(
            f">>{turned[:word]}<<{turned[word:]}", [Span(0, word + 4, "reflect", ">")], style="think", sign=">"
        ),
        Paragraph.of(ending, style="plain"),
    ]
    return document, len(document) - 2


def _words(*, is_tall: bool) -> list[Paragraph]:
    """The keys: with their meanings where there is room, else in two rows."""
    keys = [f"{number} {word:<{LONGEST}}" for number, word in enumerate(WORDS, 1)]
    if is_tall:
        return [
            Paragraph.of(f" {key}  {MEANINGS[word]}", [Span(1, 3 + LONGEST, "title")])
            for key, word in zip(keys, WORDS, strict=True)
        ]
    half = len(keys) // 2
    return [Paragraph.of(f" {'  '.join(some)}") for some in (keys[:half], keys[half:])]


def _nothing(labelling: Labelling) -> list[Paragraph]:
    """Why there is no turn."""
    if not labelling.drawn:
        return [Paragraph.of("no answer of this run turned back on itself so far")]
    words = [f"all {labelling.drawn:,} turns are named, or passed over", "m shows how far you and the detector agree"]
    return [Paragraph.of(line) for line in words]


def _agreement(found: Agreement | None) -> list[Paragraph]:
    """Figures, and the table of words."""
    if found is None:
        return [Paragraph.of("there are no labels yet")]
    said, rows = confusion(found)
    head = f"{'the detector says':<19}" + "".join(f"{word:>{CELL}}" for word in said)
    return [
        *(Paragraph.of(line) for line in agreement_lines(found)),
        Paragraph.of("1 is agreement, 0 what chance would make; each outcome was asked about alike, however rare it is",
                     style="dim"),
        Paragraph.of("\npeople say, across; in brackets where both say the same", style="title"),
        Paragraph.of(head, style="dim"),
        *(Paragraph.of(_row(row, said)) for row in rows),
    ]  # fmt: skip


def _differences(labelling: Labelling) -> list[Paragraph]:
    """The turns of which this person and the detector say something else."""
    differing = [
        f"step {turn.step:,} answer {turn.group}.{turn.index} `{turn.word}`: {label.said}, the detector {turn.detector}"
        for label in labelling.labels
        for turn in [label.turn]
        if label.annotator == labelling.annotator and label.said != turn.detector
    ]
    if not differing:
        return []
    return [Paragraph.of("\nwhere you say something else", style="title"), *map(Paragraph.of, differing)]


def _row(row: Sequence[str], said: Sequence[str]) -> str:
    cells = [f"[{count}]" if word == row[0] else f"{count} " for word, count in zip(said, row[1:], strict=True)]
    return f"{row[0]:<19}" + "".join(f"{cell:>{CELL}}" for cell in cells)
