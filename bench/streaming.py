"""What watching costs: a run with everything on against the same trainer alone.

    python -m bench.streaming [--pairs 5] [--steps 24]

`recipes/countdown-zero.toml`, shortened, with one thread. *Watched*: a real daemon and its worker, every answer
and every token of it streamed, a console on the run in a pseudo-terminal that is read. *Alone*: the trainer in a
process of its own with a link that drops everything, and no previews. Both draw the same tokens, which is checked.

The two of a pair take turns: for a fifth of a second one runs and all processes of the other are stopped, so that
whatever else the machine does meets both alike. Seconds are those of its own turns between the end of the first step
and the end of the last; processor seconds are the trainer's process over the same time. Deliberately left out: loading,
evaluation, checkpoints; and `emit` alone, which is `bench.emit`.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure
from bench.startup import Home, read_for, resize
from daemon.processes import read_started
from ponder.client import Client
from ponder.events import StepDone
from ponder.paths import Paths
from ponder.recipe import find_recipe, parse_recipe, read_recipe_text
from ponder.wire import Events, GetEvents, GetStatus, Status

RECIPE = "countdown-zero"
ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 300.0
TURN_S = 0.2
TARGET_RATIO = 1.02
EVERY_ANSWER = 32 * 8
MAIN = ", its main thread"
SAME = ("length/mean", "reward/mean", "optim/grad_norm")


@dataclass
class Lap:
    """One run: its steps, and who used the processor meanwhile."""

    ends_s: list[float]
    """When each step was done, on the wall clock."""
    metrics: list[dict[str, float]]
    used: dict[str, list[tuple[float, float]]]
    """Of each process, (wall clock, processor seconds so far)."""
    turns: list[tuple[float, float]]
    """When it ran, and the other did not."""
    painted_bytes: int = 0

    @property
    def wall_s(self) -> float:
        """Seconds in its own turns."""
        start, end = self.ends_s[0], self.ends_s[-1]
        return sum(max(0.0, min(end, until) - max(start, since)) for since, until in self.turns)

    def cpu_s(self, who: str) -> float:
        """Processor seconds of a process between the ends of the first and the last step."""
        return _at(self.used[who], self.ends_s[-1]) - _at(self.used[who], self.ends_s[0])


def _at(series: Sequence[tuple[float, float]], when_s: float) -> float:
    """The value at a time, straight between the two that were seen around it."""
    before = max((point for point in series if point[0] <= when_s), default=series[0])
    after = min((point for point in series if point[0] > when_s), default=series[-1])
    if after[0] <= before[0]:
        return before[1]
    return before[1] + (after[1] - before[1]) * (when_s - before[0]) / (after[0] - before[0])


class Turns:
    """Lets two groups of processes run in turn, and notes how much of the processor each process has used."""

    def __init__(self) -> None:
        self.used: dict[str, list[tuple[float, float]]] = {}
        self.of: dict[str, list[tuple[float, float]]] = {}
        self._pids: dict[str, dict[str, int]] = {}

    def add(self, side: str, who: str, pid: int) -> None:
        """A process of a side."""
        self.used[who], self.used[who + MAIN] = [], []
        self.of.setdefault(side, [])
        self._pids.setdefault(side, {})[who] = pid

    def take(self, trainers: Collection[str]) -> None:
        """Until these processes have ended; then all that is left runs on."""
        deadline = time.monotonic() + PATIENCE_S
        try:
            while living := [side for side, pids in self._pids.items() if self._trains(pids, trainers)]:
                for side in living:
                    self._let_run(side)
                if time.monotonic() > deadline:
                    raise SystemExit(f"the runs were not over after {PATIENCE_S:.0f} s")
        finally:
            self._signal(signal.SIGCONT, self._pids)

    def _trains(self, pids: dict[str, int], trainers: Collection[str]) -> bool:
        return any(_cpu_s(pid) is not None for who, pid in pids.items() if who in trainers)

    def _let_run(self, side: str) -> None:
        others = [other for other in self._pids if other != side]
        self._signal(signal.SIGSTOP, others)
        begin = time.time()
        self._note()
        self._signal(signal.SIGCONT, [side])
        time.sleep(TURN_S)
        self._signal(signal.SIGSTOP, [side])
        self.of[side].append((begin, time.time()))
        self._note()

    def _signal(self, number: signal.Signals, sides: Collection[str]) -> None:
        for side in sides:
            for pid in self._pids[side].values():
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    def _note(self) -> None:
        for pids in self._pids.values():
            for who, pid in pids.items():
                for name, only_main in ((who, False), (who + MAIN, True)):
                    if (seconds := _cpu_s(pid, only_main=only_main)) is not None:
                        self.used[name].append((time.time(), seconds))


def _cpu_s(pid: int, *, only_main: bool = False) -> float | None:
    """Processor seconds of all threads of a process so far, or of the first alone; None when it has ended."""
    nanoseconds = 0
    tasks = Path(f"/proc/{pid}/task")
    try:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return None
        for task in [tasks / str(pid)] if only_main else tasks.iterdir():
            nanoseconds += int((task / "schedstat").read_text().split()[0])
    except OSError:
        return None
    return nanoseconds / 1e9


def overrides(steps: int, previews: int) -> dict[str, str]:
    """What makes the recipe short, and alike in both runs."""
    return {
        "stage.steps": str(steps), "compute.threads": "1", "evaluation.every_steps": "0",
        "evaluation.problems": "1", "evaluation.final_problems": "1", "saving.every_steps": "0",
        "stream.previews": str(previews),
    }  # fmt: skip


# ---- alone


def be_alone(steps: int) -> None:
    """Be the trainer, with a link that drops everything; a line of JSON on stdout for every step."""
    from daemon.worker import import_run, set_threads
    from ponder.events import TrainerEvent
    from ponder.paths import find_paths

    recipe = parse_recipe(read_recipe_text(find_recipe(RECIPE)), RECIPE, overrides(steps, 0))
    set_threads(recipe.compute.threads)
    run = import_run()
    from trainer.link import ListLink

    def note(event: TrainerEvent) -> None:
        if isinstance(event, StepDone):
            print(json.dumps([time.time(), event.metrics]), flush=True)

    with tempfile.TemporaryDirectory(prefix="pndr-") as folder:
        run(recipe, Path(folder), ListLink(note, keeps=False), models_folder=find_paths().models)


@dataclass
class Alone:
    """The trainer alone, and the file in which it tells of its steps: nobody reads meanwhile, so a pipe would fill."""

    pid: int
    told: Path

    def steps(self) -> list[tuple[float, dict[str, float]]]:
        """When each step was done, and its metrics."""
        return [json.loads(line) for line in self.told.read_text().splitlines()]


@contextmanager
def alone(steps: int) -> Iterator[Alone]:
    """The trainer alone, which has begun to load."""
    command = [sys.executable, "-m", "bench.streaming", "--alone", "--steps", str(steps)]
    with tempfile.TemporaryDirectory(prefix="pndr-") as folder:
        told = Path(folder) / "steps.jsonl"
        with told.open("w") as file, subprocess.Popen(command, stdout=file, cwd=ROOT) as trainer:
            try:
                yield Alone(trainer.pid, told)
            finally:
                trainer.kill()


# ---- watched


@dataclass
class Watched:
    """A run under a daemon, with a console on it."""

    paths: Paths
    run: str
    console: Painted

    @property
    def trainer_pid(self) -> int:
        deadline = time.monotonic() + PATIENCE_S
        while (papers := read_started(self.paths.run(self.run))) is None:
            if time.monotonic() > deadline:
                raise SystemExit("no trainer was started")
            time.sleep(0.02)
        return papers.pid

    @property
    def daemon_pid(self) -> int:
        with Client(self.paths) as client:
            return client.ask(GetStatus(), Status).pid

    def steps(self) -> list[tuple[float, dict[str, float]]]:
        """When each step was done, and its metrics, as the store tells."""
        found, after = [], 0
        with Client(self.paths) as client:
            while page := client.ask(GetEvents(after=after, run=self.run), Events).events:
                after = page[-1].id
                found += [(one.time_us / 1e6, one.event.metrics) for one in page if isinstance(one.event, StepDone)]
        return found


@contextmanager
def watched(steps: int) -> Iterator[Watched]:
    """The run under a daemon, whose trainer has begun to load, and the console on it."""
    with tempfile.TemporaryDirectory(prefix="pndr-") as folder:
        home = Home(Path(folder))
        words = [f"--set={key}={value}" for key, value in overrides(steps, EVERY_ANSWER).items()]
        run = home.ask("run", RECIPE, *words).strip()
        try:
            with console(home, run) as painted:
                yield Watched(home.paths, run, painted)
        finally:
            home.ask("stop", run, "--now")
            home.ask("down")


@dataclass
class Painted:
    """A console in a terminal that somebody reads."""

    pid: int
    terminal: int
    bytes: int = 0

    def read(self, is_over: threading.Event) -> None:
        while not is_over.is_set():
            try:
                self.bytes += len(read_for(self.terminal, 0.1))
            except OSError:
                return  # the console has ended


@contextmanager
def console(home: Home, run: str) -> Iterator[Painted]:
    """`ponder watch` on a run, in a terminal of 120 x 40."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, home.command("watch", run), home.environment)
    resize(terminal, 40, 120)
    painted, is_over = Painted(pid, terminal), threading.Event()
    reader = threading.Thread(target=painted.read, args=(is_over,), daemon=True)
    reader.start()
    try:
        yield painted
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        is_over.set()
        reader.join()
        os.close(terminal)


