"""Every number that can be turned while the run goes on, with what it does, its bounds, and all its changes.

The form is generated from `ponder.knobs`. A value is checked before it is sent; what became of it stands below:
accepted, applied at step N, or refused and why. Deliberately left out: changing several at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import events, on
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import Input

from ponder import wire
from ponder.errors import KnobError
from ponder.event_text import applied_line
from ponder.knobs import DECLARATIONS, Declaration, KnobValue, check_value, format_value
from tui import actions
from tui.knob_steps import stepped
from tui.screens.frame import ConsoleScreen
from tui.screens.text_line import Part, TextLine
from tui.terms import COMMAND_STATES
from tui.widgets import Cell, Column, LineView, ListRow, ListSource, Paragraph, VirtualList

COLUMNS = (
    Column("knob", 27),
    Column("value", 10, "right"),
    Column("pending", 10, "right"),
    Column("default", 9, "right", drop=2),
    Column("unit", 8, drop=1),
    Column("bounds", 22, drop=3),
    Column("acts at", 9, drop=4),
    Column("what it does", 0, drop=5),
)


class KnobLine(Input):
    """The line in which a value is typed; up and down step it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "step(1)", "more", show=False),
        Binding("down", "step(-1)", "less", show=False),
        Binding("escape", "drop", "leave", show=False),
    ]

    def on_key(self, event: events.Key) -> None:
        """`+` steps up, and `-` steps down where it cannot begin an exponent or a negative number."""
        is_number = bool(self.value) and not self.value[: self.cursor_position].lower().endswith("e")
        if event.character in ("+", "-") and is_number and self.cursor_position == len(self.value):
            event.prevent_default().stop()
            self.action_step(1 if event.character == "+" else -1)

    def action_step(self, by: int) -> None:
        """A step up or down from what stands there."""
        if isinstance(self.screen, KnobsScreen):
            self.screen.step_line(by)

    def action_drop(self) -> None:
        """Leave without a change."""
        if isinstance(self.screen, KnobsScreen):
            self.screen.close_line()


