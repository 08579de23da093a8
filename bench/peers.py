"""A whole GRPO step: ponder against TRL's `GRPOTrainer` with transformers' `generate`.

    python -m bench.peers [tiny] [smollm2] [--pairs 5] [--warmup 2] [--threads 1] [--find-rows] [--set KNOB=VALUE ...]

Both sides learn the same work (`bench.peer_work`) in a process each, with the same number of threads, and take turns,
a step at a time. A step is all from one update to the next: prompts, sampling, rewards, loss, gradient, AdamW. TRL is
no dependency of ponder: `make bench` installs it into an environment of its own, `.venv-peers`; `--python` names
another. SmolLM2 comes by `ponder models get smollm2`.

Seconds of a step are the clock's; those of its parts, and of the second row, are processor seconds, which other work on
the machine stretches less. The peak is the best of five products of 2048-square matrices in ponder's process before it
starts; learning is told as a share of it by the operations that it needs (`bench.peer_work.Costs`).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure
from bench.peer_turns import Side, Turn, alone
from bench.peer_work import WORKS, Work, prepare
from bench.sampling import TARGETS as SAMPLING_TARGETS
from bench.spread import describe_lengths, middle, ratios

PEERS_PYTHON = Path(".venv-peers/bin/python")
CPU = "processor"
ROWS = {
    "": "**whole step**",
    CPU: "the same, processor seconds",
    "sample": "sample",
    "score": "score",
    "learn": "learn",
}
TARGETS = {"tiny": 3.0, "smollm2": 2.0}
"""How many times as fast as TRL a whole step is to be."""


@dataclass
class Match:
    """What came of one work: the timed steps, and all of them for the curve."""

    work: Work
    ours: list[Turn]
    theirs: list[Turn]
    warmup: int
    peak: float

    @property
    def pairs(self) -> tuple[list[Turn], list[Turn]]:
        return self.ours[self.warmup :], self.theirs[self.warmup :]

    def ratios(self, phase: str = "") -> list[float]:
        """How many times as long TRL took, pair by pair; of the whole step, or of one phase."""
        ours, theirs = self.pairs
        return ratios([seconds(turn, phase) for turn in ours], [seconds(turn, phase) for turn in theirs])


def seconds(turn: Turn, phase: str) -> float:
    return {"": turn.seconds, CPU: turn.cpu_s, **turn.phases}[phase]


def our_command(work: Work, folder: Path, steps: int, overrides: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "bench.peer_ponder", work.name, str(folder), str(steps), *overrides]


def their_command(python: Path, work: Work, folder: Path, steps: int, rows: int) -> list[str]:
    return [str(python), "-m", "bench.peer_trl", work.name, str(folder), str(steps), str(rows)]


def in_folder(work: Work, steps: int) -> tempfile.TemporaryDirectory[str]:
    """A folder with all that both sides read."""
    folder = tempfile.TemporaryDirectory(prefix="peers-")
    prepare(work, steps, Path(folder.name))
    return folder


def play(
    work: Work, python: Path, *, pairs: int, warmup: int, rows: int = 0, overrides: Sequence[str] = (),
    lock: Path | None = None, threads: int = 1,
) -> Match:  # fmt: skip
    """Both sides in turns."""
    steps = warmup + pairs
    with in_folder(work, steps) as name:
        folder = Path(name)
        first = our_command(work, folder, steps, overrides)
        second = their_command(python, work, folder, steps, rows or work.trl_rows)
        with (
            Side(first, folder / "ponder.log", threads=threads) as ours,
            Side(second, folder / "trl.log", threads=threads) as theirs,
        ):
            match = Match(work, [], [], warmup, ours.ready.facts["peak"])
            for _ in range(steps):
                with alone(lock):
                    match.ours.append(ours.step())
                    match.theirs.append(theirs.step())
    for own, other in zip(match.ours, match.theirs, strict=True):
        if sorted(own.prompts) != sorted(other.prompts):
            raise SystemExit("the two sides were asked different prompts")
    return match


def find_rows(work: Work, python: Path, *, lock: Path | None = None, threads: int = 1) -> int:
    """The rows at once with which TRL is quickest: a warming step and two timed ones for each number."""
    found: dict[int, float] = {}
    with in_folder(work, 3) as name:
        folder = Path(name)
        for rows in work.trl_tries:
            command = their_command(python, work, folder, 3, rows)
            with Side(command, folder / "trl.log", threads=threads) as theirs, alone(lock):
                turns = [theirs.step() for _ in range(3)][1:]
            found[rows] = statistics.median(turn.seconds for turn in turns)
            learn_s = statistics.median(turn.phases["learn"] for turn in turns)
            print(f"TRL, {rows:3} rows at once: {found[rows]:.2f} s a step, learning {learn_s:.2f} s", flush=True)
    return min(found, key=lambda rows: found[rows])


def report(match: Match) -> None:
    """The match in Markdown."""
    work = match.work
    print(f"\n{work.name}: {work.prompts} prompts x {work.group} answers of at most {work.max_new_tokens} tokens, "
          f"{len(match.pairs[0])} pairs\n")  # fmt: skip
    print("| what | ponder | TRL | times |\n| --- | --- | --- | --- |")
    for phase, words in ROWS.items():
        sides = [middle([seconds(turn, phase) for turn in turns], " s") for turns in match.pairs]
        print(f"| {words} | {' | '.join(sides)} "
              f"| {middle(match.ratios(phase), 'x')} |")  # fmt: skip
    own, other = ([turn.tokens for turn in turns] for turns in match.pairs)
    print(f"| answer tokens | {middle(own, digits=0)} | {middle(other, digits=0)} |  |")
    speed, other_speed = ([turn.tokens_per_cpu_s for turn in turns] for turns in match.pairs)
    print(f"| answer tokens a processor second | {middle(speed, digits=0)} | {middle(other_speed, digits=0)} "
          f"| {middle(ratios(other_speed, speed), 'x')} |")  # fmt: skip
    lengths = [[length for turn in turns for length in turn.lengths] for turns in match.pairs]
    print("| lengths | " + " | ".join(describe_lengths(side, work.max_new_tokens) for side in lengths) + " |  |")
    print("| reward by step | " + " | ".join(curve(turns) for turns in (match.ours, match.theirs)) + " |  |")
    shares = [turn.facts["flops"] / turn.phases["learn"] / match.peak for turn in match.pairs[0]]
    theirs = [
        own.facts["flops"] / own.tokens * other.tokens / other.phases["learn"] / match.peak
        for own, other in zip(*match.pairs, strict=True)
    ]
    print(f"| learning, share of {match.peak / 1e9:.0f} GFLOP/s | {middle(shares)} | about {middle(theirs)} |  |")


def curve(turns: Sequence[Turn]) -> str:
    """The mean reward of each step, first to last."""
    return " ".join(f"{statistics.fmean(turn.rewards):.2f}" for turn in turns)


def quick() -> list[Figure]:
    """A few pairs of the small work, with one thread and with two, and one of the large."""
    if not PEERS_PYTHON.exists():
        raise SystemExit("TRL is not installed: `make .venv-peers/.installed` does that")
    figures = []
    for name, threads, warmup, pairs in (("tiny", 1, 1, 3), ("tiny", 2, 1, 2), ("smollm2", 1, 0, 1)):
        work = WORKS[name]
        match = play(work, PEERS_PYTHON, pairs=pairs, warmup=warmup, threads=threads)
        report(match)
        lengths = [statistics.fmean(n for turn in turns for n in turn.lengths) for turns in match.pairs]
        title = f"a whole GRPO step, {name}, {threads} thread{'s' * (threads > 1)}: times TRL's speed"
        note = f"{pairs} pairs; mean lengths {lengths[0]:.0f} and {lengths[1]:.0f}"
        figures.append(Figure(title, statistics.median(match.ratios()), "x", TARGETS[name], at_least=True, note=note))
        if name == "smollm2":
            figures.append(
                Figure("sampling within that step: times TRL's speed", statistics.median(match.ratios("sample")), "x",
                       SAMPLING_TARGETS[name], at_least=True, note="processor seconds, `generate` beneath TRL")
            )  # fmt: skip
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("works", nargs="*", default=list(WORKS), metavar="WORK")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--python", type=Path, default=PEERS_PYTHON, help="one that has TRL")
    parser.add_argument("--threads", type=int, default=1, help="that each side computes with")
    parser.add_argument("--rows", type=int, default=0, help="rows that TRL forwards at once while learning")
    parser.add_argument("--find-rows", action="store_true", help="try several first, and take what is quickest")
    parser.add_argument("--lock", type=Path, help="hold this file while a pair is timed: others measure here too")
    parser.add_argument("--set", action="append", default=[], metavar="KNOB=VALUE", help="for ponder's side")
    options = parser.parse_args()
    for name in options.works:
        work, rows = WORKS[name], options.rows
        if options.find_rows:
            rows = find_rows(work, options.python, lock=options.lock, threads=options.threads)
        report(
            play(
                work, options.python, pairs=options.pairs, warmup=options.warmup, rows=rows, overrides=options.set,
                lock=options.lock, threads=options.threads,
            )
        )  # fmt: skip


if __name__ == "__main__":
    main()
