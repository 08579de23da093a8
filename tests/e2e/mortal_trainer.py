"""The turned trainer, mortal: it ends by SIGKILL where it passes a given place for the n-th time.

    python -P -m tests.e2e.mortal_trainer RUN ATTEMPT 0      lives, and counts its passes
    live(...)                                                in a process of its own: dies at its place

A place is the beginning or the end of a function of the trainer, wrapped from outside, so the same death comes at the
same point of the same computation. Deliberately left out: which deaths are tried.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple  # Any: a module or a class, and whatever its functions take and give

import torch

import trainer.evaluate
import trainer.stages
from daemon.journal_link import JournalLink
from daemon.worker import main
from ponder.paths import Paths, find_paths
from tests.e2e.turned_trainer import train
from trainer import checkpoint, loop, sampler
from trainer.ranking_lesson import RankingLesson
from trainer.reference import Reference
from trainer.rewards.judge import Judge
from trainer.row_file import RowFile


class Place(NamedTuple):
    """Where a function begins, where it has ended, or where half of its file is written."""

    owner: Any
    name: str
    is_end: bool = False
    is_half: bool = False
    """Whether of the file that the function wrote last only the first half is on disk."""


PLACES = {
    "sampling a token": Place(sampler._Batch, "step"),
    "scoring an answer": Place(Judge, "_parts_here"),
    "compared": Place(loop, "give_credit", is_end=True),
    "told an event": Place(JournalLink, "emit", is_end=True),
    "backward": Place(torch.autograd, "backward", is_end=True),
    "before an optimizer's step": Place(torch.optim.AdamW, "step"),
    "after an optimizer's step": Place(torch.optim.AdamW, "step", is_end=True),
    "refreshed the reference": Place(Reference, "refresh", is_end=True),
    "evaluating": Place(trainer.evaluate, "read_answers"),
    "writing a file of a checkpoint": Place(checkpoint, "save_file"),
    "inside a file of a checkpoint": Place(checkpoint, "save_file", is_half=True),
    "before a checkpoint's rename": Place(Path, "rename"),
    "after a checkpoint's rename": Place(Path, "rename", is_end=True),
    "wrote rankings": Place(RowFile, "append", is_end=True),
    "learning from rankings": Place(RankingLesson, "learn"),
    "measuring rankings": Place(RankingLesson, "measure"),
}


PASSES = "passes.json"


class Death(NamedTuple):
    """The end, at the so many-th pass of a place in one attempt."""

    place: str
    passes: int


def watch(place: Place, passed: Callable[[], None]) -> None:
    """Have `passed` called wherever the place is passed, in this process, from now on."""
    whole = getattr(place.owner, place.name)

    @wraps(whole)
    def watched(*arguments: Any, **options: Any) -> Any:
        if place.is_half:
            whole(*arguments, **options)
            content = arguments[1].read_bytes()
            arguments[1].write_bytes(content[: len(content) // 2])
            passed()
            arguments[1].write_bytes(content)
            return None
        if not place.is_end:
            passed()
        given = whole(*arguments, **options)
        if place.is_end:
            passed()
        return given

    setattr(place.owner, place.name, watched)


def live(paths: Paths, run: str, attempt: int, death: Death | None) -> None:
    """Be the attempt's trainer process, with its log as the daemon would give it; never returns."""
    assert sum(1 for _ in Path(f"/proc/{os.getppid()}/task").iterdir()) == 1, "a thread would not survive the fork"
    log = os.open(paths.run_log(run), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ |= {"PONDER_HOME": str(paths.home), "PONDER_RUNTIME_DIR": str(paths.runtime)}
    passes = 0

    def passed() -> None:
        nonlocal passes
        passes += 1
        if death and passes == death.passes:
            os.kill(os.getpid(), signal.SIGKILL)

    if death:
        watch(PLACES[death.place], passed)
    sys.exit(main([run, str(attempt), "0"], train))


def live_and_count(arguments: list[str]) -> int:
    """Be a trainer that lives; its passes of every place go into a file of its run's folder."""
    passes: Counter[str] = Counter()
    for name, place in PLACES.items():

        def passed(name: str = name) -> None:
            passes[name] += 1

        watch(place, passed)
    code = main(arguments, train)
    (find_paths().run(arguments[0]) / PASSES).write_text(json.dumps(passes))
    return code


if __name__ == "__main__":
    sys.exit(live_and_count(sys.argv[1:]))
