"""What a run left on disk, and what can be done with it: talk to it, fork from it, go back to it, keep it.

Above every checkpoint that the run saved, newest first, also those that newer ones pushed out; below what was measured
at the one under the cursor with the commands that take it, and the family: whose child the run is, and its children.
Deliberately left out: writing one now, which is a key of all screens.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Container, Vertical
from textual.widget import Widget

from ponder import metrics, wire
from ponder.errors import PonderError
from ponder.event_text import format_accuracy, format_bytes, step_of
from ponder.metrics import METRICS, format_metric
from ponder.paths import CHECKPOINTS
from ponder.safe_text import safe_line
from tui import actions
from tui.outside import run_ponder
from tui.screens.confirm import Confirm
from tui.screens.fork_form import ForkForm, Wishes
from tui.screens.frame import ConsoleScreen
from tui.screens.text_line import Part, TextLine
from tui.terms import STATES
from tui.widgets import Cell, Column, LineView, ListRow, ListSource, Paragraph, VirtualList

FAMILY_RUNS = 500
COLUMNS = (
    Column("step", 8, "right"),
    Column("saved", 15, drop=2),
    Column("size", 9, "right", drop=1),
    Column("accuracy", 8, "right"),
    Column("reward", 7, "right"),
    Column("stays as", 0),
)


class CheckpointsScreen(ConsoleScreen):
    """See the module."""

    screen_name: ClassVar[str] = "checkpoints"
    wants_evaluations = True
    placed_in = "#saves"
    AUTO_FOCUS: ClassVar[str | None] = "#saves"
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("checkpoints")]

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[wire.CheckpointRow] = []
        self._rewards: dict[int, float] = {}
        self._family: list[wire.RunRow] = []

    def body(self) -> Iterable[Widget]:
        """The list; what is known about one, and the family."""
        rule = "-" if self.console.is_ascii else "─"
        yield VirtualList(COLUMNS, id="saves", empty="no checkpoint so far: `c` writes one at the next step boundary")
        with Container(id="saves-below"):
            with Vertical(id="save-pane"):
                yield TextLine(id="save-head", rule=rule)
                yield LineView(id="save-facts", gutter=False)
            with Vertical(id="family-pane"):
                yield TextLine(id="family-head", rule=rule)
                yield LineView(id="family", gutter=False, empty="  no run, no family")

    async def pull(self) -> None:
        """The checkpoints, the rewards at their steps, and the runs among which the family is."""
        row = self.console.row
        if row is None:
            self._rows, self._rewards, self._family = [], {}, []
            return
        ask = self.console.ask
        self._rows = (await ask(wire.GetCheckpoints(row.name), wire.Checkpoints)).checkpoints
        curves = (await ask(wire.GetMetrics(row.name, [metrics.REWARD_MEAN]), wire.Curves)).curves
        steps = {saved.step for saved in self._rows}
        self._rewards = {step: value for step, value in curves.get(metrics.REWARD_MEAN, []) if step in steps}
        runs = (await ask(wire.ListRuns(limit=FAMILY_RUNS), wire.Runs)).runs
        self._family = family(row.name, runs)

    def copied(self) -> tuple[str, str] | None:
        """Where the checkpoint under the cursor lies, on the daemon's machine."""
        row, detail = self.chosen, self.console.detail
        if row is None or detail is None:
            return None
        return f"the folder of step {row.step:,}", f"{detail.folder}/{CHECKPOINTS}/{row.folder}"

    # -- keys --

    @property
    def chosen(self) -> wire.CheckpointRow | None:
        """The checkpoint under the cursor."""
        if not self.is_ready:  # a key may come before the list is there
            return None
        key = self.query_one("#saves", VirtualList).cursor_key
        return next((row for row in self._rows if str(row.step) == key), None)

    def _on_disk(self) -> wire.CheckpointRow | None:
        """The one under the cursor, if something can be done with it; else that is said."""
        row = self.chosen
        if row is None:
            self.console.say("! there is no checkpoint yet; `c` writes one", "warning")
        elif not row.is_on_disk:
            kept = "newer ones pushed it out; `saving.keep` says how many stay, and `p` keeps one"
            self.console.say(f"! step {row.step:,} is deleted: {kept}", "warning")
            return None
        return row

    def on_virtual_list_row_selected(self, _: VirtualList.RowSelected) -> None:
        """Enter does nothing that takes long or makes a run: it says what the other keys do."""
        self.console.say("t talks to it, f forks from it, r goes back to it, p keeps it")

    def on_virtual_list_row_highlighted(self, _: VirtualList.RowHighlighted) -> None:
        """Another one is under the cursor."""
        self.paint()

    def action_checkpoints_talk(self) -> None:
        """Leave the console for a chat, and come back."""
        if (row := self._on_disk()) is None:
            return
        try:
            run_ponder(self.console, ["chat", f"{self.console.run_name}@{row.step}"])
        except PonderError as error:
            self.console.say(f"! {error.message}: {error.hint}", "warning")
        self.console.want()

    def action_checkpoints_fork(self) -> None:
        """A new run from here."""
        row, run = self._on_disk(), self.console.run_name
        if row is None or self._only_reads():
            return
        step = row.step

        async def answered(wishes: Wishes | None) -> None:
            if wishes is not None:
                request = wire.ForkRun(run, step, dict(wishes.changes), wishes.name, self.console.by)
                await self.console.send(request, f"fork of {run} at step {step:,}")

        self.console.push_screen(ForkForm(run, step), answered)

    def action_checkpoints_rewind(self) -> None:
        """A new run from here, and this one ends; asked where it is not over."""
        row, console = self._on_disk(), self.console
        run = console.row
        if row is None or run is None or self._only_reads():
            return
        step = row.step

        async def answered(is_meant: bool | None) -> None:
            if not is_meant:
                console.say(f"{run.name} goes on")
                return
            fork = wire.ForkRun(run.name, step, by=console.by)  # first: the stop's checkpoint may push this one out
            if await console.send(fork, f"rewind of {run.name} to step {step:,}") and not run.state.is_over:
                await console.send(wire.StopRun(run.name, by=console.by), f"stop {run.name}")

        lines = [
            f"Go back to step {step:,} of {run.name}?",
            "",
            "A new run begins there.",
            f"{run.name} is stopped after its step, and keeps what it has."
            if not run.state.is_over
            else f"{run.name} is {run.state}, and stays as it is.",
            "",
            f"$ ponder rewind {run.name} {step}",
        ]
        console.push_screen(Confirm(lines, "go back", "stay"), answered)

    async def action_checkpoints_pin(self) -> None:
        """Keep it, or let it go."""
        row, run = self._on_disk(), self.console.run_name
        if row is None:
            return
        kind = wire.UnpinCheckpoint if row.is_pinned else wire.PinCheckpoint
        verb = "unpin" if row.is_pinned else "pin"
        await self.console.send(kind(run, row.step, self.console.by), f"{verb} step {row.step:,}")

    def _only_reads(self) -> bool:
        if self.console.is_readonly:
            self.console.say("! this console only reads (`--readonly`)", "warning")
        return self.console.is_readonly

    # -- painting --

    def paint(self) -> None:
        """The list, the facts, the family."""
        if not self.is_ready:
            return
        measured = dict(self.console.detail.evaluations) if self.console.detail is not None else {}
        newest = max((row.step for row in self._rows if row.is_on_disk), default=None)
        saves = self.query_one("#saves", VirtualList)
        saves.set_source(
            ListSource([_list_row(row, measured.get(row.step, {}), self._rewards, newest) for row in self._rows])
        )
        row, run = self.chosen, self.console.row
        head, facts = self.query_one("#save-head", TextLine), self.query_one("#save-facts", LineView)
        if row is None or run is None:
            head.show([])
            facts.set_document([])
        else:
            head.show([Part(f"{run.name} @ {row.step:,}", "title")], [Part(row.folder, "dim", 1)])
            facts.set_document(_facts(row, run.name, measured.get(row.step, {}), self._rewards.get(row.step)))
        others = len(self._family) - 1
        self.query_one("#family-head", TextLine).show(
            [Part("family", "title")],
            [Part(f"{others} other run{'' if others == 1 else 's'}" if others > 0 else "", "dim")],
        )
        view = self.query_one("#family", LineView)
        lines = family_lines(self.console.run_name, self._family, self.console.is_ascii)
        room = max(view.size.width - 2, 1)  # a family is read by its branches, which a wrapped line would break
        view.set_document(
            [Paragraph.of(safe_line(line, room), style="title" if line.startswith(">") else "plain") for line in lines]
        )


