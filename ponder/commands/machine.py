"""The verb about the machine: what processors, memory, disk and GPUs do, and where a step's time goes.

Deliberately left out: looking (`daemon.machine`); the daemon looks only while somebody asks.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from ponder.commands.options import JsonOption, RunArgument, connect
from ponder.output import Interrupted, write, write_json, write_pairs

if TYPE_CHECKING:
    from ponder.client import Client
    from ponder.wire import System

SHARES_S = 1.1
"""A share of time needs two looks, so far apart; the daemon looks once a second at most."""
STEPS_SHOWN = 8
BAR_CELLS = 40


def system(
    run: RunArgument = "",
    follow_it: Annotated[bool, typer.Option("--follow", "-f", help="Go on, a look a second")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what the machine, the trainers and the daemon do, and what a step of the run waits for."""
    from ponder.wire import GetSystem, System

    with connect() as client:
        found = client.ask(GetSystem(), System)
        if not found.over_s or found.over_s > 10 * SHARES_S:  # shares of a long time ago say nothing about now
            time.sleep(SHARES_S)
            found = client.ask(GetSystem(), System)
        try:
            while True:
                _show(client, run, found, as_json)
                if not follow_it:
                    return
                sys.stdout.flush()
                time.sleep(SHARES_S)
                found = client.ask(GetSystem(), System)
                if not as_json:
                    write("")
        except KeyboardInterrupt:
            raise Interrupted("interrupted; nothing was changed") from None


def _show(client: Client, run: str, found: System, as_json: bool) -> None:
    from ponder.system_text import machine_lines

    if as_json:
        write_json("system", found)
        return
    write_pairs(machine_lines(found))
    _show_steps(client, run)


def _show_steps(client: Client, run: str) -> None:
    """The last steps as bars, and what they wait for."""
    from ponder.phases import ASKED, PHASES, advice, bar, bottleneck, step_times
    from ponder.wire import Curves, GetMetrics, ListRuns, Runs

    runs = client.ask(ListRuns(limit=1, only_active=True), Runs).runs or client.ask(ListRuns(limit=1), Runs).runs
    name = run or (runs[0].name if runs else "")
    if not name:
        return
    times = step_times(client.ask(GetMetrics(name, list(ASKED)), Curves).curves)
    if not times:
        return
    write(f"\n{name}: {bottleneck(times)}; {advice(times)}")
    shown = times[-STEPS_SHOWN:]
    longest_s = max(time.total_s for time in shown)
    for step in shown:
        write(f"  step {step.step:>6}  {bar(step, longest_s, BAR_CELLS):<{BAR_CELLS}}  {step.total_s:.2f} s")
    signs = {sign for step in shown for sign in step.seconds}
    write("  " + "  ".join(f"{phase.sign} {phase.word}" for phase in PHASES if phase.sign in signs))
