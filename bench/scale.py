"""What a run of a paper's size asks of the daemon: `python -m bench.scale [--steps 10400] [--tokens 8000]`.

Measures what one answer costs here, at two lengths, through the real journal, writer, index, cold files and reader, and
draws the line through both: so much an answer, so much a token. From that it reckons bytes, rows, segments, bandwidth
and processor time of the whole run, and says which limit it meets first. Times are processor seconds, which a busy
machine does not stretch as it does the clock. Deliberately left out: learning; the texts are English prose, the figures
of the tokens random, which no compressor can help.
"""

from __future__ import annotations

import argparse
import random
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from ponder.events import Finish, GroupScored, Record, Rollout, decode_record, encode_record
from ponder.journal import JournalWriter, read_records
from ponder.store_file import StoreFile
from ponder.wire import MAX_BATCH_BYTES, MAX_REPLY_BYTES
from store import cold
from store.reader import Reader
from store.writer import Writer
from tests.store.records import recipe_text, started

PROSE = Path(__file__).resolve().parent.parent / "docs"
GROUP = 16
LENGTHS = (1024, 4096)
"""Tokens of the two kinds of answers that are measured."""
VOCABULARY = 129_280
"""DeepSeek-V3's; an id takes three bytes."""
CHARACTERS = 4.0
"""Of English a token, about."""
PAGE = 50
HOURS = 198.0
"""What R1-Zero took, on 512 H800 (arXiv:2501.12948, supplementary)."""


@dataclass(frozen=True)
class Costs:
    """What one answer costs."""

    journal_bytes: float
    """Appended by the trainer, and kept."""
    store_bytes: float
    """In the store's file, indexed."""
    index_bytes: float
    """Of those, the text index."""
    cold_bytes: float
    """In a segment, packed."""
    left_bytes: float
    """In the store's file when the rest has moved."""
    journal_s: float
    commit_s: float
    index_s: float
    cool_s: float
    rebuild_s: float
    """To read it from the journal; committing comes on top."""
    hot_read_s: float
    cold_read_s: float

    @staticmethod
    def line(low: Costs, high: Costs, tokens: float) -> Costs:
        """The costs at another length, on the line through two."""
        share = (tokens - LENGTHS[0]) / (LENGTHS[1] - LENGTHS[0])
        names = [each.name for each in fields(Costs)]
        ends = [(getattr(low, name), getattr(high, name)) for name in names]
        return Costs(*(max(0.0, first + share * (last - first)) for first, last in ends))