# ---- both


@dataclass
class Pair:
    alone: Lap
    watched: Lap

    @property
    def wall(self) -> float:
        return self.watched.wall_s / self.alone.wall_s

    @property
    def cpu(self) -> float:
        return self.of_thread("")

    def of_thread(self, thread: str) -> float:
        """Processor seconds, watched over alone."""
        return self.watched.cpu_s("watched trainer" + thread) / self.alone.cpu_s("trainer alone" + thread)


def run_pair(steps: int) -> Pair:
    """Both, in turns; SystemExit when they did not draw the same tokens."""
    turns = Turns()
    with watched(steps) as run, alone(steps) as trainer:
        turns.add("watched", "watched trainer", run.trainer_pid)
        turns.add("watched", "daemon", run.daemon_pid)
        turns.add("watched", "console", run.console.pid)
        turns.add("alone", "trainer alone", trainer.pid)
        turns.take(("watched trainer", "trainer alone"))
        told = trainer.steps(), run.steps()
    if [len(steps_told) for steps_told in told] != [steps, steps]:
        raise SystemExit(f"{steps} steps were asked for, and {[len(steps_told) for steps_told in told]} were made")
    one, other = (
        Lap([end_s for end_s, _ in steps_told], [metrics for _, metrics in steps_told], turns.used, turns.of[side])
        for steps_told, side in zip(told, ("alone", "watched"), strict=True)
    )
    for name in SAME:
        if [metrics[name] for metrics in one.metrics] != [metrics[name] for metrics in other.metrics]:
            raise SystemExit(f"the two runs differ in `{name}`")
    other.painted_bytes = run.console.bytes
    return Pair(one, other)


