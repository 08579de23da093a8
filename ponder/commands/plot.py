"""The verb that draws curves: plot, of metrics by step or by what was spent, or of what `ponder eval` measured.

    here      lines of text                                    `ponder.plot_text`
    --out     SVG, or PNG where matplotlib is there            `ponder.chart_file`

Deliberately left out: what stands on the axes (`ponder.axis`, `ponder.thinking_plot`), and the console's own charts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from ponder.axis import Axis, Places, find_axis
from ponder.chart_file import check_picture, write_charts
from ponder.commands.options import JsonOption, complete_run, connect, name_run
from ponder.commands.pictures import POINTS, OutOption, find_named_metric, say_written
from ponder.errors import NotFound, PonderError, UsageError
from ponder.output import terminal_width, write, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ponder.client import Client
    from ponder.curve_svg import Chart, Mark, Scales
    from ponder.judged import RunJudges
    from ponder.plot_text import Curve
    from ponder.recipe import Recipe
    from ponder.wire import Curves, RunDetail


def plot(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's name, number or beginning", autocompletion=complete_run)
    ],
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[METRIC...]",
            help="Names or labels of metrics, for example `reward`; those looked at first when left out",
        ),
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
        str,
        typer.Option(
            "--x",
            metavar="AXIS",
            help="Against `step`, or on a log axis what was spent: `compute`, `tokens`, `seconds`",
        ),
    ] = "step",
    measured: Annotated[
        str,
        typer.Option(
            "--eval", metavar="budget", help="Draw what `ponder eval` made of RUN[@STEP], by tokens of an answer"
        ),
    ] = "",
    over_seeds: Annotated[
        bool,
        typer.Option("--over-seeds", help="A run stands for all that differ from it in the seed alone: mean and span"),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Draw metrics of a run, and what was turned on the way: here, or as SVG or PNG with `--out`."""
    if out is not None:
        check_picture(out)
    if measured:
        picture = _measured_picture(run, measured)
    else:
        runs = [run, *(others or [])]
        picture = _curves_picture(runs, names or [], smoothing, find_axis(against), is_log, over_seeds)
    if as_json:
        write_json("plot", picture.data)
    elif out is None:
        _draw_here(picture)
    else:
        write_charts(out, picture.charts, picture.marks, picture.scales)
        say_written(out)


WIDEST, BRIEF = 90, 40
"""Characters of who judged: below a title, and behind a run's name."""


@dataclass(frozen=True)
class Picture:
    """What is drawn, in whatever way."""

    charts: list[Chart]
    marks: list[Mark]
    scales: Scales
    data: object
    """The same for programs."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Told:
    """What one run told of the metrics, and where its steps stand."""

    run: str
    span: int
    curves: Curves
    places: Places
    seeds: list[Curves]
    """Of the run and all that differ from it in the seed alone; empty where that was not asked."""
    stages: list[tuple[int, str]]
    """After which step another stage begins, by its name."""
    judges: RunJudges


def _curves_picture(
    runs: Sequence[str], names: Sequence[str], smoothing: float, against: Axis, is_log: bool, over_seeds: bool
) -> Picture:
    from ponder.curve_svg import Scales
    from ponder.metrics import HEADLINES
    from ponder.wire import GetRun, RunDetail

    with connect() as client:
        details = [client.ask(GetRun(name), RunDetail) for name in runs]
        known = {name for detail in details for name in detail.newest}
        chosen = [find_named_metric(word, known) for word in names] or [name for name in HEADLINES if name in known]
        if not chosen:
            raise NotFound(
                f"{' and '.join(runs)} told none of {', '.join(f'`{name}`' for name in HEADLINES)}",
                f"name what is to be drawn, for example `{min(known)}`" if known else "no step is done so far",
            )
        found = [_ask(client, detail, chosen, against, over_seeds) for detail in details]
    draw = _chart_over_seeds if over_seeds else _chart
    charts = [draw(name, found, smoothing) for name in chosen]
    data = {"runs": [_points(told) for told in found]}
    return Picture(charts, _marks(found), Scales(against.label, against.is_log, is_log), data)


def _ask(client: Client, detail: RunDetail, names: list[str], against: Axis, over_seeds: bool) -> Told:
    """The run's curves, what its steps cost, and its siblings' curves, as far as they are wanted."""
    from ponder.chain import begins
    from ponder.judged import judges_of
    from ponder.metrics import EVAL_ACCURACY, EVAL_EXPERT, with_lines
    from ponder.tasks import EXPERT
    from ponder.wire import Curves, GetKnobs, GetMetrics, KnobTable

    run, span, source = detail.row.name, max(1, detail.row.step // POINTS), against.source
    stages = _stages(detail)
    has_expert = EVAL_ACCURACY in names and any(part.stage.data.path == EXPERT for part in stages)
    names = with_lines([*names, EVAL_EXPERT] if has_expert else names)
    curves = client.ask(GetMetrics(run, names, span=span), Curves)
    costs = client.ask(GetMetrics(run, [source]), Curves).curves.get(source, []) if source else []
    if source and not costs:
        raise NotFound(f"`{run}` has not told `{source}`", "it has made no step, or was made by an older ponder")
    siblings = _siblings(client, detail) if over_seeds else []
    own = [client.ask(GetMetrics(name, names, span=span), Curves) for name in siblings]
    judges = judges_of(detail, client.ask(GetKnobs(run), KnobTable).changes)
    seeds = [curves, *own] if over_seeds else []
    return Told(run, span, curves, Places(against, costs), seeds, begins(stages), judges)


def _stages(detail: RunDetail) -> list[Recipe]:
    """Those of the run's recipe; none where it cannot be read any more."""
    from ponder.recipe import parse_recipe

    try:
        return list(parse_recipe(detail.recipe, detail.row.name).stages)
    except PonderError:
        return []


