"""The figures of docs/GALLERY.md: every row's recipes run over several seeds, their pictures and their tables.

    python -m bench.gallery [ROW ...] [--seeds 5] [--first 1] [--variants V,V] [--home DIR] [--minutes 60]

Runs are made by a real daemon as `ponder run RECIPE --variant V --seed S` makes them, and kept in the home: what is
there is not run again, so that the work can be cut into pieces. `--minutes`: no run is started after so long. `--first`
and `--variants`: the seeds begin there, and only these forms are run, the recipe itself being the empty word; so what
is missing can be filled in elsewhere. The pictures are `ponder plot ... --over-seeds`, written to docs/gallery; the
tables go to standard output: mean over seeds, least and most, for every stage that leaves a policy. Deliberately left
out: rows that need somebody who ranks, or more than a recipe.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.served import daemon
from ponder import wire
from ponder.chain import last_steps
from ponder.client import Client
from ponder.events import RunState
from ponder.metrics import find_metric
from ponder.paths import Paths
from ponder.recipe import dump_recipe, find_recipe, parse_recipe, parse_variants, read_recipe_text

PICTURES = Path("docs/gallery")
POLL_S = 1.0


@dataclass(frozen=True)
class Row:
    """One row of the gallery."""

    recipe: str
    metrics: tuple[str, ...]
    """What its table tells of the last evaluation, or of the last step."""
    plots: tuple[str, ...]
    """Its curves; none where each stage is another model, and a curve through them would say nothing."""
    variants: tuple[str, ...] = ()
    """Those that are run, the recipe itself being the empty one (`chosen`)."""


R1_CURVES = ("eval/accuracy", "eval/length", "eval/reflect", "eval/rescued")
ROWS = {
    "r1-zero": Row("countdown-zero", (*R1_CURVES, "eval/harmed", "eval/step_truth"), R1_CURVES),
    "grpo": Row(
        "countdown-ablation",
        ("eval/accuracy", "eval/length", "eval/reflect", "eval/step_truth", "policy/entropy"),
        ("eval/accuracy",),
    ),
    "critic": Row("countdown-critic", ("eval/accuracy", "memory/peak", "time/step"), ("eval/accuracy",)),
    "thought": Row("countdown-thought", ("eval/accuracy", "eval/length"), ("eval/accuracy", "eval/length")),
    "imitation": Row("countdown-imitation", ("eval/accuracy", "eval/expert", "eval/length"), ("eval/accuracy",)),
    "distil": Row("countdown-distil", ("eval/accuracy", "eval/length"), ()),
    "stages": Row("countdown-stages", ("eval/accuracy", "eval/length", "eval/reflect"), ("eval/accuracy",)),
    "hidden": Row("countdown-hidden", ("eval/accuracy", "eval/length", "eval/reflect"), ()),
    "small": Row("countdown-small", ("eval/accuracy", "eval/length"), ()),
    "r1": Row(
        "r1", ("eval/accuracy", "eval/language", "eval/length", "eval/reflect"), ("eval/accuracy", "eval/language")
    ),
}


@dataclass(frozen=True)
class Job:
    """One run that is to be there."""

    row: Row
    variant: str
    seed: int

    @property
    def key(self) -> tuple[str, int]:
        """What its run is found by again: the name, which says recipe and variant, and the seed."""
        return "-".join(filter(None, (self.row.recipe, self.variant))), self.seed


def jobs(row: Row, seeds: range) -> list[Job]:
    """Seed by seed, so that what is cut short has whole seeds."""
    return [Job(row, variant, seed) for seed in seeds for variant in row.variants]


def chosen(row: Row, variants: Sequence[str] | None) -> Row:
    """The row with these of its variants alone, the recipe itself being the empty one; with all of them for None.

    Raises:
        SystemExit: there is no such variant.
    """
    path = find_recipe(row.recipe)
    known = ("", *parse_variants(read_recipe_text(path), str(path)))
    if unknown := [name for name in variants or () if name not in known]:
        raise SystemExit(f"`{row.recipe}` has no variant `{unknown[0]}`; it has {', '.join(known[1:]) or 'none'}")
    return replace(row, variants=known if variants is None else tuple(variants))


def make(client: Client, job: Job) -> None:
    """Run it to its end; a run that fails ends the whole thing with what it said."""
    path = find_recipe(job.row.recipe)
    recipe = parse_recipe(read_recipe_text(path), str(path), {"run.seed": job.seed}, job.variant)
    began_s = time.monotonic()
    run = client.command(wire.SubmitRun(dump_recipe(recipe), str(path))).run
    while not (row := client.ask(wire.GetRun(run, only_ends=True), wire.RunDetail).row).state.is_over:
        time.sleep(POLL_S)
    if row.state is not RunState.FINISHED:
        raise SystemExit(f"{run}: {row.state}, {row.reason}")
    print(f"{run}: {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)


def finished(client: Client) -> dict[tuple[str, int], str]:
    """The runs that are there, by the keys of their jobs."""
    found = {}
    for row in client.ask(wire.ListRuns(limit=5000), wire.Runs).runs:
        if row.state is RunState.FINISHED:
            recipe = parse_recipe(client.ask(wire.GetRun(row.name, only_ends=True), wire.RunDetail).recipe, row.name)
            found[recipe.run.name, recipe.run.seed] = row.name
    return found


def table(client: Client, row: Row, seeds: range) -> list[str]:
    """The row's table in Markdown: what every variant came to."""
    there = finished(client)
    lines = [
        f"| run | seeds | {' | '.join(_label(name) for name in row.metrics)} |",
        f"| --- |{' --- |' * (len(row.metrics) + 1)}",
    ]
    for variant in dict.fromkeys(job.variant for job in jobs(row, seeds)):
        own = [there[job.key] for job in jobs(row, seeds) if job.variant == variant and job.key in there]
        told = [came_to(client.ask(wire.GetRun(one), wire.RunDetail)) for one in own]
        for stage in dict.fromkeys(stage for figures in told for stage in figures):
            ends = [figures[stage] for figures in told if stage in figures]
            cells = [_cell(name, [figures[name] for figures in ends if name in figures]) for name in row.metrics]
            label = " ".join(filter(None, (variant or row.recipe, stage)))
            lines.append(f"| {label} | {len(ends)} | {' | '.join(cells)} |")
    return lines


