"""The worker process of `bench.emit`: a trainer that only emits, and times each call.

    python -P -m bench.emitter RUN ATTEMPT AFTER_SEQ [HELD_BY]      under a daemon, like `daemon.worker`
    python -P -m bench.emitter --null MICROSECONDS EMITS            nothing but waiting as long: what the machine adds

Torch and transformers are loaded and a batch of work stands between one step's emits and the next, since a trainer's
heap and its threads are what an `emit` meets. Deliberately left out: learning, and what the figures mean.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from daemon.journal_link import JournalLink
from daemon.worker import main, set_threads
from ponder.events import Finish, GroupScored, Mark, Outcome, Preview, PreviewAnswer, Rollout, RunStarted, StepDone
from ponder.paths import Paths
from ponder.recipe import Recipe

GROUPS, GROUP_SIZE = 32, 8
TOKENS = (50, 500)
WORK_S = 0.1
WORDS = ("wait", "let", "me", "try", "3", "*", "7", "=", "21", "no", "that", "is", "too", "many", "so")


def make_answers(count: int) -> list[tuple[str, bytes, bytes]]:
    """(text, token ids, float16 figures) of answers between 50 and 500 tokens."""
    chance = random.Random(1)
    answers = []
    for _ in range(count):
        length = chance.randint(*TOKENS)
        text = " ".join(chance.choice(WORDS) for _ in range(length))
        ids = struct.pack(f"<{length}I", *(chance.randrange(50_000) for _ in range(length)))
        answers.append((text, ids, struct.pack(f"<{length}e", *(chance.random() for _ in range(length)))))
    return answers


def make_events() -> Iterator[GroupScored | StepDone]:
    """Steps one after another: their groups, each built anew as the trainer does, and what ends them."""
    pool = itertools.cycle(make_answers(509))
    for step in itertools.count(1):
        for group in range(GROUPS):
            rollouts = [
                Rollout(
                    index, text, len(ids) // 4, Finish.END, 1.0, 0.5, {"correct": 1.0, "format": 0.5}, True, "5 + 2", 3,
                    [Mark(0, 4, "wait", Outcome.RESCUED, "21", "7", 3, 1.5)], "", ids, halves, halves,
                )
                for index, (text, ids, halves) in zip(range(GROUP_SIZE), pool, strict=False)
            ]  # fmt: skip
            yield GroupScored(step, group, step - 1, f"p{step}.{group}", "make 7 of 5 and 2", "5 + 2", rollouts)
        yield StepDone(step, step, {f"figure/{number}": number / 7 for number in range(90)})


def time_emits(
    emit: Callable[[GroupScored | StepDone], object], between: Callable[[int], None], emits: int
) -> list[tuple[float, float]]:
    """Microseconds of each call, and those of them in which this thread was ready to run and the machine was busy.

    `between` is the trainer's other work, between two steps.
    """
    taken = []
    with Path("/proc/thread-self/schedstat").open("rb", buffering=0) as schedule:

        def waited_ns() -> int:
            return int(os.pread(schedule.fileno(), 64, 0).split()[1])

        for event in itertools.islice(make_events(), emits):
            if isinstance(event, GroupScored) and event.group == 0:
                between(event.step)
            begin = time.perf_counter_ns()
            waited = waited_ns()
            emit(event)
            waited = waited_ns() - waited
            end = time.perf_counter_ns()
            taken.append(((end - begin) / 1000, waited / 1000))
    return taken


def make_work() -> Callable[[], None]:
    """A stretch of what a trainer does between two steps: products of matrices, which let other threads run."""
    import torch

    import trainer.loop  # noqa: F401  # all that a trainer has in memory

    torch.set_num_threads(1)
    weights_DD = torch.randn(256, 256)

    def work() -> None:
        until = time.monotonic() + WORK_S
        while time.monotonic() < until:
            torch.mm(weights_DD, weights_DD)

    return work


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def emit_many(recipe: Recipe, link: JournalLink, _: Paths) -> None:
    """First at a trainer's pace, then in a burst; the figures go into a file of the run's folder."""
    options = recipe.task.options
    work = make_work()
    link.emit(RunStarted(0, 1_000_000, "rl", "none", 1, "cpu", 1))
    folder = link.path.parent
    (folder / "ready").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)

    def between(step: int) -> None:
        link.preview(Preview(step, [PreviewAnswer(0, row, 0, "a text that is being written") for row in range(64)]))
        work()

    resident = [resident_mb()]
    paced = time_emits(link.emit, between, int(options["emits"]))
    resident.append(resident_mb())
    burst = time_emits(link.emit, lambda _: None, int(options["burst"]))
    resident.append(resident_mb())
    report = folder / "emits.part"
    report.write_text(json.dumps({"paced": paced, "burst": burst, "resident_mb": resident}))
    report.rename(folder / "emits.json")


def wait_only(microseconds: float, emits: int) -> None:
    """The same loop with a wait in place of each call; its microseconds as JSON on stdout."""
    set_threads(1)
    work = make_work()

    def spin(_: object) -> None:
        until = time.perf_counter_ns() + 1000 * microseconds
        while time.perf_counter_ns() < until:
            pass

    print(json.dumps(time_emits(spin, lambda _: work(), emits)))


if __name__ == "__main__":
    if sys.argv[1] == "--null":
        wait_only(float(sys.argv[2]), int(sys.argv[3]))
    else:
        sys.exit(main(sys.argv[1:], emit_many))