class KnobsScreen(ConsoleScreen):
    """See the module."""

    screen_name: ClassVar[str] = "knobs"
    placed_in = "#knobs"
    AUTO_FOCUS: ClassVar[str | None] = "#knobs"
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("knobs")]

    def __init__(self) -> None:
        super().__init__()
        self._table: wire.KnobTable | None = None
        self._wanted = ""
        self._edited: Declaration | None = None

    def body(self) -> Iterable[Widget]:
        """The form, the line to type in, help and history."""
        rule = "-" if self.console.is_ascii else "─"
        yield VirtualList(COLUMNS, id="knobs", empty="no run, no knobs")
        with Horizontal(id="edit"):
            yield TextLine(id="edit-name")
            yield KnobLine(id="edit-value", compact=True)
            yield TextLine(id="edit-check")
        with Container(id="knobs-below"):
            with Vertical(id="knob-pane"):
                yield TextLine(id="knob-head", rule=rule)
                yield LineView(id="knob-help", gutter=False)
            with Vertical(id="history-pane"):
                yield TextLine(id="history-head", rule=rule)
                yield LineView(id="history", empty="  nothing was turned so far")

    def point_at(self, name: str) -> None:
        """Put the cursor on this knob as soon as the form is there."""
        self._wanted = name
        self.console.want()

    async def pull(self) -> None:
        """Values, what is pending, all changes."""
        row = self.console.row
        self._table = await self.console.ask(wire.GetKnobs(row.name), wire.KnobTable) if row is not None else None

    # -- keys --

    @property
    def _focused_knob(self) -> Declaration | None:
        return DECLARATIONS.get(self.query_one("#knobs", VirtualList).cursor_key or "")

    def _row_of(self, name: str) -> wire.KnobRow | None:
        knobs = self._table.knobs if self._table is not None else []
        return next((knob for knob in knobs if knob.name == name), None)

    def on_virtual_list_row_selected(self, _: VirtualList.RowSelected) -> None:
        """Enter on a knob."""
        self.action_knobs_edit()

    def on_virtual_list_row_highlighted(self, _: VirtualList.RowHighlighted) -> None:
        """Another knob is under the cursor."""
        self.paint()

    def action_knobs_edit(self) -> None:
        """Type a new value."""
        self._open_line(0)

    def action_knobs_more(self) -> None:
        """A step up."""
        self._open_line(1)

    def action_knobs_less(self) -> None:
        """A step down."""
        self._open_line(-1)

    async def action_knobs_undo(self) -> None:
        """Back to what it was before its last applied change, as a new change."""
        knob, table = self._focused_knob, self._table
        if knob is None or table is None:
            return
        last = next((c for c in table.changes if c.name == knob.name and c.state is wire.CommandState.APPLIED), None)
        if last is None or last.old is None:
            self.console.say(f"{knob.name} was never changed")
            return
        await self._send(knob.name, last.old)

    # -- the line --

    def _open_line(self, steps: int) -> None:
        knob = self._focused_knob
        row = self._row_of(knob.name) if knob is not None else None
        if knob is None or row is None:
            return
        if self.console.is_readonly:
            self.console.say("! this console only reads (`--readonly`)", "warning")
            return
        if not knob.is_live:
            self.console.say(f"! {knob.name} acts at the {knob.takes_effect}: set it in the recipe", "warning")
            return
        self._edited = knob
        now = row.value if row.pending is None else row.pending
        line = self.query_one("#edit-value", KnobLine)
        line.value = format_value(stepped(knob, now, steps) if steps else now)
        self.set_class(True, "-editing")
        self.set_focus(line)
        line.cursor_position = len(line.value)
        self._check_line()

    def step_line(self, by: int) -> None:
        """A step from what stands in the line."""
        line = self.query_one("#edit-value", KnobLine)
        if self._edited is None:
            return
        try:
            now = check_value(self._edited.name, line.value)
        except KnobError:
            return
        line.value = format_value(stepped(self._edited, now, by))
        line.cursor_position = len(line.value)

    def copied(self) -> tuple[str, str] | None:
        """The command that sets the knob under the cursor to what it is."""
        knob = self._focused_knob
        row = self._row_of(knob.name) if knob is not None else None
        if row is None:
            return None
        return "the command", f"ponder set {self.console.run_name} {row.name}={format_value(row.value)}"

    def go_back(self) -> bool:
        """Leave the line without a change."""
        if self._edited is None:
            return False
        self.close_line()
        return True

    def close_line(self) -> None:
        """Back to the form."""
        self._edited = None
        self.set_class(False, "-editing")
        self.set_focus(self.query_one("#knobs", VirtualList))

    @on(Input.Changed, "#edit-value")
    def _check_line(self) -> None:
        """Say while typing whether the value fits."""
        knob = self._edited
        if knob is None:
            return
        value = self.query_one("#edit-value", KnobLine).value.strip()
        row = self._row_of(knob.name)
        unit = f" {knob.unit}" if knob.unit else ""
        now = f" ({format_value(row.value)} now)" if row is not None else ""
        name = self.query_one("#edit-name", TextLine)
        words = f" {knob.name}{now} = "
        name.styles.width = len(words)
        name.show([Part(words, "title")])
        check = self.query_one("#edit-check", TextLine)
        try:
            check_value(knob.name, value)
        except KnobError:
            check.show([Part(f"! takes {knob.bounds}{unit}", "bad")])
        else:
            check.show([Part(f"{unit.strip() or 'fits'}", "good"), Part("Enter sends, Esc leaves", "dim", 1)])

    @on(Input.Submitted, "#edit-value")
    async def _submit_line(self, event: Input.Submitted) -> None:
        """Send what fits; say why not otherwise."""
        event.stop()
        knob = self._edited
        if knob is None:
            return
        try:
            value = check_value(knob.name, event.value.strip())
        except KnobError as error:
            self.console.say(f"! {error.message}; {error.hint}", "bad")
            return
        self.close_line()
        await self._send(knob.name, value)

    async def _send(self, name: str, value: KnobValue) -> None:
        row = self._row_of(name)
        if row is None or self.console.row is None:
            return
        words = f"{name} {format_value(row.value)} -> {format_value(value)}"
        await self.console.send(wire.SetKnob(self.console.run_name, name, value, self.console.by), words)

    # -- painting --

    def paint(self) -> None:
        """The form, the help of the knob under the cursor, the history."""
        if not self.is_ready:
            return
        knobs = self.query_one("#knobs", VirtualList)
        rows = self._table.knobs if self._table is not None else []
        knobs.set_source(ListSource([_form_row(row) for row in rows if row.name in DECLARATIONS]))
        if self._wanted and knobs.move_to(self._wanted):
            self._wanted = ""
            self.set_focus(knobs)
        knob = self._focused_knob
        row = self._row_of(knob.name) if knob is not None else None
        head, text = self.query_one("#knob-head", TextLine), self.query_one("#knob-help", LineView)
        if knob is not None and row is not None:
            head.show([Part(knob.name, "title"), Part(f"[{knob.group}]", "dim", 1)])
            text.set_document(_help_of(knob, row, self.console.run_name))
        changes = self._table.changes if self._table is not None else []
        count = f"{len(changes)} change{'' if len(changes) == 1 else 's'}"
        self.query_one("#history-head", TextLine).show([Part("what was turned", "title")], [Part(count, "dim", 1)])
        self.query_one("#history", LineView).set_document([_change_line(change) for change in changes])