def came_to(detail: wire.RunDetail) -> dict[str, dict[str, float]]:
    """What each stage came to that leaves a policy, by its name; of a run of one stage the newest of everything."""
    recipe = parse_recipe(detail.recipe, detail.row.name)
    if not recipe.then:
        return {"": detail.newest}
    measured = dict(detail.evaluations)
    leave_policies = {part.stage.title for part in recipe.stages if part.stage.kind.leaves_policy}
    ends = {stage: step for stage, step in last_steps(recipe.stages).items() if stage in leave_policies}
    return {stage: measured[step] for stage, step in {"the start": 0, **ends}.items() if step in measured}


def _label(name: str) -> str:
    metric = find_metric(name)
    unit = "%" if metric and metric.is_share else metric.unit if metric else ""
    return f"{metric.label if metric else name}{f', {unit}' if unit else ''}"


def _cell(name: str, values: Sequence[float]) -> str:
    if not values:
        return "-"
    metric = find_metric(name)
    scale = 100.0 if metric and metric.is_share else 1.0
    mean, least, most = (value * scale for value in (statistics.fmean(values), min(values), max(values)))
    return f"{mean:.3g} ({least:.3g} .. {most:.3g})"


def draw(paths: Paths, client: Client, name: str, row: Row, seed: int) -> None:
    """The row's pictures."""
    there = finished(client)
    first = [there[job.key] for job in jobs(row, range(seed, seed + 1)) if job.key in there]
    if not first or not row.plots:
        return
    PICTURES.mkdir(parents=True, exist_ok=True)
    others = [word for other in first[1:8] for word in ("--with", other)]
    command = [sys.executable, "-P", "-m", "ponder.cli", "plot", first[0], *row.plots, *others, "--over-seeds"]
    environment = {**os.environ, "PONDER_HOME": str(paths.home), "PONDER_RUNTIME_DIR": str(paths.runtime)}
    subprocess.run([*command, "--out", str(PICTURES / f"{name}.svg")], env=environment, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rows", nargs="*", default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--variants", help="these alone, with commas between; the recipe itself is the empty word")
    parser.add_argument("--home", type=Path, help="kept, and filled up")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no run after so long")
    options = parser.parse_args()
    if unknown := [name for name in options.rows if name not in ROWS]:
        parser.error(f"there is no row {unknown[0]}; there are {', '.join(ROWS)}")
    seeds = range(options.first, options.first + options.seeds)
    variants = None if options.variants is None else options.variants.split(",")
    rows = {name: chosen(ROWS[name], variants) for name in options.rows}
    until_s = time.monotonic() + 60 * options.minutes
    with (
        tempfile.TemporaryDirectory() as spare,
        tempfile.TemporaryDirectory(prefix="pndr-", dir="/tmp") as runtime,
    ):
        paths = Paths(options.home or Path(spare), Path(runtime))
        paths.home.mkdir(parents=True, exist_ok=True)
        with daemon(paths) as client:
            for name, row in rows.items():
                for job in jobs(row, seeds):
                    if job.key not in finished(client) and time.monotonic() < until_s:
                        make(client, job)
                draw(paths, client, name, row, options.first)
                print(f"\n## {name}\n", *table(client, row, seeds), sep="\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
