"""How long the trainer waits when it tells something: `emit`, with the daemon alive, dead, and stopped.

    python -m bench.emit [--emits 20000] [--burst 5000]

A real daemon; in place of the trainer `bench.emitter`, a worker process with the real journal and relay, which emits
groups of 8 answers of 50 to 500 tokens, 32 a step, and the step's figures: first with a stretch of work before each
step, then without any pause.
*Dead* is SIGKILL and nobody comes back; *stopped* is SIGSTOP, which keeps the sockets open. *Nothing* is a process that
waits as long as the median emit in place of each: what the machine itself adds. *Undisturbed* leaves out of each emit
the time in which its thread was ready and all cores were taken, as the kernel counts it. Deliberately left out: what
the daemon does with the events.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.emitter import GROUPS
from bench.figures import Figure
from bench.served import private_home, start, wait_for_answer
from daemon.processes import is_same_process, read_started
from ponder import wire
from ponder.client import Client

STATES = ("alive", "dead", "stopped")
TARGET_MS = 1.0
SHARES = (0.5, 0.99, 0.999, 1.0)
PATIENCE_S = 240.0
RECIPE = """
[run]
name = "emits"
[model]
path = "builtin:none"
[task]
name = "none"
[task.options]
emits = {emits}
burst = {burst}
[stage]
kind = "rl"
steps = 1000000
[compute]
threads = 1
"""


@dataclass(frozen=True)
class Emits:
    """Microseconds of every emit under one daemon, each with those in which its thread waited for a core."""

    paced: list[tuple[float, float]]
    burst: list[tuple[float, float]]
    resident_mb: list[float]
    """Memory of the process before, after the paced ones, and after the burst."""


def emit_under(state: str, emits: int, burst: int) -> Emits:
    """A fresh home, daemon and emitter; the daemon is alive, dead or stopped before the first emit that counts."""
    with private_home() as paths:
        daemon = start(paths, worker="bench.emitter")
        run_folder = Path()
        try:
            with Client(paths) as client:
                wait_for_answer(client, daemon)
                recipe = RECIPE.format(emits=emits, burst=burst)
                run_folder = paths.run(client.command(wire.SubmitRun(recipe, by="bench")).run)
            _wait(lambda: (run_folder / "ready").exists(), "the emitter")
            if state != "alive":
                daemon.send_signal(signal.SIGKILL if state == "dead" else signal.SIGSTOP)
            (run_folder / "go").touch()
            _wait(lambda: (run_folder / "emits.json").exists(), "the emits")
            return Emits(**json.loads((run_folder / "emits.json").read_text()))
        finally:
            daemon.kill()
            daemon.wait()
            _end_trainer(run_folder)


def _end_trainer(run_folder: Path) -> None:
    papers = read_started(run_folder)
    if papers is None:
        return
    if is_same_process(papers):
        os.kill(papers.pid, signal.SIGKILL)
    _wait(lambda: not Path(f"/proc/{papers.shim_pid}").exists(), "the shim's end")


def _wait(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {PATIENCE_S:.0f} s in vain for {what}")
        time.sleep(0.02)


def wait_only(microseconds: float, emits: int) -> list[tuple[float, float]]:
    command = [sys.executable, "-m", "bench.emitter", "--null", str(microseconds), str(emits)]
    done = subprocess.run(command, capture_output=True, check=True, cwd=Path(__file__).resolve().parent.parent)
    taken: list[tuple[float, float]] = json.loads(done.stdout)
    return taken


def percentile_ms(taken: Sequence[float], share: float) -> float:
    return sorted(taken)[min(len(taken) - 1, int(share * len(taken)))] / 1000


def row(name: str, taken: Sequence[tuple[float, float]]) -> str:
    walls, undisturbed = [wall for wall, _ in taken], [wall - waited for wall, waited in taken]
    figures = [percentile_ms(walls, share) for share in SHARES] + [
        percentile_ms(undisturbed, share) for share in SHARES
    ]
    return f"| {name} | {len(taken)} | {' | '.join(f'{figure:.3f}' for figure in figures)} |"


def report(emits: int, burst: int) -> str:
    columns = [f"{word}{name}" for word in ("", "undisturbed ") for name in ("p50 ms", "p99", "p99.9", "max")]
    lines = [f"| daemon | emits | {' | '.join(columns)} |", "| --- " * (2 + len(columns)) + "|"]
    grown = []
    middle = 0.0
    for state in STATES:
        found = emit_under(state, emits, burst)
        middle = statistics.median(wall for wall, _ in found.paced)
        lines += [
            row(state, found.paced),
            row(f"{state}, `step_done` alone", found.paced[GROUPS :: GROUPS + 1]),
            row(f"{state}, burst", found.burst),
        ]
        grown.append(f"{state} {' -> '.join(f'{size:.0f}' for size in found.resident_mb)}")
    lines.append(row("nothing", wait_only(middle, emits)))
    return "\n".join(lines) + f"\n\nMB resident, before, after the paced ones, after the burst: {'; '.join(grown)}"


def quick() -> list[Figure]:
    """The short form, for `make bench`: one row a state."""
    figures = []
    for state in STATES:
        taken = emit_under(state, 3300, 0).paced
        walls, undisturbed = [wall for wall, _ in taken], [wall - waited for wall, waited in taken]
        figures.append(
            Figure(
                f"`emit` with the daemon {state}, p99.9", percentile_ms(walls, 0.999), "ms", TARGET_MS, at_least=False,
                note=f"{len(taken)} emits, p50 {percentile_ms(walls, 0.5):.3f}, max {max(walls) / 1000:.1f}; without "
                f"waiting for a core that others had, p99.9 {percentile_ms(undisturbed, 0.999):.3f}",
            )
        )  # fmt: skip
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--emits", type=int, default=20_000)
    parser.add_argument("--burst", type=int, default=5_000)
    options = parser.parse_args()
    print(report(options.emits, options.burst))


if __name__ == "__main__":
    main()
