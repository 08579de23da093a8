"""What the console costs and how quick it is, over a line of any speed.

    python -m bench.console [--seconds 20] [--rollouts 1000000] [--home DIR]

A real daemon, a trainer that keeps it busy (`bench.console_trainer`: a step, 50 or 200 answers and 50 tokens a second,
beside a store that holds a long run already), and the console at the end of a line (`bench.console_line`). *Key to
paint* is from the key to the moment in which the emulator shows what it does. Beside it the same screen with Textual's
own driver. Deliberately left out: a real network (`ssh` adds its own windows), what the daemon does
(`bench.followers`, `bench.store_queries`), and other programs (`bench.console_peers`).
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from bench.console_line import Line, console, environment
from bench.figures import Figure
from bench.followers import end_run
from bench.served import daemon, private_home
from bench.store_queries import fill
from ponder import wire
from ponder.client import Client
from ponder.events import RunState
from ponder.paths import Paths
from tests.daemon.conftest import recipe_text

SIZES = ((80, 24), (200, 60))
WORKER = "bench.console_trainer"
STEPS = 100_000
STEADY, BUSY = 50, 200
"""Answers a second."""
TOKENS = 50
SETTLE_S = 3.0
PRESSES = 40
PAGE_DOWN, PAGE_UP = "\x1b[6~", "\x1b[5~"


def submit(client: Client, name: str, per_second: int, tokens: int = TOKENS) -> str:
    """A run that is under way."""
    run = client.command(
        wire.SubmitRun(recipe_text(name, STEPS, save_every=0, per_second=per_second, tokens=tokens))
    ).run
    wait_until(lambda: client.ask(wire.GetRun(run), wire.RunDetail).row.step >= 2)
    return run


def clear(client: Client) -> None:
    """End what a measurement that was cut off left in a home that is kept."""
    runs = client.ask(wire.ListRuns(), wire.Runs).runs
    left = [row.name for row in runs if not row.state.is_over]
    for name in left:
        client.command(wire.StopRun(name, now=True))
    wait_until(lambda: all(client.ask(wire.GetRun(name), wire.RunDetail).row.state.is_over for name in left))


def wait_until(holds: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def settle(line: Line) -> None:
    line.watch(SETTLE_S)


def idle(client: Client, paths: Paths, run: str, size: tuple[int, int], seconds: float) -> tuple[float, float]:
    """Bytes a second and the share of a core with a paused run."""
    client.command(wire.PauseRun(run))
    wait_until(lambda: client.ask(wire.GetRun(run), wire.RunDetail).row.state is RunState.PAUSED)
    try:
        with console(paths, run, size) as line:
            line.watch(2 * SETTLE_S)
            bytes_per_s, _, share = line.watch(seconds)
    finally:
        client.command(wire.ResumeRun(run))
    return bytes_per_s, share


def hold_presses(line: Line, presses: int) -> list[float]:
    """Key to paint, again and again: `f` holds the answer on the live screen, or lets it go."""
    rng = random.Random(3)
    taken = []
    for press in range(presses):
        line.watch(rng.uniform(0.1, 0.4))
        is_held = press % 2 == 0
        taken.append(line.time_key("f", lambda is_held=is_held: ("HELD" in line.text) == is_held))  # type: ignore[misc]  # used at once
    return sorted(taken)


def p95(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.95))]


def stalled(client: Client, run: str, line: Line, seconds: float = 10.0) -> int:
    """Old frames that arrive after a reader's stall, beside the one that was under way."""
    settle(line)
    time.sleep(seconds)  # nobody reads: this is the stall
    newest = client.ask(wire.GetRun(run), wire.RunDetail).row.step
    before = line.frames

    def shown() -> int:
        found = re.search(r"step ([\d,]+)/", line.text)
        return int(found.group(1).replace(",", "")) if found else 0

    line.wait_for(lambda: shown() >= newest, 60.0, 0.002)
    return max(0, line.frames - before - 2)  # the one that was under way, and the one that shows the newest step


def first_paint(paths: Paths, run: str, size: tuple[int, int]) -> tuple[float, float]:
    """Seconds from the start to the run's name on the screen, and to its curves and answers."""
    began = time.monotonic()
    with Line("-P", "-m", "tui", run, size=size, environ=environment(paths)) as line:
        line.wait_for(lambda: f" {run} " in line.text, 60.0, 0.002)
        named_s = time.monotonic() - began
        line.wait_for(lambda: "answers so far" in line.text, 60.0, 0.002)
        whole_s = time.monotonic() - began
        line.type("q")
        line.wait_end()
    return named_s, whole_s


def samples(paths: Paths, run: str, size: tuple[int, int], presses: int) -> tuple[float, float, list[float]]:
    """Seconds in which the Samples screen opens for the first time and again, and those of pages, jumps and sorts."""
    rng = random.Random(5)
    with Line("-P", "-m", "tui", run, size=size, environ=environment(paths)) as line:
        line.wait_for(lambda: "answers so far" in line.text, 60.0)
        settle(line)
        first_s = line.time_key("3", lambda: "[3" in line.text and "newest first" in line.text)
        settle(line)
        line.type("2")
        line.wait_for("answers so far", 60.0)
        settle(line)
        again_s = line.time_key("3", lambda: "[3" in line.text and "newest first" in line.text)
        taken = []
        for press in range(presses):
            line.watch(rng.uniform(0.3, 0.6))
            taken.append(line.time_change((PAGE_DOWN, PAGE_DOWN, "G", PAGE_UP, "g", "s")[press % 6]))
        line.type("q")
        line.wait_end(60.0)
    return first_s, again_s, taken


