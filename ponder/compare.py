"""Runs side by side: in which settings they differ, what was turned in each, and what each came to.

A figure of a step is noise, so that the final one is the mean of the last STEPS steps, and the best one the best mean
of so many in a row. A held-out figure is one evaluation: `n` is its problems, with the 95 % interval where it is known.
The best of several evaluations is luck to a part; the final one is not. Deliberately left out: asking (`requests` says
for what), and drawing (`ponder plot`, the console).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ponder import metrics, wire
from ponder.metrics import Better, find_metric, format_metric, is_evaluation
from ponder.settings import differing, read_settings

STEPS = 20
POINTS = 20_000
"""A curve that is longer comes thinned."""
METRICS = (*metrics.HEADLINES, metrics.EVAL_RESCUED, metrics.KL_K3, metrics.ENTROPY)
_INTERVALS = {
    metrics.EVAL_ACCURACY: (metrics.EVAL_LOW, metrics.EVAL_HIGH),
    metrics.EVAL_PAIR_ACCURACY: (metrics.EVAL_PAIR_LOW, metrics.EVAL_PAIR_HIGH),
}


@dataclass(frozen=True)
class Figure:
    """What one run has of one metric."""

    step: int
    value: float
    count: int
    """Steps that it is the mean of, or problems that it was measured on; 0 where that is not known."""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class MetricRow:
    """One metric of all runs; None for a run that has none of it."""

    name: str
    label: str
    finals: list[Figure | None]
    bests: list[Figure | None]
    """Empty where no way is better."""


@dataclass(frozen=True)
class Comparison:
    """Everything, as data; lists are in the order of `runs`."""

    runs: list[str]
    states: list[str]
    steps: list[str]
    settings: list[tuple[str, list[str]]]
    """(setting, each run's value) of those that differ."""
    turned: list[list[tuple[int, str]]]
    """(step, what was changed) in each run."""
    metrics: list[MetricRow]


def request(row: wire.RunRow, names: Sequence[str] = METRICS) -> wire.GetMetrics:
    """What has to be asked for about a run."""
    return wire.GetMetrics(row.name, list(names), span=max(1, -(-row.step // POINTS)))


def compare(
    details: Sequence[wire.RunDetail], curves: Sequence[wire.Curves], names: Sequence[str] = METRICS
) -> Comparison:
    """Lay the runs side by side; `curves` are the answers to their requests."""
    return Comparison(
        runs=[detail.row.name for detail in details],
        states=[str(detail.row.state) for detail in details],
        steps=[f"{detail.row.step:,} of {detail.row.steps:,}" for detail in details],
        settings=differing([read_settings(detail.recipe) for detail in details]),
        turned=[found.marks for found in curves],
        metrics=[row for name in names if (row := _metric_row(name, details, curves)) is not None],
    )


def _metric_row(name: str, details: Sequence[wire.RunDetail], curves: Sequence[wire.Curves]) -> MetricRow | None:
    metric = find_metric(name)
    finals: list[Figure | None] = []
    bests: list[Figure | None] = []
    better = Better.WATCH if metric is None else metric.better
    for detail, found in zip(details, curves, strict=True):
        figures = _measured(name, detail) if is_evaluation(name) else _means(found.curves.get(name, []), detail)
        finals.append(figures[-1] if figures else None)
        if better is not Better.WATCH:
            sign = 1 if better is Better.UP else -1
            bests.append(max(figures, key=lambda figure: sign * figure.value) if figures else None)
    if not any(finals):
        return None
    return MetricRow(name, name if metric is None else metric.label, finals, bests)


def _measured(name: str, detail: wire.RunDetail) -> list[Figure]:
    """Every evaluation's figure."""
    low, high = _INTERVALS.get(name, ("", ""))
    return [
        Figure(step, values[name], int(values.get(metrics.EVAL_PROBLEMS, 0)), values.get(low), values.get(high))
        for step, values in detail.evaluations
        if name in values
    ]


def _means(points: Sequence[tuple[int, float]], detail: wire.RunDetail) -> list[Figure]:
    """The mean of every STEPS steps in a row, or of all where there are fewer."""
    span = request(detail.row).span
    width = max(1, min(STEPS // span, len(points)))
    figures = []
    for end in range(width, len(points) + 1):
        part = points[end - width : end]
        figures.append(Figure(part[-1][0], sum(value for _, value in part) / width, width * span))
    return figures


def figure_words(name: str, figure: Figure | None, *, with_step: bool) -> str:
    """A figure as a person reads it: value, n, and its interval or its step.

    >>> figure = Figure(30, 0.25, 512, 0.21, 0.29)
    >>> figure_words("eval/accuracy", figure, with_step=True), figure_words("eval/accuracy", figure, with_step=False)
    ('25.0% (n 512) at 30', '25.0% (21.0..29.0, n 512)')
    >>> figure_words("length/mean", Figure(30, 17.25, 20), with_step=False), figure_words("kl/k3", None, with_step=True)
    ('17.2 (n 20)', '-')
    """
    if figure is None:
        return "-"
    interval = ""
    if figure.low is not None and figure.high is not None and not with_step:
        interval = f"{figure.low * 100:.1f}..{figure.high * 100:.1f}"
    inside = ", ".join(filter(None, [interval, f"n {figure.count}" if figure.count else ""]))
    at = f" at {figure.step:,}" if with_step else ""
    return f"{format_metric(name, figure.value)}{f' ({inside})' if inside else ''}{at}"


def tables(comparison: Comparison) -> list[tuple[str, list[list[str]]]]:
    """(title, rows) of what there is to say; the first row of each names the columns."""
    runs = comparison.runs
    figures = []
    for row in comparison.metrics:
        figures.append([row.label, *(figure_words(row.name, figure, with_step=False) for figure in row.finals)])
        if row.bests:
            figures.append(["  best", *(figure_words(row.name, figure, with_step=True) for figure in row.bests)])
    most = max((len(marks) for marks in comparison.turned), default=0)
    turned = [
        ["", *(f"{marks[n][0]:,}: {marks[n][1]}" if n < len(marks) else "" for marks in comparison.turned)]
        for n in range(most)
    ]
    return [
        ("the runs", [["", *runs], ["state", *comparison.states], ["step", *comparison.steps]]),
        ("settings that differ", [["setting", *runs], *([name, *values] for name, values in comparison.settings)]),
        ("figures", [["metric", *runs], *figures]),
        ("turned on the way", [["step: what", *runs], *turned]),
    ]