def make_groups(answers: int, tokens: int) -> list[GroupScored]:
    """Groups of answers as a trainer tells them, prose of about so many tokens each."""
    rng = random.Random(tokens)
    lines = [line for path in sorted(PROSE.glob("*.md")) for line in path.read_text(encoding="utf-8").splitlines()]
    length = int(tokens * CHARACTERS)

    def text() -> str:
        said = ""
        while len(said) < length:
            said += rng.choice(lines) + "\n"
        return said[:length]

    def floats(low: float, high: float) -> bytes:
        return struct.pack(f"<{tokens}e", *(rng.uniform(low, high) for _ in range(tokens)))

    def answer(index: int) -> Rollout:
        ids = struct.pack(f"<{tokens}I", *(int(VOCABULARY * rng.random() ** 3) for _ in range(tokens)))
        return Rollout(
            index, text(), tokens, Finish.END, rng.random(), parts={"accuracy": 1.0, "format": 0.0}, is_correct=True,
            answer="42", token_ids=ids, logps=floats(-4, 0), entropies=floats(0, 3), widths=bytes([4]) * tokens,
        )  # fmt: skip

    return [
        GroupScored(1, group, 1, f"p{group}", f"problem {group}", "42", [answer(index) for index in range(GROUP)])
        for group in range(answers // GROUP)
    ]


def processor_s(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


def measure(tokens: int, answers: int) -> Costs:
    """The costs of an answer of so many tokens."""
    groups = make_groups(answers, tokens)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records = [Record(place + 2, 1, 1, group) for place, group in enumerate(groups)]
        journal = JournalWriter(folder / "journal.pj")

        def append() -> None:
            for record in records:
                journal.append(encode_record(record))

        journal_s = processor_s(append)
        journal.sync()
        rebuild_s = processor_s(lambda: [decode_record(data) for data, _ in read_records(folder / "journal.pj")])
        writer = Writer(folder / "ponder.db")
        run = writer.submit_run("submit", recipe_text(), "", "")
        writer.commit_records(run, [Record(1, 1, 1, started(0, 9))])
        empty = writer.hot_bytes()
        commit_s = processor_s(lambda: [writer.commit_records(run, [record]) for record in records])
        unindexed = writer.hot_bytes()
        index_s = processor_s(lambda: list(iter(lambda: writer.index_texts(1 << 17), 0)))
        indexed = writer.hot_bytes()
        hot_read_s = _read_page(folder / "ponder.db", run)
        newest, cold.NEWEST_HOT = cold.NEWEST_HOT, 0
        try:
            cool_s = processor_s(lambda: list(iter(writer.cool_some, 0)))
        finally:
            cold.NEWEST_HOT = newest
        left = writer.hot_bytes()
        cold_read_s = _read_page(folder / "ponder.db", run)
        segments = sum(path.stat().st_size for path in cold.folder_of(writer._connection).iterdir())
        writer.close()
        figures = (
            (folder / "journal.pj").stat().st_size, indexed - empty, indexed - unindexed, segments, left - empty,
            journal_s, commit_s, index_s, cool_s, rebuild_s,
        )  # fmt: skip
    return Costs(*[figure / answers for figure in figures] + [hot_read_s / PAGE, cold_read_s / PAGE])


def _read_page(store: Path, run: str) -> float:
    reader = Reader(store)
    try:
        return processor_s(lambda: reader.samples(run, limit=PAGE))
    finally:
        reader.close()


@dataclass(frozen=True)
class Run:
    """A run's size."""

    steps: int
    answers: int
    """Of a step."""
    tokens: float
    hours: float

    @property
    def all_answers(self) -> int:
        return self.steps * self.answers

    @property
    def step_s(self) -> float:
        return self.hours * 3600 / self.steps


def table(run: Run, each: Costs) -> Iterator[tuple[str, str, str]]:
    """(what, an answer, the whole run)."""
    count = run.all_answers

    def size(name: str, bytes_each: float) -> tuple[str, str, str]:
        return name, f"{bytes_each / 1e3:.1f} kB", f"{bytes_each * count / 1e9:,.0f} GB"

    def work(name: str, seconds: float) -> tuple[str, str, str]:
        share = seconds * run.answers / run.step_s
        return name, f"{1e3 * seconds:.2f} ms", f"{seconds * count / 3600:,.1f} h, {share:.1%} of a core"

    yield "rows: answers", "1", f"{count:,}"
    yield size("journal, kept for ever", each.journal_bytes)
    yield size("store, all hot", each.store_bytes)
    yield size("  of that the text index", each.index_bytes)
    yield size("store, all cold", each.left_bytes)
    yield size("cold files", each.cold_bytes)
    yield "  segments", "", f"{each.cold_bytes * count / cold.SEGMENT_BYTES:,.0f}"
    frames = max(1.0, cold.FRAME_BYTES / (run.tokens * 12))
    yield "  frames", "", f"{count / frames:,.0f}"
    rate = each.journal_bytes * run.answers / run.step_s
    yield "trainer to daemon", "", f"{rate / 1e6:.2f} MB/s, {each.journal_bytes * run.answers / 1e6:,.0f} MB a step"
    yield work("journal", each.journal_s)
    yield work("commit", each.commit_s)
    yield work("index", each.index_s)
    yield work("cooling", each.cool_s)
    yield (
        "rebuild",
        f"{1e3 * (each.rebuild_s + each.commit_s):.2f} ms",
        (f"{(each.rebuild_s + each.commit_s) * count / 3600:,.1f} h"),
    )
    yield "a search that looks at every answer, hot", "", f"{each.hot_read_s * count / 60:,.0f} min"
    yield "a search that looks at every answer, cold", "", f"{each.cold_read_s * count / 60:,.0f} min"
    yield f"a page of {PAGE}, hot", f"{1e3 * each.hot_read_s:.2f} ms", f"{1e3 * PAGE * each.hot_read_s:.0f} ms"
    yield f"a page of {PAGE}, cold", f"{1e3 * each.cold_read_s:.2f} ms", f"{1e3 * PAGE * each.cold_read_s:.0f} ms"


def limits(run: Run, each: Costs) -> list[tuple[float, str]]:
    """(how much of a limit the run uses up, which), the fullest first; above 1 it does not fit."""
    daemon_s = (each.commit_s + each.index_s + each.cool_s) * run.answers
    disk = 1e12
    found = [
        (each.journal_bytes * run.all_answers / disk, "the journal on a disk of 1 TB"),
        (each.store_bytes * run.all_answers / disk, "a store without cold files on a disk of 1 TB"),
        ((each.left_bytes + each.cold_bytes) * run.all_answers / disk, "the store with cold files on a disk of 1 TB"),
        (
            (each.journal_bytes + each.left_bytes + each.cold_bytes) * run.all_answers / disk,
            "journal, store and cold files together on a disk of 1 TB",
        ),
        (each.left_bytes * run.all_answers / StoreFile().hot_bytes, "rows and index within `hot_gb`"),
        (daemon_s / run.step_s, "the daemon's one thread"),
        (each.journal_bytes * GROUP / MAX_BATCH_BYTES, "a group in one message"),
        (PAGE * run.tokens * CHARACTERS / MAX_REPLY_BYTES, f"a page of {PAGE} answers in one reply"),
    ]
    return sorted(found, reverse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=10_400)
    parser.add_argument("--answers", type=int, default=512, help="of a step")
    parser.add_argument("--tokens", type=float, default=8000.0, help="of an answer, on average")
    parser.add_argument("--hours", type=float, default=HOURS)
    parser.add_argument("--sample", type=int, default=256, help="answers that are measured, of the shorter kind")
    given = parser.parse_args()
    run = Run(given.steps, given.answers, given.tokens, given.hours)
    low, high = measure(LENGTHS[0], given.sample), measure(LENGTHS[1], max(GROUP, given.sample // 4))
    each = Costs.line(low, high, given.tokens)
    print(f"{run.steps:,} steps x {run.answers} answers x {run.tokens:,.0f} tokens in {run.hours:g} h\n")
    print("| what | an answer | the run |\n| --- | ---: | ---: |")
    for row in table(run, each):
        print(f"| {' | '.join(row)} |")
    print("\n| limit | used |\n| --- | ---: |")
    for share, name in limits(run, each):
        print(f"| {name} | {share:.1%} |")


if __name__ == "__main__":
    main()
