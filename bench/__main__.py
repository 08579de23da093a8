"""`make bench`: every promise of speed in its quick form, and one table.

    python -m bench [MODULE ...]      all modules, or some, in under ten minutes
    python -m bench --one MODULE      one module's figures as JSON, in this process

Each module runs in a process of its own, one after the other, so that none slows another down and a broken one is a row
of the table. What could not be measured is said, with the reason, and is not met. Exits with 1 when something is not
met. Deliberately left out: what is measured, and the targets (each module's `quick`); the full forms, with more pairs,
are the modules themselves, and their figures stand in bench/RESULTS.md.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
from rich.console import Console
from rich.table import Table

from bench.figures import Figure
from bench.peer_turns import ONE_THREAD

MODULES = (
    "peers", "sampling", "learning", "growth", "streaming", "emit", "store_path", "store_queries", "commands",
    "followers", "console", "live_reward", "overoptimisation",
)  # fmt: skip
PATIENCE_S = 600.0


@dataclass(frozen=True)
class Outcome:
    """What a module has measured, or why it has not."""

    module: str
    seconds: float
    figures: list[Figure] = field(default_factory=list)
    reason: str = ""


def measure(module: str) -> Outcome:
    """The module's figures, from a process of its own; what it prints goes to stderr."""
    began_s = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "bench", "--one", module], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **ONE_THREAD},
    ) as process:  # fmt: skip
        try:
            out, said = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.terminate()  # it ends what it started
            process.communicate()
            return Outcome(module, PATIENCE_S, reason=f"it took more than {PATIENCE_S:.0f} s")
    sys.stderr.write(said)
    taken_s = time.perf_counter() - began_s
    if process.returncode:
        lines = said.strip().splitlines() or ["it ended without a word"]
        return Outcome(module, taken_s, reason=lines[-1])
    return Outcome(module, taken_s, msgspec.json.decode(out, type=list[Figure]))


def measure_here(module: str) -> None:
    """Print the module's figures as JSON; all else that it prints goes to stderr."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    figures = importlib.import_module(f"bench.{module}").quick()
    sys.stdout.flush()
    out.write(msgspec.json.encode(figures))
    out.flush()


def tabulate(outcomes: Sequence[Outcome]) -> Table:
    table = Table("what", "measured", "target", "met")
    for outcome in outcomes:
        for figure in outcome.figures:
            unit = figure.unit if figure.unit in ("", "x") else f" {figure.unit}"
            sign = ">=" if figure.at_least else "<="
            note = f"\n[dim]{figure.note}[/]" if figure.note else ""
            table.add_row(
                figure.name + note, f"{figure.measured:,.3g}{unit}" if figure.measured < 1000
                else f"{figure.measured:,.0f}{unit}", f"{sign} {figure.target:,.3g}{unit}",
                "yes" if figure.is_met else "[bold]NO[/]",
            )  # fmt: skip
        if outcome.reason:
            table.add_row(f"bench/{outcome.module}.py", f"not measured: {outcome.reason}", "", "[bold]NO[/]")
        table.add_section()
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", default=list(MODULES), metavar="MODULE")
    parser.add_argument("--one", metavar="MODULE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure_here(options.one)
        return 0
    outcomes = []
    for module in options.modules:
        outcomes.append(measure(module))
        print(f"{module}: {outcomes[-1].seconds:.0f} s", file=sys.stderr, flush=True)
    Console().print(tabulate(outcomes))
    return 0 if all(outcome.figures and all(f.is_met for f in outcome.figures) for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