def figures(seconds: float, rollouts: int, home: Path | None, presses: int) -> Iterator[Figure]:
    """Everything, one after the other."""
    with private_home() if home is None else nullcontext(Paths(home, home)) as paths:
        paths.home.mkdir(parents=True, exist_ok=True)
        if not paths.store.exists():
            fill(paths.store, rollouts)
        with daemon(paths, WORKER) as client:
            clear(client)
            steady = submit(client, "steady", STEADY)
            long_run = client.ask(wire.ListRuns(), wire.Runs).runs[-1].name
            for size in SIZES:
                name = f"{size[0]}x{size[1]}"
                small = size == SIZES[0]
                bytes_per_s, share = idle(client, paths, steady, size, seconds)
                yield Figure(f"console {name}: idle", bytes_per_s, "B/s", 0.0, at_least=False)
                yield Figure(f"console {name}: idle, processor", 100 * share, "%", 0.5, at_least=False)
                with console(paths, steady, size) as line:
                    settle(line)
                    bytes_per_s, frames, share = line.watch(seconds)
                    memory_mb = line.memory_mb
                with console(paths, steady, size, PONDER_DRIVER="stock") as line:
                    settle(line)
                    stock, _, stock_share = line.watch(seconds / 2)
                note = f"Textual's driver {stock / 1e3:.1f} kB/s, {100 * stock_share:.0f} % of a core"
                yield Figure(
                    f"console {name}: steady run", bytes_per_s / 1e3, "kB/s", 4.0 if small else 12.0, False, note
                )
                yield Figure(
                    f"console {name}: steady run, processor", 100 * share, "%", 15.0, False, f"{frames:.1f} frames/s"
                )
                with console(paths, steady, size) as line:
                    line.type("w")
                    line.wait_for("sparing the line: on", 60.0)
                    settle(line)
                    bytes_per_s, frames, _ = line.watch(seconds)
                yield Figure(f"console {name}: sparing the line", bytes_per_s / 1e3, "kB/s", 1.0, at_least=False)
                yield Figure(f"console {name}: sparing the line, frames", frames, "frames/s", 1.0, at_least=False)
                yield Figure(f"console {name}: memory", memory_mb, "MB", 80.0, at_least=False)
                named_s, whole_s = first_paint(paths, long_run, size)
                yield Figure(
                    f"console {name}: first paint, {rollouts:,} answers",
                    named_s,
                    "s",
                    0.5,
                    False,
                    f"whole {whole_s:.2f} s",
                )
                first_s, again_s, taken = samples(paths, long_run, size, presses)
                note = f"for the first time {1e3 * first_s:.0f} ms, {rollouts:,} answers"
                yield Figure(f"console {name}: Samples opens", 1e3 * again_s, "ms", 100.0, False, note)
                note = f"p50 {1e3 * statistics.median(taken):.0f} ms, {rollouts:,} answers"
                yield Figure(f"console {name}: page, jump, sort, p95", 1e3 * p95(taken), "ms", 30.0, False, note)
            end_run(client, steady)
            busy = submit(client, "busy", BUSY)
            for size in SIZES:
                name = f"{size[0]}x{size[1]}"
                small = size == SIZES[0]
                with console(paths, busy, size) as line:
                    taken = hold_presses(line, presses)
                    note = f"p50 {1e3 * statistics.median(taken):.0f} ms, {BUSY} answers a second"
                    yield Figure(
                        f"console {name}: key to paint, p95",
                        1e3 * p95(taken),
                        "ms",
                        40.0 if small else 50.0,
                        False,
                        note,
                    )
                    yield Figure(
                        f"console {name}: old frames after a stall",
                        stalled(client, busy, line),
                        "",
                        0.0,
                        at_least=False,
                    )
                with console(paths, busy, size, 20_000.0) as line:
                    taken = hold_presses(line, presses // 2)
                    note = f"p50 {1e3 * statistics.median(taken):.0f} ms"
                    yield Figure(
                        f"console {name}: key to paint at 20 kB/s, p95",
                        1e3 * p95(taken),
                        "ms",
                        300.0 if small else 500.0,
                        False,
                        note,
                    )
            end_run(client, busy)


def quick() -> list[Figure]:
    return list(figures(8.0, 50_000, None, 20))


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rollouts", type=int, default=1_000_000)
    parser.add_argument("--presses", type=int, default=PRESSES)
    parser.add_argument("--home", type=Path, help="kept, and filled only once")
    options = parser.parse_args(words)
    for figure in figures(options.seconds, options.rollouts, options.home, options.presses):
        sign = ">=" if figure.at_least else "<="
        print(
            f"{figure.name}: {figure.measured:.2f} {figure.unit} ({sign} {figure.target:g}) {figure.note}", flush=True
        )


if __name__ == "__main__":
    main()