def _form_row(row: wire.KnobRow) -> ListRow:
    knob = DECLARATIONS[row.name]
    is_default = row.value == knob.default
    return ListRow(
        row.name,
        (
            row.name,
            Cell(format_value(row.value), "plain" if is_default else "title"),
            Cell("" if row.pending is None else f"-> {format_value(row.pending)}", "warning"),
            Cell(format_value(knob.default), "dim"),
            knob.unit,
            Cell(knob.bounds, "dim"),
            Cell(str(knob.takes_effect), "plain" if knob.is_live else "dim"),
            Cell(knob.doc, "dim"),
        ),
        "plain" if knob.is_live else "dim",
    )


def _help_of(knob: Declaration, row: wire.KnobRow, run: str) -> list[Paragraph]:
    """What it does, what fits, when it acts, and the same as a command."""
    unit = f" {knob.unit}" if knob.unit else ""
    source = f"   default from {knob.source}" if knob.source else ""
    acts = f"acts at the {knob.takes_effect}" if knob.is_live else f"acts at the {knob.takes_effect}, from the recipe"
    lines = [
        Paragraph.of(f" {knob.doc}"),
        Paragraph.of(f" {knob.bounds}{unit}, default {format_value(knob.default)}; {acts}"),
    ]
    if knob.is_live:
        lines.append(Paragraph.of(f" $ ponder set {run} {knob.name}={format_value(row.value)}", style="dim"))
    if source:
        lines.append(Paragraph.of(source.replace("   d", " d"), style="dim"))
    return lines


def _change_line(change: wire.KnobChange) -> Paragraph:
    """One change: what became of it, and who asked."""
    word = COMMAND_STATES[change.state]
    by = f"  by {change.by}" if change.by else ""
    if change.state is wire.CommandState.APPLIED:
        text = applied_line("set", change.applied_step, change.name, change.old, change.new)
    else:
        old = "" if change.old is None else f" {format_value(change.old)} ->"
        text = f"{change.state}: {change.name}{old} {format_value(change.new)}"
        text += f": {change.message}" if change.message else ""
    style = {"good": "good", "bad": "bad", "warning": "plain"}[word.style]
    return Paragraph.of(f"{text}{by}", style=style, sign=word.sign)
