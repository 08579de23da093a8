"""How many answers a second the whole path takes: journal, ZeroMQ, commit with synchronous FULL, acknowledgement.

    python -m bench.store_path [--seconds 60] [--characters 300] [--per-second N] [--folder DIR]

A real daemon starts `bench.fast_trainer` under its real supervisor and shim; the trainer journals as fast as the daemon
acknowledges (or N answers a second). Before and after, the same rows go into the same schema by `executemany` alone, in
transactions of the same size: what the path costs beyond SQLite is the share. CPU and memory are sampled from outside.
Deliberately left out: questions asked meanwhile (`bench.store_queries`).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psutil

from bench.answers import GROUP_SIZE, make_groups
from bench.figures import Figure
from bench.served import daemon, private_home
from daemon.processes import read_started
from ponder import wire
from ponder.client import Client
from ponder.events import Record, encode_record
from ponder.paths import Paths
from store.schema import open_for_reading, open_for_writing
from store.search import count_unindexed
from store.writer import Writer

CHARACTERS = 300
"""Of an answer's text; with tokens, log-probs and entropies about 1 KB on the wire."""
TARGET_PER_S = 5000.0
MEMORY_GROWTH_MB = 64.0
"""What the daemon may grow from the second quarter of a run to its last: it would be a leak."""
SAMPLE_EVERY_S = 0.5
RAW_GROUPS = 64
"""Of a raw transaction."""
RAW_TABLES = ("groups", "rollouts", "reward_parts", "marks", "rollout_tokens", "events")
SHIFTED = ("id", "group_id", "rollout_id", "step", "seq")

RECIPE = """
[run]
name = "{name}"
[model]
path = "builtin:none"
[task]
name = "fake"
[task.options]
characters = {characters}
seconds = {seconds}
per_second = {per_second}
[stage]
kind = "rl"
steps = 1000000
"""


