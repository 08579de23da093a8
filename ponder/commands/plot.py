"""The verb that draws curves: as lines of text here, as SVG, or as PNG.

    of metrics    over steps, or over compute, tokens or seconds; of one run, of several, or of all seeds of a recipe
    of `ponder eval`    what a checkpoint is worth, by how long it may think

Deliberately left out: how a curve is drawn (`ponder.plot_text`, `ponder.curve_svg`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ponder.axis import Axis, Places
from ponder.commands.options import JsonOption, complete_run, connect, name_run, terminal_width
from ponder.commands.pictures import POINTS, OutOption, find_named_metric, say_written, write_file
from ponder.errors import NotFound, PonderError, UsageError
from ponder.output import write, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ponder.client import Client
    from ponder.curve_svg import Mark, Scales
    from ponder.plot_text import Curve
    from ponder.wire import Curves, RunDetail


def plot(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's name, number or beginning", autocompletion=complete_run)
    ],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[METRIC...]", help="Names or labels of metrics, for example `reward`"),
    ] = None,
    out: OutOption = None,
    others: Annotated[
        list[str] | None, typer.Option("--with", metavar="RUN", help="Lay this run over it; may be repeated")
    ] = None,
    smoothing: Annotated[
        float, typer.Option("--smoothing", min=0.0, max=0.999, help="0 leaves values as they are")
    ] = 0.6,
    is_log: Annotated[bool, typer.Option("--log", help="Draw by the logarithm")] = False,
    over_seeds: Annotated[
        bool,
        typer.Option("--over-seeds", help="A run stands for all that differ from it in the seed alone: mean and span"),
    ] = False,
    against: Annotated[
        Axis, typer.Option("--x", help="Against what: `compute`, `tokens` and `seconds` add up, on a log axis")
    ] = Axis.STEP,
    measured: Annotated[
        str,
        typer.Option(
            "--eval", metavar="budget", help="Draw what `ponder eval` made of RUN[@STEP], by tokens of an answer"
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Draw metrics of a run, and what was turned on the way: here, or as SVG or PNG with `--out`."""
    if out is not None and out.suffix.lower() not in (".svg", ".png"):
        raise UsageError(f"`{out}` is neither SVG nor PNG", "give a name that ends in `.svg` or `.png`")
    if measured:
        picture = _measured_picture(run, measured)
    elif names:
        if over_seeds and against is not Axis.STEP:
            raise UsageError("`--over-seeds` adds up what stands at the same step", "leave `--x` out")
        picture = _curves_picture([run, *(others or [])], names, smoothing, against, is_log, over_seeds=over_seeds)
    else:
        raise UsageError("there is no metric to draw", "`ponder plot RUN reward`, or `ponder plot RUN --eval budget`")
    if as_json:
        write_json("plot", picture.data)
    elif out is None:
        _draw_here(picture)
    elif out.suffix.lower() == ".svg":
        from ponder.curve_svg import stacked

        write_file(out, stacked(picture.charts, picture.marks, picture.scales))
        say_written(out)
    else:
        _write_png(out, picture)
        say_written(out)


@dataclass(frozen=True)
class Picture:
    """What is drawn, in whatever way."""

    charts: list[tuple[str, list[Curve]]]
    """Each its title and its curves."""
    marks: list[Mark]
    scales: Scales
    data: object
    """The same for programs."""
    notes: tuple[str, ...] = ()


