"""What the machine does while the run learns, and where the time of a step goes.

Above the machine, the trainers, the daemon and this console, looked at by the daemon once a second and only while this
screen is shown; below the last steps as bars, each as long as it took, with one sentence about what they wait for.
Deliberately left out: how it came to be so over the whole run (the screen of curves has `time/...`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Container, Vertical
from textual.widget import Widget

from ponder import metrics, wire
from ponder.metrics import format_metric
from ponder.phases import ASKED, PHASES, StepTime, advice, bar, bottleneck, step_times
from ponder.system_text import machine_lines
from ponder.worker_text import WorkersNow, read_workers, workers_request
from tui import actions
from tui.driver import RATE_WINDOW_S, PonderDriver
from tui.screens.frame import ConsoleScreen
from tui.screens.text_line import Part, TextLine
from tui.widgets import LineView, Paragraph, Span
from tui.widgets.emptiness import ASKING

STEPS_ASKED = 60
LABEL_CELLS = 15
PHASE_STYLES = {"s": "heat-2", "r": "verify", "l": "heat-4", "t": "dim", "o": "dim", "v": "prompt", "c": "aha"}


class SystemScreen(ConsoleScreen):
    """See the module."""

    screen_name: ClassVar[str] = "system"
    rests: ClassVar[bool] = False
    AUTO_FOCUS: ClassVar[str | None] = "#steps"
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("system")]

    def __init__(self) -> None:
        super().__init__()
        self._system: wire.System | None = None
        self._times: list[StepTime] = []
        self._workers: WorkersNow | None = None
        self._frames: deque[tuple[float, int]] = deque()

    def body(self) -> Iterable[Widget]:
        """The machine, and the steps."""
        rule = "-" if self.console.is_ascii else "─"
        with Container(id="system-body"):
            with Vertical(id="machine-pane"):
                yield TextLine(id="machine-head", rule=rule)
                yield LineView(id="machine", gutter=False, empty=f" {ASKING}")
            with Vertical(id="steps-pane"):
                yield TextLine(id="steps-head", rule=rule)
                yield TextLine(id="steps-advice")
                yield LineView(id="steps", gutter=False, empty="  no step is done so far")
                yield TextLine(id="steps-legend")

    async def pull(self) -> None:
        """One look at the machine, and the times of the last steps."""
        ask, row = self.console.ask, self.console.row
        self._system = await ask(wire.GetSystem(), wire.System)
        if row is None:
            self._times, self._workers = [], None
            return
        request = wire.GetMetrics(row.name, list(ASKED), max(row.step - STEPS_ASKED, -1))
        self._times = step_times((await ask(request, wire.Curves)).curves)
        self._workers = read_workers(row, await ask(workers_request(row), wire.Curves))

    def copied(self) -> tuple[str, str] | None:
        """All that is said about the machine, as lines."""
        if self._system is None:
            return None
        return "the machine's figures", "\n".join(f"{what}: {words}" for what, words in machine_lines(self._system))

    def paint(self) -> None:
        """Lines and bars."""
        if not self.is_ready:
            return
        detail, system = self.console.detail, self._system
        head = [Part("the daemon's machine", "title")]
        self.query_one("#machine-head", TextLine).show(head)
        lines = machine_lines(system) if system is not None else []
        if detail is not None:
            lines.append(("model", f"{detail.model} on {detail.device or 'no device yet'}"))
            lines.append(("tokens/s", self._speed()))
            if self._workers is not None:
                lines.append(("workers", self._workers.there(self.console.now_us())))
                lines.append(("their answers", self._workers.drawn))
        lines.append(("console", self._console_words()))
        self.query_one("#machine", LineView).set_document([_line(what, words) for what, words in lines if words])
        self._paint_steps()

    def _paint_steps(self) -> None:
        times, view = self._times, self.query_one("#steps", LineView)
        self.query_one("#steps-head", TextLine).show(
            [Part(bottleneck(times) or "where the time of a step goes", "title")],
            [Part("newest first", "dim", 2)] if times else [],
        )
        self.query_one("#steps-advice", TextLine).show([Part(f" {advice(times)}", "dim")] if times else [])
        view.set_document(step_lines(times, view.size.width - 2))
        signs = {sign for step in times for sign in step.seconds}
        legend = [Part(f"{phase.sign} {phase.word}", "dim") for phase in PHASES if phase.sign in signs]
        self.query_one("#steps-legend", TextLine).show([Part("", "dim"), *legend])

    def _speed(self) -> str:
        """Tokens a second: over the step, while sampling, while learning."""
        names = {
            metrics.TOKENS_PER_SECOND: "over the step", metrics.SAMPLED_PER_SECOND: "sampling",
            metrics.TRAINED_PER_SECOND: "learning",
        }  # fmt: skip
        known = [
            (name, words, value) for name, words in names.items() if (value := self.console.newest(name)) is not None
        ]
        return ", ".join(f"{format_metric(name, value)} {words}" for name, words, value in known)

    def _console_words(self) -> str:
        """What this console takes of the line."""
        driver = self.console._driver
        if not isinstance(driver, PonderDriver):
            return ""
        link = driver.link
        rtt = "unknown" if link.rtt_s is None else f"{1000 * link.rtt_s:.0f} ms"
        rate = self._frame_rate(link.frames, time.monotonic())
        return f"{link.bytes_per_s / 1000:.1f} kB/s and {rate:.1f} frames/s to the terminal, round trip {rtt}"

    def _frame_rate(self, frames: int, now_s: float) -> float:
        """Frames a second, over the last few."""
        self._frames.append((now_s, frames))
        while self._frames[0][0] < now_s - RATE_WINDOW_S:
            self._frames.popleft()
        since_s, before = self._frames[0]
        return (frames - before) / max(now_s - since_s, 1.0)


def _line(what: str, words: str) -> Paragraph:
    return Paragraph.of(f" {what:<{LABEL_CELLS}}{words}", [Span(0, LABEL_CELLS + 1, "dim")])


def step_lines(times: Sequence[StepTime], width: int) -> list[Paragraph]:
    """The steps as bars, newest first."""
    longest_s = max((step.total_s for step in times), default=0.0)
    lines = []
    for step in reversed(times):
        label, length = f" {step.step:>7,}  ", f"{step.total_s:7.2f} s "
        drawn = bar(step, longest_s, max(width - len(label) - len(length), 8))
        spans, at = [], len(label)
        for sign in step.seconds:
            cells = drawn.count(sign)
            spans.append(Span(at, at + cells, PHASE_STYLES[sign], ""))
            at += cells
        gap = max(width - len(label) - len(length) - len(drawn), 1)
        lines.append(Paragraph.of(f"{label}{drawn}{' ' * gap}{length}".rstrip(), [s for s in spans if s.end > s.start]))
    return lines