@dataclass
class Use:
    """What one process took over a run, sampled."""

    cpu_s: float = 0.0
    memory_mb: list[float] = field(default_factory=list)

    def curve(self) -> str:
        """Its memory at the start, at the most, at the end, in MB."""
        return f"{self.memory_mb[0]:.0f} / {max(self.memory_mb):.0f} / {self.memory_mb[-1]:.0f}"

    def growth_mb(self) -> float:
        """From the second quarter to the last."""
        quarter = max(1, len(self.memory_mb) // 4)
        return max(self.memory_mb[-quarter:]) - max(self.memory_mb[: 2 * quarter])


@dataclass
class Passage:
    """One run of the whole path."""

    seconds: float
    rollouts: int
    backlog: list[int]
    """Records that were journaled and not acknowledged, at each sample."""
    uses: dict[str, Use]
    log_mb: float
    """The most that the write-ahead log took."""
    unindexed: int
    """Answers that the index of texts did not hold at the end."""

    @property
    def per_s(self) -> float:
        return self.rollouts / self.seconds


def measure_passage(
    paths: Paths, client: Client, seconds: float, characters: int, per_second: float, name: str
) -> Passage:
    """Run the trainer once, from its first event to the last acknowledgement."""
    recipe = RECIPE.format(name=name, characters=characters, seconds=seconds, per_second=per_second)
    run = client.command(wire.SubmitRun(recipe, by="bench")).run
    daemon_pid = client.ask(wire.GetStatus(), wire.Status).pid
    watched = {"daemon": psutil.Process(daemon_pid)}
    uses: dict[str, Use] = {}
    begun: dict[str, float] = {}
    log_mb = 0.0
    deadline = time.monotonic() + seconds + 120
    while time.monotonic() < deadline:
        started = read_started(paths.run(run))
        if started is not None and "trainer" not in watched:
            watched["trainer"] = psutil.Process(started.pid)
        lines = paths.run_log(run).read_text().splitlines() if paths.run_log(run).exists() else []
        if len(lines) > 1:  # the first names the attempt
            for process_name, process in watched.items():
                try:
                    times, memory = process.cpu_times(), process.memory_info()
                except (psutil.NoSuchProcess, psutil.ZombieProcess):
                    continue
                use = uses.setdefault(process_name, Use())
                begun.setdefault(process_name, times.user + times.system)
                use.cpu_s = times.user + times.system - begun[process_name]
                use.memory_mb.append(memory.rss / (1 << 20))
            log_mb = max(log_mb, paths.store.with_name("ponder.db-wal").stat().st_size / (1 << 20))
        if client.ask(wire.GetRun(run), wire.RunDetail).row.state.is_over:
            break
        time.sleep(SAMPLE_EVERY_S)
    figures = [line.split() for line in paths.run_log(run).read_text().splitlines() if line[:1].isdigit()]
    elapsed, rollouts, left = float(figures[-1][0]), int(figures[-1][1]), int(figures[-1][2])
    stored = client.ask(wire.GetRun(run), wire.RunDetail).rollouts
    if left or stored != rollouts:
        raise AssertionError(f"{rollouts} answers were told, {stored} are stored, {left} records not acknowledged")
    reader = open_for_reading(paths.store)
    unindexed = count_unindexed(reader)
    reader.close()
    return Passage(elapsed, rollouts, [int(line[2]) for line in figures], uses, log_mb, unindexed)


def template_rows(folder: Path, characters: int) -> dict[str, tuple[list[str], list[tuple[object, ...]]]]:
    """Each table's columns and rows as the real writer leaves them after RAW_GROUPS groups of one step."""
    path = folder / "template.db"
    writer = Writer(path)
    run = writer.submit_run("template", RECIPE.format(name="raw", characters=1, seconds=1, per_second=1), "", "")
    groups = make_groups(RAW_GROUPS, characters)
    writer.commit_records(run, [Record(seq, 1, 1, group) for seq, group in enumerate(groups, start=1)])
    writer.close()
    connection = open_for_reading(path)
    found = {}
    for table in RAW_TABLES:
        where = " WHERE seq IS NOT NULL" if table == "events" else ""
        cursor = connection.execute(f"SELECT * FROM {table}{where}")
        found[table] = ([column[0] for column in cursor.description], cursor.fetchall())
    connection.close()
    return found


class Raw:
    """A store into which the rows of the real path go by `executemany`, again and again under new numbers."""

    def __init__(self, folder: Path, characters: int) -> None:
        path = folder / "raw.db"
        writer = Writer(path)
        run = writer.submit_run("raw", RECIPE.format(name="raw", characters=1, seconds=1, per_second=1), "", "")
        problems = make_groups(RAW_GROUPS, 1)
        writer.commit_records(run, [Record(seq, 1, 1, group) for seq, group in enumerate(problems, start=1)])
        writer.close()
        self._connection = open_for_writing(path)
        self._templates = template_rows(folder, characters)
        self._turn = count(1)

    def measure(self, seconds: float) -> float:
        """Answers a second; making the rows is not counted."""
        taken = 0.0
        rollouts = 0
        while taken < seconds:
            shift = next(self._turn) * 10_000
            batch = {
                table: [
                    tuple(value + shift if name in SHIFTED else value for name, value in zip(names, row, strict=True))  # type: ignore[operator]  # those are numbers
                    for row in rows
                ]
                for table, (names, rows) in self._templates.items()
            }
            begin = time.perf_counter()
            self._connection.execute("BEGIN IMMEDIATE")
            for table, rows in batch.items():
                self._connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
            self._connection.execute("COMMIT")
            taken += time.perf_counter() - begin
            rollouts += RAW_GROUPS * GROUP_SIZE
        return rollouts / taken

    def close(self) -> None:
        self._connection.close()


def wire_bytes(characters: int) -> float:
    """Of an answer, in its group's record."""
    groups = make_groups(16, characters)
    return sum(len(encode_record(Record(1, 1, 1, group))) for group in groups) / (16 * GROUP_SIZE)


def interleave(
    folder: Path | None, seconds: float, characters: int, per_second: float, times: int, raw_s: float
) -> Iterator[tuple[float, Passage]]:
    """Raw and path in turn; each passage with the mean of the raw figures before and after it."""
    with private_home(folder) as paths, daemon(paths, "bench.fast_trainer") as client:
        raw = Raw(paths.home, characters)
        before = raw.measure(raw_s)
        for turn in range(times):
            passage = measure_passage(paths, client, seconds, characters, per_second, f"path{turn}")
            after = raw.measure(raw_s)
            yield (before + after) / 2, passage
            before = after
        raw.close()


def figures_of(raw_per_s: float, passage: Passage) -> list[Figure]:
    use = passage.uses["daemon"]
    return [
        Figure(
            "store: answers through the whole path", passage.per_s, "1/s", TARGET_PER_S, True,
            f"{passage.per_s / raw_per_s:.0%} of executemany alone; trainer and daemon on {psutil.cpu_count()} cores",
        ),
        Figure(
            "store: the daemon's memory under load", use.growth_mb(), "MB more at the end", MEMORY_GROWTH_MB, False,
            f"{use.curve()} MB at start / most / end",
        ),
    ]  # fmt: skip


def quick() -> list[Figure]:
    """Ten seconds of it."""
    ((raw_per_s, passage),) = interleave(None, 10.0, CHARACTERS, 0, 1, 1.5)
    return figures_of(raw_per_s, passage)


def main() -> None:
    """Measure, print a table for bench/RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--characters", type=int, default=CHARACTERS, help="of an answer's text")
    parser.add_argument("--per-second", type=float, default=0, help="answers; 0: as many as the daemon takes")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to be measured")
    options = parser.parse_args()
    print(f"answers of {options.characters} characters, {wire_bytes(options.characters):,.0f} bytes on the wire\n")
    print(
        "| answers/s | raw/s | share | cpu us an answer: daemon, trainer | MB daemon: start / most / end | MB trainer "
        "| not acknowledged, records: median, most | log MB | not indexed at the end |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for raw_per_s, passage in interleave(
        options.folder, options.seconds, options.characters, options.per_second, options.times, 4.0
    ):
        cpu = [f"{1e6 * passage.uses[name].cpu_s / passage.rollouts:.0f}" for name in ("daemon", "trainer")]
        print(
            f"| {passage.per_s:,.0f} | {raw_per_s:,.0f} | {passage.per_s / raw_per_s:.0%} | {', '.join(cpu)} "
            f"| {passage.uses['daemon'].curve()} | {passage.uses['trainer'].curve()} "
            f"| {statistics.median(passage.backlog):,.0f}, {max(passage.backlog):,} | {passage.log_mb:.0f} "
            f"| {passage.unindexed:,} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