def _list_row(
    row: wire.CheckpointRow, measured: Mapping[str, float], rewards: Mapping[int, float], newest: int | None
) -> ListRow:
    accuracy = measured.get(metrics.EVAL_ACCURACY, row.scores.get(metrics.EVAL_ACCURACY))
    reward = rewards.get(row.step)
    reasons = [
        *(["newest"] if row.step == newest else []),
        *(["best"] if row.is_best else []),
        *(["pinned"] if row.is_pinned else []),
    ]
    stays = ", ".join(reasons) or "-"
    style = "good" if row.is_best else "title" if row.is_pinned else "plain"
    return ListRow(
        str(row.step),
        (
            f"{row.step:,}",
            _clock(row.saved_us),
            format_bytes(row.size_bytes),
            "-" if accuracy is None else format_metric(metrics.EVAL_ACCURACY, accuracy),
            "-" if reward is None else format_metric(metrics.REWARD_MEAN, reward),
            Cell(stays, style) if row.is_on_disk else Cell("deleted", "dim"),
        ),
        "plain" if row.is_on_disk else "dim",
    )


def _facts(row: wire.CheckpointRow, run: str, measured: Mapping[str, float], reward: float | None) -> list[Paragraph]:
    """What was measured there, and the commands that take it."""
    scores = [
        f"{METRICS[name].label} {format_metric(name, value)}" for name, value in row.scores.items() if name in METRICS
    ]
    accuracy = f"{METRICS[metrics.EVAL_ACCURACY].label} {format_accuracy(dict(measured))}"
    figures = [accuracy] if metrics.EVAL_ACCURACY in measured else scores
    if reward is not None and not any(word.startswith(METRICS[metrics.REWARD_MEAN].label) for word in figures):
        figures.append(f"{METRICS[metrics.REWARD_MEAN].label} {format_metric(metrics.REWARD_MEAN, reward)}")
    lines = [
        Paragraph.of(f" {', '.join(figures) or 'nothing was measured at this step'}"),
        Paragraph.of(
            f" saved {_clock(row.saved_us)}, {format_bytes(row.size_bytes)}, sha256 {row.sha256[:12]}", style="dim"
        ),
    ]
    if not row.is_on_disk:
        return [*lines, Paragraph.of(" deleted: newer ones pushed it out", style="warning")]
    pin = "unpin" if row.is_pinned else "pin"
    commands = [
        f"chat {run}@{row.step}", f"fork {run} --at {row.step}", f"rewind {run} {row.step}", f"{pin} {run} {row.step}",
    ]  # fmt: skip
    return [*lines, *(Paragraph.of(f" $ ponder {command}", style="dim") for command in commands)]