def _spread(values: Sequence[float], digits: int = 3) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} .. {max(values):.{digits}f})"


def report(pairs: Sequence[Pair], steps: int) -> str:
    """The figures as Markdown: median and spread."""
    answers = EVERY_ANSWER * (steps - 1)
    tokens = sum(metrics["length/mean"] * EVERY_ANSWER for metrics in pairs[0].alone.metrics[1:])
    rows = [
        ("seconds, watched / alone", _spread([pair.wall for pair in pairs], 4)),
        ("processor seconds of the trainer, watched / alone", _spread([pair.cpu for pair in pairs], 4)),
        ("the same of its main thread", _spread([pair.of_thread(MAIN) for pair in pairs], 4)),
        ("seconds alone", _spread([pair.alone.wall_s for pair in pairs], 2)),
        ("seconds watched", _spread([pair.watched.wall_s for pair in pairs], 2)),
        ("processor seconds of the trainer alone", _spread([pair.alone.cpu_s("trainer alone") for pair in pairs], 2)),
        (
            "processor seconds of the watched trainer",
            _spread([pair.watched.cpu_s("watched trainer") for pair in pairs], 2),
        ),
    ]
    for who in ("daemon", "console"):
        shares = [100 * pair.watched.cpu_s(who) / pair.watched.wall_s for pair in pairs]
        rows.append((f"the {who}, % of a core", _spread(shares, 1)))
    rows.append(("bytes that the console painted", _spread([pair.watched.painted_bytes for pair in pairs], 0)))
    lines = [f"{len(pairs)} pairs of {steps} steps; between first and last {answers} answers, {tokens:.0f} tokens", ""]
    lines += ["| what | median (spread) |", "| --- | --- |"]
    return "\n".join(lines + [f"| {name} | {value} |" for name, value in rows])


def figures(pairs: Sequence[Pair]) -> list[Figure]:
    walls, cpus = [pair.wall for pair in pairs], [pair.cpu for pair in pairs]
    return [
        Figure(
            "streaming everything: seconds of a watched run over those of the trainer alone",
            statistics.median(walls), "x", TARGET_RATIO, at_least=False,
            note=f"{len(pairs)} pairs, {min(walls):.3f} .. {max(walls):.3f}; processor seconds {_spread(cpus)}",
        )
    ]  # fmt: skip


def quick() -> list[Figure]:
    """The short form, for `make bench`."""
    return figures([run_pair(16) for _ in range(2)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        be_alone(options.steps)
    else:
        print(report([run_pair(options.steps) for _ in range(options.pairs)], options.steps))


if __name__ == "__main__":
    main()
