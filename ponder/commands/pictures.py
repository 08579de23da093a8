"""The verbs that lay runs side by side, and those that leave something to show to others.

    compare   settings that differ, final and best figures with their n
    plot      curves as lines of text, as SVG, or as PNG
    shot      a screen of the console as SVG          a program of its own, `tui.shot`
    report    a run as one HTML page that loads nothing

Deliberately left out: what the files look like (`ponder.curve_svg`, `ponder.report`, `tui.picture`).
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ponder.axis import Axis, Places
from ponder.commands.options import JsonOption, RunArgument, RunOption, complete_run, connect, name_run, terminal_width
from ponder.errors import NotFound, PonderError, UsageError
from ponder.output import Column, Interrupted, say, write, write_json, write_table
from ponder.paths import find_paths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ponder.client import Client
    from ponder.curve_svg import Mark, Scales
    from ponder.plot_text import Curve
    from ponder.wire import Curves, StoredRollout

OutOption = Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where the file is written")]
ANSWERS = 12
"""Answers of each kind in a report."""
POINTS = 1000
"""A file shows no more points of a curve than these, up to twice as many."""


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Two to eight runs", autocompletion=complete_run)],
    names: Annotated[
        list[str] | None, typer.Option("--metric", metavar="METRIC", help="Only these metrics; may be repeated")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Lay runs side by side: settings that differ, what was turned, final and best figures with their n."""
    from ponder.compare import METRICS, request, tables
    from ponder.compare import compare as lay_side_by_side
    from ponder.plot_text import MOST_RUNS
    from ponder.wire import Curves, GetRun, RunDetail

    if not 2 <= len(runs) <= MOST_RUNS:
        raise UsageError(f"two to {MOST_RUNS} runs can be compared, not {len(runs)}", "`ponder ls` lists the runs")
    with connect() as client:
        details = [client.ask(GetRun(run), RunDetail) for run in runs]
        known = {name for detail in details for name in detail.newest}
        chosen = [_find_metric(word, known) for word in names] if names else list(METRICS)
        curves = [client.ask(request(detail.row, chosen), Curves) for detail in details]
    comparison = lay_side_by_side(details, curves, chosen)
    if as_json:
        write_json("comparison", comparison)
        return
    for number, (title, (header, *rows)) in enumerate(tables(comparison)):
        if number:
            write("")
        write(title)
        if rows:
            write_table([Column(name) for name in header], rows)
        else:
            write("none")


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
        picture = _curves_picture([run, *(others or [])], names, smoothing, against, is_log)
    else:
        raise UsageError("there is no metric to draw", "`ponder plot RUN reward`, or `ponder plot RUN --eval budget`")
    if as_json:
        write_json("plot", picture.data)
    elif out is None:
        _draw_here(picture)
    elif out.suffix.lower() == ".svg":
        from ponder.curve_svg import stacked

        _write_file(out, stacked(picture.charts, picture.marks, picture.scales))
        _say_written(out)
    else:
        _write_png(out, picture)
        _say_written(out)


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
    runs: Sequence[str], names: Sequence[str], smoothing: float, against: Axis, is_log: bool
) -> Picture:
    from ponder.curve_svg import Scales
    from ponder.wire import Curves, GetMetrics, GetRun, RunDetail

    found: list[tuple[str, int, Curves, Places]] = []
    with connect() as client:
        details = [client.ask(GetRun(name), RunDetail) for name in runs]
        known = {name for detail in details for name in detail.newest}
        chosen = [_find_metric(word, known) for word in names]
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
    data = {"runs": [{"run": name, "span": span, **_points(curves, places)} for name, span, curves, places in found]}
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