def _clock(time_us: int) -> str:
    return time.strftime("%m-%d %H:%M:%S", time.localtime(time_us / 1e6))


def family(name: str, runs: Sequence[wire.RunRow]) -> list[wire.RunRow]:
    """The run's oldest known ancestor and all that descend from it, each behind its parent, older children first."""
    by_name = {row.name: row for row in runs}
    root = name
    seen = {name}
    while root in by_name and (parent := by_name[root].forked_from) in by_name and parent not in seen:
        root = parent
        seen.add(root)
    found: list[wire.RunRow] = []

    def add(row: wire.RunRow) -> None:
        found.append(row)
        for child in sorted((child for child in runs if child.forked_from == row.name), key=lambda child: child.id):
            if child not in found:
                add(child)

    if root in by_name:
        add(by_name[root])
    return found


def family_lines(name: str, rows: Sequence[wire.RunRow], is_ascii: bool) -> list[str]:
    """The family as a tree; the run that is watched stands behind `>`."""
    depths: dict[str, int] = {}
    lines = []
    for row in rows:
        depth = depths[row.name] = depths.get(row.forked_from, -1) + 1
        branch = f"{'   ' * (depth - 1)}{'`- ' if is_ascii else '└─ '}" if depth else ""
        word = STATES[row.state]
        since = f"from step {row.forked_at:,}, " if row.forked_at is not None else ""
        here = ">" if row.name == name else " "
        lines.append(
            f"{here}{branch}{row.name}  {since}{word.sign} {row.state} {step_of(row.step, row.steps, '/')}  {row.title}"
        )
    return lines