def _measured_picture(target: str, measured: str) -> Picture:
    from dataclasses import asdict

    from msgspec.structs import replace

    from ponder.curve_svg import Chart, Mark, Scales
    from ponder.judged import judges_of
    from ponder.measured import split_target
    from ponder.metrics import EVAL_ACCURACY
    from ponder.thinking_plot import LINES, alike, highest_words, lines, ways
    from ponder.thinking_turn import find_turn, turn_words
    from ponder.wire import GetMeasured, GetRun, MeasuredRows, RunDetail

    if measured not in LINES:
        raise UsageError(f"`--eval` cannot be `{measured}`", f"it takes {', '.join(LINES)}")
    name, step = split_target(target)
    with connect() as client:
        found = client.ask(GetMeasured(name_run(client, name), step, with_rates=True), MeasuredRows)
        judges = judges_of(client.ask(GetRun(found.run, only_ends=True), RunDetail))
    at, rows = alike(found.rows, found.run, step)
    curves = lines(rows)
    if not curves:
        raise NotFound(
            f"`{found.run}@{at}` was measured in one way only", f"`ponder eval {found.run}@{at} --budget 8,16,32`"
        )
    turns = {LINES[word]: turn for word, those in ways(rows).items() if (turn := find_turn(those)) is not None}
    words = {name: turn_words(name, turn) for name, turn in turns.items()}
    marks = [Mark(turn.tokens, "t", f"{name} turns at {turn.way}") for name, turn in turns.items() if turn.is_seen]
    notes = tuple(words.get(curve.name) or highest_words(curve) for curve in curves)
    title = f"held-out accuracy, % of {found.run}@{at} against tokens of an answer"
    brief = [replace(row, rates=[]) for row in rows]
    told = [{"line": name, **asdict(turn), "is_seen": turn.is_seen} for name, turn in turns.items()]
    data = {"run": found.run, "step": at, "measured": brief, "turns": told}
    chart = Chart(title, curves, judges.of_curve(EVAL_ACCURACY).fitting(WIDEST))
    return Picture([chart], marks, Scales("tokens", True), data, notes)


def _points(told: Told) -> dict[str, object]:
    """As data; against what was spent each point is told again, where it stands."""
    from msgspec.structs import asdict

    data = {"run": told.run, "span": told.span, **asdict(told.curves)}
    judges = {name: told.judges.of_curve(name) for name in told.curves.curves}
    data["judged_by"] = {name: found.words for name, found in judges.items() if found.words}
    if told.places.axis.source:
        placed = {name: told.places.moved(points) for name, points in told.curves.curves.items()}
        data |= {"x": str(told.places.axis), "placed": placed}
    if told.seeds:
        data["seeds"] = [asdict(curves) for curves in told.seeds]
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


