"""How likely an answer was by each checkpoint of its run: a page over the screens on which answers are chosen.

    head     which answer, and how far the daemon's program is
    chart    the whole answer's chance over the steps, on tall terminals
    strips   a line a checkpoint, oldest first, and one of what was recorded as the answer was drawn
    below    the token under the cursor, by every checkpoint; the keys

The daemon is asked again and again for what it knows by then, and told when the page is closed before all was said.
Deliberately left out: how lines are laid out (`tui.odds_strips`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, cast

from msgspec.structs import replace
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical

from ponder import wire
from ponder.errors import NoDaemon, PonderError
from ponder.odds import NONE_SAVED, WHOLE, Gathered
from ponder.plot_text import Curve, Frame
from ponder.wire import CheckpointOdds, TokenOdds
from tui.odds_strips import Line, head_line, percent, shown_text, strip_line
from tui.screens.dialog import Dialog
from tui.screens.text_line import Part, TextLine
from tui.token_facts import read_tokens
from tui.widgets import BrailleChart, LineView, Paragraph

if TYPE_CHECKING:
    from tui.app import Console

CHART_ROWS = 36
"""A terminal of so many rows has room for the chart."""
KEYS = "h l another token  j k another line"
LEGEND = "whole answer  mean of a token (geometric)  here: this token  digits: tenths"


def open_odds(console: Console, stored: wire.StoredRollout | None) -> None:
    """Lay the page over the screen, for this answer."""
    if stored is None:
        console.say("there is no answer here to weigh")
    else:
        console.push_screen(OddsPage(stored.id))


class OddsPage(Dialog[None]):
    """See the module."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,o", "leave", "close", show=False),
        Binding("h,left", "move(-1)", "token before", show=False, priority=True),
        Binding("l,right", "move(1)", "token after", show=False, priority=True),
    ]

    def __init__(self, rollout_id: int) -> None:
        super().__init__()
        self._request = wire.GetOdds(rollout_id=rollout_id)
        self._stored: wire.StoredRollout | None = None
        self._found = Gathered()
        self._trouble: PonderError | None = None
        self._cursor = 0

    @property
    def console(self) -> Console:
        """The app that this page belongs to."""
        return cast("Console", self.app)

    def compose(self) -> ComposeResult:
        """From the head down to the keys."""
        with Vertical(id="odds"):
            yield TextLine(id="odds-head")
            yield TextLine(id="odds-answer")
            yield BrailleChart(WHOLE, id="odds-chart", ascii=self.console.is_ascii)
            yield LineView(id="odds-tokens", gutter=False)
            yield LineView(id="odds-strips", gutter=False)
            yield TextLine(id="odds-token")
            yield TextLine(id="odds-keys")

    def opened(self) -> None:
        """Begin to ask."""
        self.query_one("#odds-tokens", LineView).can_focus = False
        self.query_one("#odds-strips", LineView).focus()
        self._paint()
        self.run_worker(self._ask(), exit_on_error=True)

    def on_resize(self) -> None:
        """Lay everything out anew, once the parts have their size."""
        self.set_class(self.size.height >= CHART_ROWS, "-charted")
        self.call_after_refresh(self._paint)

    def on_unmount(self) -> None:
        """However the page went: nobody waits any longer."""
        if not self._found.is_done and self._trouble is None and self.console.is_running:
            self.console.run_worker(_let_go(self.console, self._request), exit_on_error=True)

    # -- asking --

    async def _ask(self) -> None:
        """Ask at the console's pace until all is said, over daemons that go and come."""
        ask = self.console.ask
        try:
            self._stored = (await ask(wire.GetSample(self._request.rollout_id or 0), wire.Sample)).sample
            while not self._found.is_done:
                self._paint()
                try:
                    self._found.take(await ask(self._found.asked(self._request), wire.Odds))
                except NoDaemon:
                    self._found.doing = "no daemon answers; asked again"
                self._paint()
                await asyncio.sleep(1 / self.console.pace().pulls_per_s)
        except PonderError as error:
            self._trouble = error
        self._paint()

    # -- keys --

    def action_leave(self) -> None:
        """Close."""
        self.close(None)

    def action_move(self, by: int) -> None:
        """To another token."""
        self._cursor = max(0, min(self._cursor + by, len(self._tokens) - 1))
        self._paint()

    # -- painting --

    @property
    def _tokens(self) -> list[TokenOdds]:
        rows = self._found.rows
        return rows[-1].tokens if rows else []

    def _paint(self) -> None:
        if not self.is_current or not self.query("#odds-keys"):
            return
        self._paint_head()
        view, head, tokens = (
            self.query_one("#odds-strips", LineView),
            self.query_one("#odds-tokens", LineView),
            self._tokens,
        )
        width = max(1, view.scrollable_content_region.width)
        lines = self._lines() if tokens else []
        head.set_document([head_line(tokens, self._cursor, width)] if tokens else [])
        view.set_document([*(strip_line(line, self._cursor, width) for line in lines), *self._notes()])
        rows = self._found.rows
        points = [(float(row.step), row.logp) for row in rows]
        self.query_one("#odds-chart", BrailleChart).set_curves([Curve(points)] if points else [], frame=Frame())
        self._paint_token(rows)

    def _paint_head(self) -> None:
        found, stored = self._found, self._stored
        state = Part("cannot be weighed", "bad") if self._trouble else Part(found.progress(), "warning")
        if found.is_done and not self._trouble:
            state = Part(f"{len(found.by_step)} checkpoint{'' if len(found.by_step) == 1 else 's'}", "dim")
        self.query_one("#odds-head", TextLine).show(
            [Part(" how likely each checkpoint finds it", "title"), state], [Part("Esc closes ", "dim")]
        )
        if stored is None:
            return
        where = f" step {stored.step:,} answer {stored.group}.{stored.rollout.index}"
        command = f"= ponder odds --sample {stored.id}"
        self.query_one("#odds-answer", TextLine).show(
            [Part(where, "title"), Part(stored.prompt.strip(), "plain", 1)], [Part(command, "dim", 2)]
        )

    def _lines(self) -> list[Line]:
        """The checkpoints, and behind those before it what was recorded as the answer was drawn."""
        lines = [Line(f"{row.step:,}", row) for row in self._found.rows]
        recorded = _recorded(self._stored, self._tokens) if self._stored is not None else None
        if recorded is not None:
            place = sum(row.step <= recorded.step for row in self._found.rows)
            lines.insert(place, Line("drawn", recorded, is_recorded=True))
        return lines

    def _notes(self) -> list[Paragraph]:
        """What is missing, and why."""
        found, notes = self._found, []
        if self._trouble is not None:
            notes.append(Paragraph.of(f"! {self._trouble.message}", style="bad"))
            notes += [Paragraph.of(f"  {self._trouble.hint}", style="dim")] if self._trouble.hint else []
        notes += [Paragraph.of(f"step {step:,} is left out: {why}", style="dim") for step, why in found.left_out]
        if found.steps == [0]:
            notes.append(
                Paragraph.of(f"{NONE_SAVED}; `saving.every_steps` and `saving.keep` say which stay", style="dim")
            )
        return notes

    def _paint_token(self, rows: list[CheckpointOdds]) -> None:
        tokens, line, keys = (
            self._tokens,
            self.query_one("#odds-token", TextLine),
            self.query_one("#odds-keys", TextLine),
        )
        keys.show([Part(f" {LEGEND}", "dim")], [Part(f"{KEYS} ", "dim", 1)])
        if not tokens:
            line.show([])
            return
        chances = [row.tokens[self._cursor].logp for row in rows if self._cursor < len(row.tokens)]
        ends = [chances[0], chances[-1]] if len(chances) > 1 else chances
        words = " -> ".join("not drawn" if logp is None else percent(math.exp(logp)) for logp in ends)
        line.show(
            [
                Part(f" token {self._cursor + 1:,} of {len(tokens):,}", "title"),
                Part(f"`{shown_text(tokens[self._cursor])}`", "chosen"),
                Part(f"{words}, from the first to the last checkpoint" if len(ends) > 1 else words, "plain", 1),
            ]
        )


def _recorded(stored: wire.StoredRollout, tokens: Sequence[TokenOdds]) -> CheckpointOdds | None:
    """What the policy that drew the answer, after the step before its own, made of its tokens, in half precision.

    None where that was not recorded.
    """
    logps = [token.logp for token in read_tokens(stored.rollout).tokens]
    if len(logps) != len(tokens) or all(logp is None for logp in logps):
        return None
    odds = [TokenOdds(token.text, logp) for token, logp in zip(tokens, logps, strict=True)]
    return CheckpointOdds(stored.step - 1, math.fsum(logp for logp in logps if logp is not None), odds)


async def _let_go(console: Console, request: wire.GetOdds) -> None:
    with suppress(PonderError):
        await console.ask(replace(request, is_wanted=False), wire.Odds)