def _curves_picture(
    runs: Sequence[str], names: Sequence[str], smoothing: float, against: Axis, is_log: bool, *, over_seeds: bool
) -> Picture:
    from ponder.curve_svg import Scales
    from ponder.wire import Curves, GetMetrics, GetRun, RunDetail

    found: list[tuple[str, int, Curves, Places]] = []
    seeds: list[list[Curves]] = []
    with connect() as client:
        details = [client.ask(GetRun(name), RunDetail) for name in runs]
        known = {name for detail in details for name in detail.newest}
        chosen = [find_named_metric(word, known) for word in names]
        for detail in details:
            span = max(1, detail.row.step // POINTS)
            curves = client.ask(GetMetrics(detail.row.name, chosen, span=span), Curves)
            costs = client.ask(GetMetrics(detail.row.name, [against.source]), Curves).curves if against.source else {}
            if against.source and not costs.get(against.source):
                raise NotFound(
                    f"`{detail.row.name}` has not told `{against.source}`",
                    "runs of an older ponder have not counted it",
                )
            found.append((detail.row.name, span, curves, Places(against, costs.get(against.source, []))))
            if over_seeds:
                others = _siblings(client, detail)
                seeds.append([curves, *(client.ask(GetMetrics(name, chosen, span=span), Curves) for name in others)])
    facts = [{"run": name, "span": span, **_points(curves, places)} for name, span, curves, places in found]
    for fact, own, (*_, places) in zip(facts, seeds, found, strict=False):
        fact["seeds"] = [_points(curves, places) for curves in own]
    data = {"runs": facts}
    if over_seeds:
        charts = [_chart_over_seeds(name, found, seeds) for name in chosen]
    else:
        charts = [_chart(name, found, smoothing) for name in chosen]
    return Picture(charts, _marks(found), Scales(against.label, against.is_log, is_log), data)


def _measured_picture(target: str, measured: str) -> Picture:
    from ponder.curve_svg import Scales
    from ponder.measured import split_target
    from ponder.thinking_plot import LINES, alike, lines, turn_words
    from ponder.wire import GetMeasured, MeasuredRows

    if measured not in LINES:
        raise UsageError(f"`--eval` cannot be `{measured}`", f"it takes {', '.join(LINES)}")
    name, step = split_target(target)
    with connect() as client:
        found = client.ask(GetMeasured(name_run(client, name), step), MeasuredRows)
    at, rows = alike(found.rows, found.run, step)
    curves = lines(rows)
    if not curves:
        raise NotFound(
            f"`{found.run}@{at}` was measured in one way only", f"`ponder eval {found.run}@{at} --budget 8,16,32`"
        )
    title = f"held-out accuracy, % of {found.run}@{at} against tokens of an answer"
    data = {"run": found.run, "step": at, "measured": rows}
    return Picture([(title, curves)], [], Scales("tokens", True), data, tuple(map(turn_words, curves)))


def _points(curves: Curves, places: Places) -> dict[str, object]:
    from msgspec.structs import asdict

    data = asdict(curves)
    if places.axis.source:
        data |= {
            "x": str(places.axis),
            "placed": {name: places.moved(points) for name, points in curves.curves.items()},
        }
    return data


def _siblings(client: Client, detail: RunDetail) -> list[str]:
    """Runs of the same recipe and variant with other seeds."""
    from ponder.recipe import parse_recipe
    from ponder.spread import alike
    from ponder.wire import GetRun, ListRuns, RunDetail, Runs

    row, recipe = detail.row, parse_recipe(detail.recipe, detail.row.name)
    found = []
    for other in client.ask(ListRuns(limit=5000), Runs).runs:
        if other.name == row.name or other.title != row.title or other.step == 0:
            continue
        text = client.ask(GetRun(other.name, only_ends=True), RunDetail).recipe
        if alike(parse_recipe(text, other.name), recipe):
            found.append(other.name)
    return found


def _chart_over_seeds(
    name: str, found: Sequence[tuple[str, int, Curves, Places]], seeds: Sequence[Sequence[Curves]]
) -> tuple[str, list[Curve]]:
    """A title, and a mean with its span for each recipe and variant."""
    from ponder.spread import over_seeds

    title, curves = _chart(name, found, 0.0)
    scale = 100.0 if title.endswith(", %") else 1.0
    drawn = []
    for own, curve in zip(seeds, curves, strict=True):
        label = f"{curve.name.rpartition('-')[0] or curve.name} ({len(own)} seed{'s' if len(own) > 1 else ''})"
        drawn.append(over_seeds([one.curves.get(name, []) for one in own], label, curve.sign, scale))
    return title, drawn


def _chart(name: str, found: Sequence[tuple[str, int, Curves, Places]], smoothing: float) -> tuple[str, list[Curve]]:
    """A title, and a curve for each run."""
    from ponder.metrics import find_metric, is_evaluation
    from ponder.plot_text import Curve

    metric = find_metric(name)
    is_share = metric is not None and metric.is_share
    scale = 100.0 if is_share else 1.0
    unit = "%" if is_share else metric.unit if metric is not None and metric.unit != "reward" else ""
    drawn = []
    for number, (run, span, curves, places) in enumerate(found):
        points = places.moved([(step, value * scale) for step, value in curves.curves.get(name, [])])
        bands = [
            (places.x(step), low * scale, high * scale)
            for step, low, high in curves.bands.get(name, [])
            if places.x(step) > 0 or not places.axis.is_log
        ]
        eased = smoothing**span if not is_evaluation(name) else 0.0
        drawn.append(Curve(points, run, eased, bands, "abcdefghijklmnop"[number % 16] if len(found) > 1 else ""))
    label = metric.label if metric is not None else name
    return f"{label}{f', {unit}' if unit else ''}", drawn


def _marks(found: Sequence[tuple[str, int, Curves, Places]]) -> list[Mark]:
    from ponder.curve_svg import Mark
    from ponder.plot_text import mark_sign

    is_alone = len(found) == 1
    return [
        Mark(places.x(step), mark_sign(what), f"step {step:,}: {what}{'' if is_alone else f' ({run})'}")
        for run, _, curves, places in found
        for step, what in curves.marks
        if places.x(step) > 0 or not places.axis.is_log
    ]


def _draw_here(picture: Picture) -> None:
    from ponder.plot_text import Frame, braille_lines

    scales = picture.scales
    frame = Frame(marks={mark.x: mark.sign for mark in picture.marks}, is_log=scales.is_log, is_log_x=scales.is_log_x)
    for title, curves in picture.charts:
        names = "   ".join(f"{curve.sign} {curve.name}".strip() for curve in curves)
        write(f"{title}   {names}")
        for line in braille_lines(curves, min(terminal_width(), 120), 14, frame=frame):
            write(line.rstrip())
        if scales.is_log_x:
            write(f"x: {scales.x_label}, by the logarithm")
    for mark in picture.marks:
        write(f"{mark.sign} {mark.words}")
    for note in picture.notes:
        write(note)


def _write_png(path: Path, picture: Picture) -> None:
    """By matplotlib, where it is there."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib.figure import Figure
    except ImportError:
        raise PonderError(
            "PNG needs matplotlib, which is not installed", "`pip install 'ponder[plots]'`, or write an `.svg`"
        ) from None
    from ponder.curve_svg import COLOURS, DASHES
    from ponder.safe_text import safe_line

    charts, scales = picture.charts, picture.scales
    figure = Figure(figsize=(9, 3.4 * len(charts)), dpi=120, layout="constrained")
    for number, (title, curves) in enumerate(charts):
        axes = figure.add_subplot(len(charts), 1, number + 1)
        axes.set_title(_plain(title), loc="left", fontsize=10, fontweight="bold")
        for place, curve in enumerate(curves):
            colour, dashes = COLOURS[place % len(COLOURS)], DASHES[place % len(DASHES)]
            style = (0, tuple(map(int, dashes.split()))) if dashes else "-"
            if curve.bands:
                xs, lows, highs = zip(*curve.bands, strict=True)
                axes.fill_between(xs, lows, highs, color=colour, alpha=0.2, linewidth=0)
            elif curve.smoothing:
                axes.plot(*_columns(curve.points), color=colour, alpha=0.25, linewidth=1)
            name = _plain(safe_line(f"{curve.sign} {curve.name}".strip()))
            axes.plot(*_columns(curve.smoothed()), color=colour, linestyle=style, linewidth=1.6, label=name)
        for mark in picture.marks:
            axes.axvline(mark.x, color="#555555", linestyle=":", linewidth=1)
            axes.text(
                mark.x, 1.0, mark.sign, transform=axes.get_xaxis_transform(), fontsize=8, ha="center", va="bottom"
            )
        if scales.is_log:
            axes.set_yscale("log")
        if scales.is_log_x:
            axes.set_xscale("log")
        axes.grid(alpha=0.25)
        if len(curves) > 1:
            axes.legend(fontsize=8)
        axes.set_xlabel(scales.x_label, fontsize=8)
    try:
        figure.savefig(path)
    except OSError as error:
        raise PonderError(f"`{path}` cannot be written: {error.strerror or error}") from None


def _plain(text: str) -> str:
    """What matplotlib takes as text and not as a formula."""
    return text.replace("$", r"\$")


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
