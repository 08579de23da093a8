"""How long a client waits for an answer from a store of a million answers.

    python -m bench.store_queries [--rollouts N] [--home DIR]

Fills a store with one run through the one writer, its texts indexed as in quiet moments, then starts a real daemon on
it and asks over the socket what screens and commands ask. Every ask is another one where that makes a difference
(another group, another rare word). A home that is named is filled once and kept. Prints a Markdown table for
bench/RESULTS.md. Deliberately left out: asking while a run streams in, and the way into the store (`bench.store_path`).
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from bench.answers import GROUP_SIZE, make_groups
from bench.figures import Figure
from bench.served import daemon, private_home
from bench.store_path import CHARACTERS
from ponder import wire
from ponder.client import Client
from ponder.events import GroupScored, Outcome, Record, RunState, StepDone
from ponder.metrics import HEADLINES, METRICS
from ponder.paths import Paths
from ponder.sample_filter import read_filter
from store.reader import Reader
from store.schema import sqlite_version
from store.writer import Writer
from tests.store.records import recipe_text, started

GROUPS = 32
MADE_GROUPS = 2048
RARE_WORDS = ("xylophone", "quagmire", "zephyr", "Brouhaha", "\\boxed{flummox}")
RARE_EVERY = 50_000
"""Answers between two that hold a rare word."""
INDEXED_AT_ONCE = 1 << 18
TARGET_MS = 20.0
IN_SHORT = ("newest 50 of a run", "best 50 aha", "one group", "four curves", "a rare word")
"""The questions of the quick form."""
ASKS = 60


def fill(path: Path, rollouts: int) -> tuple[float, float]:
    """One run of so many answers, all indexed; returns the seconds that committing and indexing took."""
    made, rng = make_groups(MADE_GROUPS, CHARACTERS), random.Random(1)
    writer = Writer(path)
    run = writer.submit_run("submit", recipe_text(), "", "")
    writer.commit_records(run, [Record(1, 1, 1, started(0, 1_000_000))])
    names = [name for name in METRICS if "*" not in name]
    seq = 1
    fill_s = index_s = 0.0
    steps = rollouts // (GROUPS * GROUP_SIZE)
    for step in range(1, steps + 1):
        events: list[GroupScored | StepDone] = [
            replace(made[(step * GROUPS + group) % MADE_GROUPS], step=step, group=group) for group in range(GROUPS)
        ]
        if step * GROUPS * GROUP_SIZE % RARE_EVERY < GROUPS * GROUP_SIZE:
            events[0] = with_rare_word(events[0], RARE_WORDS[step % len(RARE_WORDS)])
        events.append(StepDone(step, step, {name: rng.random() for name in names}))
        begin = time.perf_counter()
        writer.commit_records(run, [Record(seq + place, step, 1, event) for place, event in enumerate(events, start=1)])
        middle = time.perf_counter()
        while writer.count_unindexed() * CHARACTERS > INDEXED_AT_ONCE or (step == steps and writer.count_unindexed()):
            writer.index_texts(INDEXED_AT_ONCE)
        fill_s, index_s = fill_s + middle - begin, index_s + time.perf_counter() - middle
        seq += len(events)
    writer.set_state(run, RunState.FINISHED)
    writer.close()
    return fill_s, index_s


def with_rare_word(event: GroupScored | StepDone, word: str) -> GroupScored | StepDone:
    """The group with a word in its first answer that hardly any other answer has."""
    if not isinstance(event, GroupScored):
        return event
    first = event.rollouts[0]
    changed = replace(first, text=f"{first.text[:100]} {word} {first.text[100:]}")
    return replace(event, rollouts=[changed, *event.rollouts[1:]])


def questions(run: str, rollouts: int) -> dict[str, tuple[bool, Callable[[int], tuple[wire.Request, type[Struct]]]]]:
    """What is asked, by a word for it, and whether it has to be quick; a question is made from the ask's number."""
    rng = random.Random(2)
    groups = [rng.randrange(1, rollouts // GROUP_SIZE) for _ in range(ASKS)]
    four = list(HEADLINES)

    def samples(**filters: object) -> tuple[wire.Request, type[Struct]]:
        return wire.GetSamples(run, **filters), wire.Samples  # type: ignore[arg-type]  # those below

    def line(filters: str, order: str = "newest") -> tuple[wire.Request, type[Struct]]:
        return read_filter(filters, wire.GetSamples(run, order=order)), wire.Samples

    return {
        "newest 50 of a run": (True, lambda _: samples()),
        "50 from anywhere": (True, lambda n: samples(before_id=groups[n] * GROUP_SIZE)),
        "newest 50 reflecting": (True, lambda _: samples(only_reflecting=True)),
        "newest 50 rescued": (True, lambda _: samples(outcome=Outcome.RESCUED)),
        "50 from the end": (True, lambda _: samples(from_end=True)),
        "50 from any step": (True, lambda n: samples(from_step=groups[n] // GROUPS)),
        "50 above any": (True, lambda n: samples(after_id=groups[n] * GROUP_SIZE)),
        "50 best by reward": (True, lambda _: samples(order="reward")),
        "50 by reward from anywhere": (True, lambda n: samples(order="reward", before_id=groups[n] * GROUP_SIZE)),
        "50 longest": (True, lambda _: samples(order="length")),
        "50 by length from anywhere": (True, lambda n: samples(order="length", before_id=groups[n] * GROUP_SIZE)),
        "newest 50 wrong and long": (True, lambda _: line("wrong length>40")),
        "newest 50 of 11 steps": (True, lambda n: line(f"step:{groups[n] // GROUPS}..{groups[n] // GROUPS + 10}")),
        "newest 50 of a prompt": (True, lambda n: line(f'prompt:"{groups[n] % 90 + 10}"')),
        "no answer fits the filter": (False, lambda _: line("reward>2")),
        "no prompt fits": (False, lambda _: line("prompt:phlogiston")),
        "first tenth of the steps": (False, lambda _: line(f"step<={rollouts // GROUP_SIZE // GROUPS // 10}")),
        "filtered and by reward": (False, lambda _: line("wrong length>40", order="reward")),
        "best 50 aha": (True, lambda _: (wire.GetAha(run, order="best"), wire.Aha)),
        "newest 50 aha": (True, lambda _: (wire.GetAha(run), wire.Aha)),
        "one group": (True, lambda n: (wire.GetGroup(groups[n]), wire.GroupDetail)),
        "newest 50 groups": (True, lambda _: (wire.GetGroups(run), wire.Groups)),
        "one sample with tokens": (True, lambda n: (wire.GetSample(groups[n] * GROUP_SIZE), wire.Sample)),
        "four curves": (True, lambda _: (wire.GetMetrics(run, four), wire.Curves)),
        "a rare word": (True, lambda n: samples(text=RARE_WORDS[n % len(RARE_WORDS)])),
        "a word that is nowhere": (True, lambda n: samples(text=("phlogiston", "zzyzx", "Xerxes")[n % 3])),
        "a frequent word": (True, lambda n: samples(text=("the", "answer", "reward")[n % 3])),
        "a rare sum": (False, lambda n: samples(text=f"{100 + n} + {900 - n} = 1000")),
        "a rare phrase of frequent words": (False, lambda n: samples(text=("is not the that", "of a the")[n % 2])),
        "two characters that are nowhere": (False, lambda _: samples(text="\u00e6\u00f8")),
        "run": (True, lambda _: (wire.GetRun(run), wire.RunDetail)),
        "runs": (True, lambda _: (wire.ListRuns(), wire.Runs)),
        "status": (True, lambda _: (wire.GetStatus(), wire.Status)),
        "500 events": (True, lambda n: (wire.GetEvents(groups[n], run), wire.Events)),
        "all curves": (False, lambda _: (wire.GetMetrics(run), wire.Curves)),
    }


def measure(client: Client, make: Callable[[int], tuple[wire.Request, type[Struct]]], asks: int) -> list[float]:
    """Milliseconds of each ask, sorted; the first ask of all is not counted."""
    client.ask(*make(0))
    taken = []
    for number in range(asks):
        request, reply_type = make(number)
        begin = time.perf_counter()
        client.ask(request, reply_type)
        taken.append(1000 * (time.perf_counter() - begin))
    return sorted(taken)


def the_run(path: Path) -> tuple[str, int]:
    """The only run of a filled store, and how many answers it has."""
    reader = Reader(path)
    detail = reader.run("")
    reader.close()
    return detail.row.name, detail.rollouts


def open_s(path: Path) -> float:
    """Seconds to open the store for writing and for reading, as a daemon does."""
    begin = time.perf_counter()
    writer, reader = Writer(path), Reader(path)
    taken = time.perf_counter() - begin
    reader.close()
    writer.close()
    return taken


def p95(ordered: list[float]) -> float:
    return ordered[int(0.95 * (len(ordered) - 1))]


def quick(rollouts: int = 100_000) -> list[Figure]:
    """What a person asks most, at a tenth of the size."""
    with private_home() as paths:
        fill(paths.store, rollouts)
        figures = [Figure(f"store: open {rollouts:,} answers", open_s(paths.store), "s", 1.0, False)]
        with daemon(paths) as client:
            asked = questions(*the_run(paths.store))
            for name in IN_SHORT:
                taken = measure(client, asked[name][1], ASKS)
                note = f"of {rollouts:,} answers, at the client; median {statistics.median(taken):.1f}"
                figures.append(Figure(f"store: {name}, p95", p95(taken), "ms", TARGET_MS, False, note))
        return figures


def main() -> None:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=1_000_000)
    parser.add_argument("--asks", type=int, default=ASKS)
    parser.add_argument("--home", type=Path, default=None, help="filled unless it is, and kept; else a fresh one")
    options = parser.parse_args()
    with private_home() as fresh:
        paths = fresh if options.home is None else Paths(options.home, fresh.runtime)
        paths.home.mkdir(mode=0o700, exist_ok=True)
        if not paths.store.exists():
            fill_s, index_s = fill(paths.store, options.rollouts)
            print(f"committed in {fill_s:.0f} s, indexed in {index_s:.0f} s")
        run, rollouts = the_run(paths.store)
        size = paths.store.stat().st_size
        print(
            f"SQLite {sqlite_version()}, {rollouts:,} answers of {CHARACTERS} characters, {size / rollouts:,.0f} bytes"
        )
        print(f"opened in {open_s(paths.store):.3f} s\n")
        print("| question | p50 ms | p95 ms | worst ms | <= 20 ms |\n| --- | --- | --- | --- | --- |")
        with daemon(paths) as client:
            for name, (is_quick, make) in questions(run, rollouts).items():
                taken = measure(client, make, min(options.asks, ASKS))
                verdict = ("yes" if p95(taken) <= TARGET_MS else "no") if is_quick else "-"
                print(
                    f"| {name} | {statistics.median(taken):.1f} | {p95(taken):.1f} | {taken[-1]:.1f} | {verdict} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