def shot(
    screen: Annotated[str, typer.Argument(metavar="SCREEN", help="A screen by its name: runs, live, group, ...")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the SVG is written")],
    run: RunOption = "",
    size: Annotated[str, typer.Option("--size", metavar="COLUMNSxROWS", help="As large as this terminal")] = "120x36",
    press: Annotated[str, typer.Option("--press", metavar="KEYS", help="Keys to press first, comma separated")] = "",
    theme: Annotated[str, typer.Option("--theme", help="dark, light, contrast or safe")] = "dark",
    as_json: JsonOption = False,
) -> None:
    """Make a picture of a screen of the console, as SVG that loads nothing."""
    from ponder.client import child_environment

    connect().close()
    words = [screen, "--out", str(out), "--run", run, "--size", size, "--press", press, "--theme", theme]
    command = [sys.executable, "-P", "-m", "tui.shot", *words]
    sys.stdout.flush()
    try:
        code = subprocess.run(command, env=child_environment(find_paths()), check=False).returncode
    except KeyboardInterrupt:
        raise Interrupted("interrupted; no picture was made") from None
    if code:
        raise typer.Exit(code if code > 0 else 128 - code)
    _say_written(out, as_json)


def report(run: RunArgument = "", out: OutOption = None, as_json: JsonOption = False) -> None:
    """Write a run as one HTML page that loads nothing: curves, what was turned, ahas, answers, configuration."""
    import re
    import time
    from importlib.metadata import version

    from ponder.events import Outcome
    from ponder.recipe import NAME_PATTERN
    from ponder.report import Facts, report_page
    from ponder.wire import Aha, Curves, GetAha, GetKnobs, GetMetrics, GetRun, GetSamples, KnobTable, RunDetail, Samples

    with connect() as client:
        detail = client.ask(GetRun(name_run(client, run)), RunDetail)
        name = detail.row.name
        span = max(1, detail.row.step // POINTS)
        curves = client.ask(GetMetrics(name, span=span), Curves)
        best, worst = _extremes(client, name, curves)
        facts = Facts(
            detail=detail,
            curves=curves,
            aha=client.ask(GetAha(name, Outcome.RESCUED, "best", ANSWERS), Aha),
            best=best,
            worst=worst,
            newest=client.ask(GetSamples(name, limit=ANSWERS), Samples).samples,
            knobs=client.ask(GetKnobs(name), KnobTable),
            version=version("ponder"),
            made_us=time.time_ns() // 1000,
            span=span,
        )
    path = out or Path(f"{name if re.fullmatch(NAME_PATTERN, name) else 'report'}.html")
    _write_file(path, report_page(facts))
    _say_written(path, as_json)


def _extremes(client: Client, run: str, curves: Curves) -> tuple[list[StoredRollout], list[StoredRollout]]:
    """The newest of the answers with the best and the worst reward of the whole run."""
    from ponder import metrics
    from ponder.wire import GetSamples, Samples

    ends = {
        name: [
            *(y for _, y in curves.curves.get(name, [])),
            *(y for _, *band in curves.bands.get(name, []) for y in band),
        ]
        for name in (metrics.REWARD_MIN, metrics.REWARD_MAX)
    }
    if not all(ends.values()):
        newest = client.ask(GetSamples(run, limit=1000), Samples).samples
        rewards = [stored.rollout.reward for stored in newest if stored.rollout.reward is not None]
        if not rewards:
            return [], []
        ends = {metrics.REWARD_MIN: rewards, metrics.REWARD_MAX: rewards}
    least, most = min(ends[metrics.REWARD_MIN]), max(ends[metrics.REWARD_MAX])
    near = 1e-6 * max(1.0, abs(least), abs(most))
    best = client.ask(GetSamples(run, limit=ANSWERS, min_reward=most - near), Samples).samples
    worst = client.ask(GetSamples(run, limit=ANSWERS, max_reward=least + near), Samples).samples
    return best, worst


def _find_metric(word: str, known: set[str]) -> str:
    """The metric that is meant by its name or its label; raises NotFound."""
    from ponder.knobs import nearest
    from ponder.metrics import find_metric

    labels = {metric.label: name for name in sorted(known, reverse=True) if (metric := find_metric(name)) is not None}
    if word in known:
        return word
    if word in labels:
        return labels[word]
    parts = [name for name in sorted(known) if word in name]
    if len(parts) == 1:
        return parts[0]
    hint = (
        f"did you mean {', '.join(f'`{name}`' for name in parts[:5])}?" if parts else nearest(word, [*known, *labels])
    )
    raise NotFound(f"the run has no metric `{word}`", hint or "`ponder show` lists those that it has")


def _chart(name: str, found: Sequence[tuple[str, int, Curves, Places]], smoothing: float) -> tuple[str, list[Curve]]:
    """A title, and a curve for each run."""
    from ponder.metrics import find_metric
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
        eased = smoothing**span if not name.startswith("eval/") else 0.0
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


def _write_file(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PonderError(f"`{path}` cannot be written: {error.strerror or error}") from None


def _say_written(path: Path, as_json: bool = False) -> None:
    if as_json:
        write_json("written", {"path": str(path)})
    else:
        say(f"written: {path}")
