"""The verbs that lay runs side by side, and those that leave something to show to others.

    compare   settings that differ, final and best figures with their n
    shot      a screen of the console as SVG          a program of its own, `tui.shot`
    report    a run as one HTML page that loads nothing

Deliberately left out: curves (`ponder.commands.plot`), and what the files look like (`ponder.report`, `tui.picture`).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ponder.chart_file import write_file
from ponder.commands.options import JsonOption, RunArgument, RunOption, complete_run, connect, name_run
from ponder.errors import NotFound, UsageError
from ponder.output import Column, Interrupted, say, write, write_json, write_table
from ponder.paths import find_paths

if TYPE_CHECKING:
    from ponder.client import Client
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
        chosen = [find_named_metric(word, known) for word in names] if names else list(METRICS)
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
    say_written(out, as_json)


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
    write_file(path, report_page(facts))
    say_written(path, as_json)


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


def find_named_metric(word: str, known: set[str]) -> str:
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


def say_written(path: Path, as_json: bool = False) -> None:
    if as_json:
        write_json("written", {"path": str(path)})
    else:
        say(f"written: {path}")
