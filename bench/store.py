"""How fast and how small the store is: `python -m bench.store [--rollouts N] [--folder DIR]`.

Writes N rollouts (200,000 unless told) in steps of 256 through the one writer, as a daemon does, then asks what the
screens ask, from a reader of its own while the writer is open. Prints a Markdown table for bench/RESULTS.md.
Deliberately left out: sockets (`bench.store_path`, `bench.store_queries`), and more than one run.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from ponder.events import GroupScored, Outcome, Record, StepDone
from store.reader import Reader
from store.schema import sqlite_version
from store.writer import Writer
from tests.store.records import recipe_text, run_events, started

GROUPS, SIZE = 32, 8
MADE_STEPS = 40
"""So many steps are made up; then they come again under new numbers."""


def make_steps() -> list[list[GroupScored | StepDone]]:
    """The events of each made-up step."""
    events = run_events(MADE_STEPS, GROUPS, SIZE)
    return [
        [event for event in events if isinstance(event, GroupScored | StepDone) and event.step == step]
        for step in range(1, MADE_STEPS + 1)
    ]


def fill(writer: Writer, run: str, rollouts: int) -> list[float]:
    """Commit steps until there are so many rollouts; returns each commit's seconds."""
    made, seconds = make_steps(), []
    writer.commit_records(run, [Record(1, 1, 1, started(0, 1_000_000))])
    for step in range(1, rollouts // (GROUPS * SIZE) + 1):
        last = writer.last_seq(run)
        records = [
            Record(last + place, step, 1, msgspec.structs.replace(event, step=step))
            for place, event in enumerate(made[step % MADE_STEPS], start=1)
        ]
        begin = time.perf_counter()
        writer.commit_records(run, records)
        seconds.append(time.perf_counter() - begin)
    return seconds


def measure(ask: Callable[[], object], times: int = 15) -> tuple[float, float]:
    """Median and worst milliseconds."""
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        ask()
        taken.append(1000 * (time.perf_counter() - begin))
    return statistics.median(taken), max(taken)


def questions(reader: Reader, run: str, rollouts: int) -> dict[str, Callable[[], object]]:
    """What the screens ask, by a word for it."""
    middle, head = rollouts // 2, reader.events(0, limit=1).head
    return {
        "open a reader": lambda: Reader(reader.path).close(),
        "runs": lambda: reader.runs(limit=50),
        "run": lambda: reader.run(run),
        "events, newest page of 500": lambda: reader.events(head - 500, run, 500),
        "metrics, all curves": lambda: reader.metrics(run),
        "metrics, four curves": lambda: reader.metrics(
            run, ["reward/mean", "eval/accuracy", "length/mean", "reflection/rate"]
        ),
        "groups, newest 50": lambda: reader.groups(run, limit=50),
        "group": lambda: reader.group(middle // SIZE),
        "samples, newest 50": lambda: reader.samples(run, limit=50),
        "samples, 50 from the middle": lambda: reader.samples(run, before_id=middle, limit=50),
        "samples, one step": lambda: reader.samples(run, step=200, limit=256),
        "samples, newest 50 rescued": lambda: reader.samples(run, outcome=Outcome.RESCUED, limit=50),
        "samples, a text that is frequent": lambda: reader.samples(run, text="wait", limit=50),
        "samples, a text that is nowhere": lambda: reader.samples(run, text="xylophone", limit=50),
        "sample with tokens": lambda: reader.sample(middle),
        "aha, newest 50": lambda: reader.aha(run, limit=50),
        "aha, best 50": lambda: reader.aha(run, order="best", limit=50),
        "knobs": lambda: reader.knobs(run),
    }


def main() -> None:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to be measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "ponder.db"
        writer = Writer(path)
        run = writer.submit_run("submit", recipe_text(), "", "")
        seconds = fill(writer, run, options.rollouts)
        while writer.index_texts(1 << 18):
            pass
        writer.tidy()
        reader = Reader(path)
        rollouts = reader.run(run).rollouts
        tokens = sum(stored.rollout.length_tokens for stored in reader.samples(run, limit=2048).samples) / 2048
        ordered = sorted(seconds)
        print(f"{platform.machine()}, {os.cpu_count()} cores, SQLite {sqlite_version()}, {rollouts:,} rollouts\n")
        print("| what | figure |\n|---|---|")
        print(f"| commit of a step of {GROUPS * SIZE} rollouts, median | {1000 * ordered[len(ordered) // 2]:.1f} ms |")
        print(f"| the same, 99th of 100 | {1000 * ordered[int(len(ordered) * 0.99)]:.1f} ms |")
        print(f"| rollouts committed a second | {rollouts / sum(seconds):,.0f} |")
        print(
            f"| bytes on disk a rollout of {tokens:.0f} tokens, all included | {path.stat().st_size / rollouts:,.0f} |"
        )
        print("\n| question | median ms | worst ms |\n|---|---|---|")
        for name, ask in questions(reader, run, rollouts).items():
            median, worst = measure(ask)
            print(f"| {name} | {median:.2f} | {worst:.2f} |")
        reader.close()
        writer.close()


if __name__ == "__main__":
    main()
