"""The Rank screen's second page: whether what the reward model promises comes true.

Deliberately left out: what is drawn and said (`tui.gauge`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.containers import Container, Vertical

from ponder import wire
from ponder.plot_text import Frame
from ponder.rlhf import BrakeAction, Rlhf
from tui import gauge
from tui.axes import value_range
from tui.screens.text_line import Part, TextLine
from tui.widgets import BrailleChart, LineView

if TYPE_CHECKING:
    from tui.app import Console


class GaugePage(Container):
    """Three charts over each other, and what they mean in words."""

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
        self._show_promises(feedback, knobs.lag, far)
        self._show_broken(feedback)
        self.query_one("#scores", BrailleChart).set_curves(gauge.score_curve(curves, far))
        self.query_one("#gauge-page", LineView).set_document(gauge.page(feedback, run, BrakeAction(knobs.brake)))

    def _show_promises(self, feedback: wire.Feedback, lag: int, far: Mapping[int, float] | None) -> None:
        promises = gauge.promise_curves(feedback, lag, far)
        told = [f"{curve.name} {curve.points[-1][1]:+.2f}" for curve in promises if curve.points]
        wins = value_range([y for curve in promises for _, y in curve.points], False)
        self.query_one("#promises", BrailleChart).set_curves(
            promises if told else [], frame=Frame(None, None, *wins), values=told
        )

    def _show_broken(self, feedback: wire.Feedback) -> None:
        values = [
            f"score {feedback.brake_score:.2f}",
            f"amber {feedback.brake_limit / 2:.2f}",
            f"red {feedback.brake_limit:.2f}",
        ]
        cusum = gauge.cusum_curves(feedback)
        self.query_one("#cusum", BrailleChart).set_curves(
            cusum,
            frame=Frame(y_low=0.0, y_high=max(feedback.brake_limit * 1.1, feedback.brake_score)),
            values=values[: len(cusum)],
        )