def _chart_over_seeds(name: str, found: Sequence[Told], _smoothing: float) -> Chart:
    """A mean with its span for each recipe and variant; where its steps stand says the run itself."""
    from dataclasses import replace

    from ponder.spread import over_seeds

    chart = _chart(name, found, 0.0)
    title, curves = chart.title, chart.curves
    scale = 100.0 if title.endswith(", %") else 1.0
    drawn = []
    for told, curve in zip(found, curves, strict=False):
        own = told.seeds
        whose = curve.name.removeprefix(told.run)
        label = f"{told.run.rpartition('-')[0] or told.run} ({len(own)} seed{'s' if len(own) > 1 else ''}){whose}"
        mean = over_seeds([one.curves.get(name, []) for one in own], label, curve.sign, scale)
        drawn.append(replace(mean, points=told.places.moved(mean.points), bands=told.places.moved_bands(mean.bands)))
    several = any(len(told.seeds) > 1 for told in found)
    named = f"{title} (mean, least to most)" if several else title
    return replace(chart, title=named, curves=[*drawn, *curves[len(found) :]])


def _chart(name: str, found: Sequence[Told], smoothing: float) -> Chart:
    """A curve for each run, and who judged them: all of them, or each by its name."""
    from ponder import metrics
    from ponder.curve_svg import Chart
    from ponder.plot_text import Curve

    metric = metrics.find_metric(name)
    is_share = metric is not None and metric.is_share
    scale = 100.0 if is_share else 1.0
    unit = "%" if is_share else metric.unit if metric is not None and metric.unit != "reward" else ""
    judges = [told.judges.of_curve(name) for told in found]
    is_one = len(set(judges)) == 1
    drawn = []
    for number, told in enumerate(found):
        points = [(float(step), value * scale) for step, value in told.curves.curves.get(name, [])]
        bands = [(float(step), low * scale, high * scale) for step, low, high in told.curves.bands.get(name, [])]
        eased = smoothing**told.span if not metrics.is_evaluation(name) else 0.0
        sign = "abcdefghijklmnop"[number % 16] if len(found) > 1 else ""
        whose = "" if is_one else judges[number].fitting(BRIEF)
        called = f"{told.run} ({whose})" if whose else told.run
        drawn.append(Curve(told.places.moved(points), called, eased, told.places.moved_bands(bands), sign))
    drawn += _reference(name, found, scale)
    label = metric.label if metric is not None else name
    return Chart(f"{label}{f', {unit}' if unit else ''}", drawn, judges[0].fitting(WIDEST) if is_one else "")


def _reference(name: str, found: Sequence[Told], scale: float) -> list[Curve]:
    """The line that a metric is read against, from the first run that has one."""
    from ponder.metrics import EVAL_ACCURACY, EXPERT_LINE, REFERENCE_LINES
    from ponder.plot_text import Curve

    line, sign, words = {EVAL_ACCURACY: EXPERT_LINE, **REFERENCE_LINES}.get(name, ("", "", ""))
    for told in found:
        if known := told.curves.curves.get(line):
            points = told.places.moved([(float(step), scale * value) for step, value in known])
            return [Curve(points, words, sign=sign)]
    return []


def _marks(found: Sequence[Told]) -> list[Mark]:
    from ponder.curve_svg import Mark
    from ponder.plot_text import mark_sign

    is_alone = len(found) == 1
    told_marks = [
        Mark(told.places.x(step), mark_sign(what), f"step {step:,}: {what}{'' if is_alone else f' ({told.run})'}")
        for told in found
        for step, what in told.curves.marks
        if told.places.is_drawn(step)
    ]
    stages = {(step, name): told.places for told in found for step, name in told.stages if told.places.is_drawn(step)}
    begins = [
        Mark(places.x(step), mark_sign("stage"), f"step {step:,}: stage {name} begins", name)
        for (step, name), places in stages.items()
    ]
    return [*told_marks, *begins]


def _draw_here(picture: Picture) -> None:
    from ponder.plot_text import Frame, braille_lines

    scales = picture.scales
    frame = Frame(marks={mark.x: mark.sign for mark in picture.marks}, is_log=scales.is_log, is_log_x=scales.is_log_x)
    for chart in picture.charts:
        names = "   ".join(f"{curve.sign} {curve.name}".strip() for curve in chart.curves)
        write("   ".join(filter(None, (chart.title, chart.judged, names))))
        for line in braille_lines(chart.curves, min(terminal_width(), 120), 14, frame=frame):
            write(line.rstrip())
        if scales.is_log_x:
            write(f"x: {scales.x_label}, by the logarithm")
    for mark in picture.marks:
        write(f"{mark.sign} {mark.words}")
    for note in picture.notes:
        write(note)
