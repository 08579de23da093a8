"""What a run came to, on a page: before and after on held-out problems, small curves, the best aha, where it lies.

Every figure is asked of the store; nothing is remembered from following. Deliberately left out: following itself
(`ponder.plain`) and how the run came to be (`ponder.commands.start`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ponder import metrics, wire
from ponder.answer_text import answer_lines, labelled, turn_line, with_counted_parts, wrapped
from ponder.client import Client
from ponder.errors import RunFailed
from ponder.event_text import format_accuracy, format_duration
from ponder.events import Outcome, RunState
from ponder.output import write
from ponder.plot_text import Frame, braille_lines, sparkline

RECIPE = "countdown-zero"
"""The recipe of the main job."""

_CURVES = (metrics.LENGTH_MEAN, metrics.REFLECT)
_CHANGES = (
    metrics.EVAL_LENGTH,
    metrics.EVAL_REFLECT,
    metrics.EVAL_RESCUED,
    metrics.EVAL_HARMED,
    metrics.EVAL_STEP_TRUTH,
)
_CHART_HEIGHT = 6


@dataclass(frozen=True)
class Summary:
    """All that the page says, as data."""

    run: str
    title: str
    state: str
    steps: int
    wall_s: float
    before: dict[str, float]
    """The first evaluation's metrics; empty when there was none."""
    after: dict[str, float]
    """The last evaluation's metrics."""
    accuracy_ratio: float | None
    curves: dict[str, list[tuple[int, float]]]
    best_aha: wire.StoredRollout | None
    """Of its reward's parts, those that weigh something."""
    home: str
    run_folder: str
    store: str


def summarise(client: Client, run: str) -> Summary:
    """Ask the store what the run came to."""
    detail = client.ask(wire.GetRun(run), wire.RunDetail)
    row = detail.row
    names = [*_CURVES, metrics.REWARD_MEAN, metrics.CORRECT]
    curves = client.ask(wire.GetMetrics(row.name, names), wire.Curves).curves
    best = client.ask(wire.GetAha(row.name, Outcome.RESCUED, "best", 1), wire.Aha).traces
    knobs = client.ask(wire.GetKnobs(row.name), wire.KnobTable).values
    before = detail.evaluations[0][1] if detail.evaluations else {}
    after = detail.evaluations[-1][1] if detail.evaluations else {}
    base = before.get(metrics.EVAL_ACCURACY, 0.0)
    ratio = after.get(metrics.EVAL_ACCURACY, 0.0) / base if base > 0 and len(detail.evaluations) > 1 else None
    wall_s = ((row.ended_us or row.seen_us or 0) - (row.started_us or 0)) / 1e6 if row.started_us else 0.0
    paths = client.daemon_paths()
    return Summary(
        run=row.name,
        title=row.title,
        state=str(row.state),
        steps=row.step,
        wall_s=wall_s,
        before=before,
        after=after if len(detail.evaluations) > 1 else {},
        accuracy_ratio=ratio,
        curves=curves,
        best_aha=with_counted_parts(best[0], knobs) if best else None,
        home=str(paths.home),
        run_folder=str(paths.run(row.name)),
        store=str(paths.store),
    )


def write_summary(summary: Summary, width: int) -> None:
    """The page, on stdout."""
    title = f": {summary.title}" if summary.title else ""
    write("\n".join(wrapped(f"{summary.run}{title}", width)))
    write(f"{summary.state} after {summary.steps} steps in {format_duration(summary.wall_s)}\n")
    for line in (*_change_lines(summary), *_curve_lines(summary, width), *_aha_lines(summary, width)):
        write(line)
    for line in _place_lines(summary):
        write(line)


def check_end(detail: wire.RunDetail, log: Path) -> None:
    """Raise RunFailed, with the reason and where to look, when the run ended badly."""
    if detail.row.state is RunState.FAILED:
        reason = detail.row.reason or "its trainer ended without a reason"
        raise RunFailed(
            f"`{detail.row.name}` failed at step {detail.row.step}: {reason}",
            f"`ponder logs {detail.row.name}` shows its log, `{log}`; `ponder resume {detail.row.name}` tries again",
        )


def _change_lines(summary: Summary) -> list[str]:
    if not summary.before:
        return ["held-out accuracy was not measured", ""]
    problems = int(summary.before.get(metrics.EVAL_PROBLEMS, 0))
    header = f"on {problems} held-out problems, before -> after" if problems else "on held-out problems"
    accuracy = format_accuracy(summary.before)
    if summary.after:
        accuracy += f" -> {format_accuracy(summary.after)}"
    if summary.accuracy_ratio is not None:
        accuracy += f", {summary.accuracy_ratio:.2f}x"
    lines = [header, f"  {'accuracy':<16}{accuracy}"]
    for name in _CHANGES:
        if name in summary.before:
            label = metrics.METRICS[name].label.removeprefix("held-out ")
            lines.append(f"  {label:<16}{_change(name, summary.before, summary.after)}")
    return [*lines, ""]


def _change(name: str, before: dict[str, float], after: dict[str, float]) -> str:
    first, last = before[name], after.get(name)
    text = metrics.format_metric(name, first)
    if last is not None:
        text += f" -> {metrics.format_metric(name, last)}"
    if metrics.METRICS[name].unit == "tokens":
        text += " tokens"
        if last is not None and first > 0:
            text += f", {last / first:.2f}x"
    return text


def _curve_lines(summary: Summary, width: int) -> list[str]:
    lines: list[str] = []
    for name in _CURVES:
        points = summary.curves.get(name, [])
        if len(points) < 2:
            continue
        metric = metrics.METRICS[name]
        lines.append(f"{_curve_title(metric)}, step {points[0][0]} to {points[-1][0]}")
        chart_width = min(width, 72)
        if chart_width >= 40:
            frame = Frame(y_low=metric.low, y_high=metric.high)
            floats = [(float(step), value) for step, value in points]
            lines += braille_lines([floats], chart_width, _CHART_HEIGHT, frame=frame)
        else:
            lines.append(sparkline([value for _, value in points], chart_width))
        lines.append("")
    return lines


def _curve_title(metric: metrics.Metric) -> str:
    return (
        f"{metric.label}, share of answers" if metric.is_share else f"{metric.label}, mean {metric.unit} of an answer"
    )


def _aha_lines(summary: Summary, width: int) -> Sequence[str]:
    if summary.best_aha is None:
        return ["no answer was rescued by reflection", ""]
    turn = turn_line(summary.best_aha.rollout)
    return [
        "the best aha",
        *answer_lines(summary.best_aha, width),
        *(labelled("turn", turn, width) if turn else []),
        "",
    ]


def _place_lines(summary: Summary) -> list[str]:
    return [
        f"home        {summary.home}",
        f"run folder  {summary.run_folder}",
        f"store       {summary.store}",
        "",
        "look further",
        f"  ponder watch {summary.run}",
        f"  ponder aha {summary.run}",
        f"  ponder samples {summary.run} --outcome rescued",
        f"  ponder show {summary.run}",
        f"  sqlite-utils tables {summary.store} --counts",
    ]
