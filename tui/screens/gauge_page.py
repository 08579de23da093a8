"""The Rank screen's second page: whether what the reward model promises comes true.

Here a person lets go of the brake. Deliberately left out: what is drawn and said (`tui.gauge`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.containers import Container, Vertical

from ponder import wire
from ponder.plot_text import Curve, Frame
from ponder.ranking import BrakeState
from ponder.rlhf import BrakeAction, Rlhf
from tui import gauge
from tui.axes import value_range
from tui.screens.confirm import Confirm
from tui.screens.text_line import Part, TextLine
from tui.widgets import BrailleChart, LineView

if TYPE_CHECKING:
    from tui.app import Console


WIDE = 160
"""As `-wide` of the stylesheet."""
ROOM = 40
"""A narrower chart's title has figures without names."""


class GaugePage(Container):
    """Charts beside each other, and what they mean in words."""

    _is_brief = False

    def compose(self) -> ComposeResult:
        """Head, charts, page."""
        is_ascii = cast("Console", self.app).is_ascii
        yield TextLine(id="gauge-head", rule="-" if is_ascii else "─")
        with Vertical(id="gauge-charts"):
            yield BrailleChart("wins", id="promises", ascii=is_ascii)
            yield BrailleChart("broken promises", id="cusum", ascii=is_ascii)
            yield BrailleChart("reward model's mean score", id="scores", ascii=is_ascii)
        yield LineView(id="gauge-page", gutter=False)

    def show(
        self, feedback: wire.Feedback | None, curves: Mapping[str, list[tuple[int, float]]], knobs: Rlhf, run: str,
        *, by_kl: bool,
    ) -> None:  # fmt: skip
        """How the loop of `run` stands; with `by_kl` over the square root of the divergence, else over steps."""
        self.query_one("#gauge-head", TextLine).show(
            [
                Part("are promises kept", "title"),
                Part(f"x: {'sqrt(KL), the most so far' if by_kl else 'step'}", "dim", 2),
            ],
            [Part("m or Esc: the answers", "dim", 1)],
        )
        if feedback is None:
            return
        far = gauge.far_from_start(curves) if by_kl else None
        scores = gauge.score_curves(curves, far)
        self.set_class(len(scores) > 1, "-gold")
        shown = 3 if self.app.size.width >= WIDE or len(scores) > 1 else 2
        self._is_brief = self.app.size.width // shown < ROOM
        self._show_promises(feedback, knobs.lag, far)
        self._show_broken(feedback)
        self._show_scores(scores)
        self.query_one("#gauge-page", LineView).set_document(gauge.page(feedback, run, BrakeAction(knobs.brake)))

    def _show_promises(self, feedback: wire.Feedback, lag: int, far: Mapping[int, float] | None) -> None:
        promises = gauge.promise_curves(feedback, lag, far)
        told = self._newest(promises)
        wins = value_range([y for curve in promises for _, y in curve.points], False)
        self.query_one("#promises", BrailleChart).set_curves(
            promises if told else [], frame=Frame(None, None, *wins), values=told
        )

    def _show_scores(self, scores: list[Curve]) -> None:
        told = self._newest(scores)
        values = value_range([y for curve in scores for _, y in curve.points], False)
        title = "score, gold" if len(scores) > 1 else "reward model's mean score"
        self.query_one("#scores", BrailleChart).set_curves(
            scores if told else [], frame=Frame(None, None, *values), title=title, values=told
        )

    def _newest(self, curves: list[Curve]) -> list[str]:
        """Where each curve is now, with its name where there is room."""
        return [
            f"{curve.points[-1][1]:+.1f}" if self._is_brief else f"{curve.name} {curve.points[-1][1]:+.2f}"
            for curve in curves if curve.points
        ]  # fmt: skip

    def _show_broken(self, feedback: wire.Feedback) -> None:
        cusum = gauge.cusum_curves(feedback)
        figures = {"score": feedback.brake_score, "amber": feedback.brake_limit / 2, "red": feedback.brake_limit}
        values = [f"{'' if self._is_brief else f'{name} '}{figure:.2f}" for name, figure in figures.items()]
        self.query_one("#cusum", BrailleChart).set_curves(
            cusum,
            frame=Frame(y_low=0.0, y_high=max(feedback.brake_limit * 1.1, feedback.brake_score)),
            values=values[: len(cusum)],
        )


def let_go(console: Console, feedback: wire.Feedback | None, done: Callable[[], None]) -> None:
    """Ask whether it is meant, and then have the brake let go; `done` is called when the daemon has answered."""
    if feedback is None or feedback.brake not in (BrakeState.AMBER, BrakeState.RED):
        console.say("the brake holds nothing")
        return
    run = feedback.run

    async def answered(is_meant: bool | None) -> None:
        if is_meant:
            await console.send(wire.ReleaseBrake(run, console.by), f"release of the brake of {run}")
            done()

    lines = [
        f"Let go of the brake of {run}?",
        "",
        "Its gauge begins anew, and what the brake did (weight, pause) is taken back.",
        "What people said stays, and is learnt from.",
    ]
    console.push_screen(Confirm(lines, "let go", "it stays as it is"), answered)
