"""An open-ended run with everything on: does anything grow that should not?

    python -m bench.soak [--minutes 60] [--every 10]

`recipes/countdown-zero.toml` without an end under a real daemon: every token previewed, a console in a terminal of
120 x 40, a follower, and a fresh client every half second that asks what `ponder status` and `ponder samples` ask, and
turns a knob now and then. Every `--every` seconds the files, memory and write-ahead log are noted. What is judged is
the second half: no process opens files that it does not close, memory rises by no more than `MEMORY_MB_AN_HOUR` (the
least-squares slope), the log stays below its limit. Ends with 1 when something grows. Deliberately left out: deaths.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.streaming import watched
from ponder import wire
from ponder.client import Client
from ponder.paths import Paths
from store.schema import WAL_LIMIT_BYTES

MEMORY_MB_AN_HOUR = 20.0
SPARE_FILES = 2
"""A process may have so many files more at one moment than at another: a page that is being read."""
LOG_MB = 4 * WAL_LIMIT_BYTES / 1e6
ENDLESS = 10_000_000
ASK_EVERY_S = 0.5
KNOB_EVERY = 20


@dataclass
class Process:
    """What was seen of one process: (seconds, files, MB) each time."""

    name: str
    pid: int
    seen: list[tuple[float, int, float]] = field(default_factory=list)

    def look(self, now_s: float) -> None:
        folder = Path(f"/proc/{self.pid}")
        pages = int((folder / "statm").read_text().split()[1])
        self.seen.append((now_s, sum(1 for _ in (folder / "fd").iterdir()), pages * os.sysconf("SC_PAGE_SIZE") / 1e6))

    @property
    def later(self) -> list[tuple[float, int, float]]:
        return self.seen[len(self.seen) // 2 :]

    @property
    def files(self) -> tuple[int, int]:
        counts = [files for _, files, _ in self.later]
        return min(counts), max(counts)

    @property
    def mb_an_hour(self) -> float:
        times, sizes = [when for when, _, _ in self.later], [mb for _, _, mb in self.later]
        return statistics.linear_regression(times, sizes).slope * 3600 if len(set(times)) > 1 else 0.0

    @property
    def is_steady(self) -> bool:
        least, most = self.files
        return most - least <= SPARE_FILES and self.mb_an_hour <= MEMORY_MB_AN_HOUR


def bother(paths: Paths, run: str, is_over: threading.Event) -> None:
    """Fresh clients, one after the other, as commands are; and a knob that goes up and down."""
    turn = 0
    while not is_over.wait(ASK_EVERY_S):
        turn += 1
        with Client(paths) as client:
            client.ask(wire.GetStatus(), wire.Status)
            client.ask(wire.GetSamples(run), wire.Samples)
            client.ask(wire.GetMetrics(run), wire.Curves)
            if turn % KNOB_EVERY == 0:
                client.command(wire.SetKnob(run, "optim.lr", 1e-4 if turn % (2 * KNOB_EVERY) else 9e-5))


def follow(paths: Paths, run: str, is_over: threading.Event, seen: list[int]) -> None:
    with Client(paths) as client:
        seen.extend(event.id for event in client.follow(run, 0, stop=is_over.is_set, patience_s=60))


@contextmanager
def in_thread(*call: object) -> Iterator[None]:
    target, *arguments = call
    thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]  # a function stands first
    thread.start()
    try:
        yield
    finally:
        thread.join()


def soak(minutes: float, every_s: float) -> tuple[list[Process], list[float], int, int]:
    """The processes, the log's MB each time, steps made, events followed."""
    is_over = threading.Event()
    followed: list[int] = []
    logs: list[float] = []
    with watched(ENDLESS) as run:
        paths = run.paths
        processes = [
            Process("daemon", run.daemon_pid), Process("trainer", run.trainer_pid), Process("console", run.console.pid)
        ]  # fmt: skip
        started_s = time.monotonic()
        with in_thread(bother, paths, run.run, is_over), in_thread(follow, paths, run.run, is_over, followed):
            try:
                while (now_s := time.monotonic() - started_s) < 60 * minutes:
                    time.sleep(every_s)
                    for process in processes:
                        process.look(now_s)
                    log = paths.store.with_name(f"{paths.store.name}-wal")
                    logs.append(log.stat().st_size / 1e6 if log.exists() else 0.0)
                    show(processes, logs[-1], now_s, minutes)
            finally:
                is_over.set()
        with Client(paths) as client:
            steps = client.ask(wire.GetRun(run.run), wire.RunDetail).row.step
    return processes, logs, steps, len(followed)


def show(processes: Sequence[Process], log_mb: float, now_s: float, minutes: float) -> None:
    """One line of progress."""
    words = [f"{one.name} {one.seen[-1][1]} files {one.seen[-1][2]:.0f} MB" for one in processes]
    print(f"\r{now_s / 60:.1f} of {minutes:g} min  {'  '.join(words)}  log {log_mb:.0f} MB ", end="", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two looks")
    options = parser.parse_args()
    processes, logs, steps, events = soak(options.minutes, options.every)
    table = Table("process", "files, second half", "MB: first, last", "MB an hour, second half", "steady")
    for one in processes:
        least, most = one.files
        table.add_row(
            one.name, f"{least} .. {most}", f"{one.seen[0][2]:.0f}, {one.seen[-1][2]:.0f}", f"{one.mb_an_hour:+.1f}",
            "yes" if one.is_steady else "[bold]NO[/]",
        )  # fmt: skip
    print(file=sys.stderr)
    Console().print(table)
    print(f"{steps} steps, {events} events followed, write-ahead log at most {max(logs):.1f} MB (limit {LOG_MB:.0f})")
    return 0 if all(one.is_steady for one in processes) and max(logs) <= LOG_MB else 1


if __name__ == "__main__":
    sys.exit(main())
