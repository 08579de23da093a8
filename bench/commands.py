"""How quickly a command answers, as a whole process: `ponder status`, `pause`, `set`.

    python -m bench.commands [--times 20]

*Idle*: a real daemon whose trainer only sleeps through its steps of 10 ms, so that waiting for a boundary costs next to
nothing and the figure is the command's own. *Busy*: the same with the real Countdown trainer learning on one thread;
`pause` and `set` then wait for a step to end, and `--no-wait` returns when the command is on disk. Before each command
a Python that does nothing is timed: machines differ and are noisy. Deliberately left out: a cold disk cache, and the
console (`bench.startup` has its first screen).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.figures import Figure
from bench.startup import Home
from tests.daemon.conftest import recipe_text

TARGET_S = 0.3
PATIENCE_S = 60.0
BARE = "`python -c pass`"
ASKED: dict[str, tuple[str, ...]] = {
    "`ponder status`": ("status",),
    "`ponder set`": ("set",),
    "`ponder pause`": ("pause",),
}
AT_ONCE: dict[str, tuple[str, ...]] = {
    "`ponder set --no-wait`": ("set", "--no-wait"),
    "`ponder pause --no-wait`": ("pause", "--no-wait"),
}


@dataclass
class Times:
    """What each command took, by its name, in the order of the rounds."""

    wall_s: dict[str, list[float]] = field(default_factory=dict)
    cpu_s: dict[str, list[float]] = field(default_factory=dict)

    def take(self, name: str, home: Home, command: Sequence[str]) -> None:
        """Run it once; SystemExit when it fails."""
        begin = time.perf_counter()
        process = subprocess.Popen(
            command, env=home.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        _, status, used = os.wait4(process.pid, 0)
        took = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.stderr is not None
        with process.stderr as complaint:
            if process.returncode:
                raise SystemExit(f"`{' '.join(command[4:])}` failed: {complaint.read().decode()}")
        self.wall_s.setdefault(name, []).append(took)
        self.cpu_s.setdefault(name, []).append(used.ru_utime + used.ru_stime)


@contextmanager
def idle() -> Iterator[Home]:
    """A daemon whose trainer sleeps."""
    with tempfile.TemporaryDirectory(prefix="pndr-") as folder:
        home = Home(Path(folder))
        daemon = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.peers.fake_daemon"], env=home.environment, cwd="/",
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            recipe = Path(folder) / "sleeper.toml"
            recipe.write_text(recipe_text(steps=1_000_000, save_every=0))
            deadline = time.monotonic() + PATIENCE_S
            while not home.ask("status") and time.monotonic() < deadline:
                time.sleep(0.05)
            _submit(home, recipe.read_text())
            _wait_until_it_runs(home)
            yield home
        finally:
            home.ask("stop", "--now")
            daemon.terminate()
            daemon.wait()


@contextmanager
def busy() -> Iterator[Home]:
    """A daemon whose trainer learns on one thread."""
    with tempfile.TemporaryDirectory(prefix="pndr-") as folder:
        home = Home(Path(folder))
        try:
            words = (
                "stage.steps=100000",
                "compute.threads=1",
                "evaluation.every_steps=0",
                "evaluation.final_problems=1",
            )
            home.ask("run", "countdown-zero", *(f"--set={word}" for word in words))
            _wait_until_it_runs(home)
            yield home
        finally:
            home.ask("stop", "--now")
            home.ask("down")


def _submit(home: Home, recipe: str) -> None:
    """Past the check of the command line, which knows real tasks only."""
    from ponder.client import Client
    from ponder.wire import SubmitRun

    with Client(home.paths) as client:
        client.command(SubmitRun(recipe, by="bench"))


def _wait_until_it_runs(home: Home) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while '"step": 0' in (shown := home.ask("ls", "--json")) or '"runs": []' in shown:
        if time.monotonic() > deadline:
            raise SystemExit("the run made no step")
        time.sleep(0.2)


def measure(home: Home, asked: dict[str, tuple[str, ...]], times: int) -> Times:
    """So many rounds of each command, with the interpreter's own start before each."""
    taken = Times()
    for number in range(times):
        for name, (verb, *options) in asked.items():
            taken.take(BARE, home, [sys.executable, "-c", "pass"])
            words = (f"optim.lr={1 + number % 2}e-4",) if verb == "set" else ()
            taken.take(name, home, home.command(verb, *words, *options))
            if verb == "pause":
                home.ask("resume")
    return taken


def describe(name: str, taken: Times, of: str) -> str:
    walls, bare = taken.wall_s[of], statistics.median(taken.wall_s[BARE])
    cpus, bare_cpu = taken.cpu_s[of], statistics.median(taken.cpu_s[BARE])
    middle, cpu = statistics.median(walls), statistics.median(cpus)
    return (
        f"| {name} | {middle:.3f} s | {min(walls):.3f} .. {max(walls):.3f} s | {middle / bare:.1f}x | {cpu:.3f} s | "
        f"{cpu / bare_cpu:.1f}x |"
    )


def report(times: int) -> str:
    lines = [
        f"{times} of each; processor seconds are the command's own",
        "",
        "| command | median | spread | bare interpreters | processor | bare interpreters |",
        "| --- " * 6 + "|",
    ]
    with idle() as home:
        taken = measure(home, ASKED | AT_ONCE, times)
        lines += [describe(f"{name}, idle" if name != BARE else name, taken, name) for name in taken.wall_s]
    with busy() as home:
        taken = measure(home, ASKED | AT_ONCE, times)
        lines += [describe(f"{name}, trainer busy", taken, name) for name in taken.wall_s]
    return "\n".join(lines)


def quick() -> list[Figure]:
    """The short form, for `make bench`."""
    with idle() as home:
        taken = measure(home, ASKED, 7)
    bare = statistics.median(taken.wall_s[BARE])
    return [
        Figure(
            f"{name} as a whole process, idle", statistics.median(taken.wall_s[name]), "s", TARGET_S, at_least=False,
            note=f"{statistics.median(taken.wall_s[name]) / bare:.1f} bare interpreters",
        )
        for name in ASKED
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    print(report(parser.parse_args().times))


if __name__ == "__main__":
    main()
