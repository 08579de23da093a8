"""Other terminal programs in the console's pseudo-terminal: what they send and take, how soon they are there.

    python -m bench.console_peers [--tools DIR] [--seconds 10] [--install]

ponder's console on a busy run, the same with Textual's own driver, and beside them what is installed of btop, nvitop,
posting (another Textual app) and LEET (W&B's monitor, on a run that logs 12 metrics five times a second). Those that
come from PyPI live in an environment of their own, `--tools`, which `--install` makes; none is a dependency of ponder.
*Busy* is a Tab four times a second. They do different work: the figures say what a terminal is asked to carry, not who
is better. Deliberately left out: what a key takes, which needs to be known of each program (`bench.console`).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import psutil

from bench.console import SETTLE_S, SIZES, STEADY, WORKER, settle, submit
from bench.console_line import Line, environment
from bench.followers import end_run
from bench.served import daemon, private_home

TOOLS = Path.home() / ".cache" / "ponder-peers"
WANTED = ("posting", "tree-sitter<0.26", "wandb", "nvitop")
"""With tree-sitter 0.26 posting ends by a segmentation fault."""
LEAST_WORDS = 12
"""So many words make a first picture."""
STARTER = "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"
LOGGER = """
import math, sys, time, wandb
run = wandb.init(mode="offline", dir=sys.argv[1], project="peer", settings=wandb.Settings(console="off"))
print(run.settings.sync_dir, flush=True)
for step in range(10**6):
    run.log({f"metric_{n}": math.sin(step / 40 + n) for n in range(12)})
    time.sleep(0.2)
"""


@dataclass(frozen=True)
class Measured:
    """What was seen of one program at one size."""

    first_s: float
    idle_bytes_per_s: float
    idle_share: float
    busy_bytes_per_s: float
    busy_share: float
    memory_mb: float


def measure(words: Sequence[str], size: tuple[int, int], environ: Mapping[str, str], seconds: float) -> Measured:
    """Start it, leave it alone, press Tab, end it."""
    began = time.monotonic()
    with Line("-c", STARTER, *words, size=size, environ=environ) as line, ending_with(line.process.pid):
        line.wait_for(lambda: len(line.text.split()) >= LEAST_WORDS, 60.0, 0.005)
        first_s = time.monotonic() - began
        settle(line)
        bytes_per_s, _, share = line.watch(seconds)
        arrived, cpu, began = line.arrived, line.cpu_s, time.monotonic()
        while time.monotonic() < began + seconds:
            line.type("\t")
            line.watch(0.25)
        taken_s = time.monotonic() - began
        busy = (line.arrived - arrived) / taken_s, (line.cpu_s - cpu) / taken_s
        return Measured(first_s, bytes_per_s, share, *busy, line.memory_mb)


@contextmanager
def ending_with(pid: int) -> Iterator[None]:
    """Afterwards what the program started is gone, too: LEET's and W&B's `wandb-core` outlive who started them."""
    try:
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()


def seen(name: str, words: Sequence[str], size: tuple[int, int], environ: Mapping[str, str], seconds: float) -> str:
    """A program's row, or that it showed nothing."""
    try:
        return row(name, size, measure(words, size, environ, seconds))
    except AssertionError:
        return f"{name}, {size[0]}x{size[1]}: it showed nothing"


def row(name: str, size: tuple[int, int], found: Measured) -> str:
    idle = f"{found.idle_bytes_per_s / 1e3:.1f} kB/s, {100 * found.idle_share:.1f} %"
    busy = f"{found.busy_bytes_per_s / 1e3:.1f} kB/s, {100 * found.busy_share:.1f} %"
    return f"| {name} | {size[0]}x{size[1]} | {found.first_s:.2f} s | {idle} | {busy} | {found.memory_mb:.0f} MB |"


def version(words: Sequence[str]) -> str:
    """What it calls itself, as the first line of `--version` says."""
    done = subprocess.run([*words, "--version"], capture_output=True, text=True, check=False, timeout=60)
    return (done.stdout or done.stderr).strip().splitlines()[0] if (done.stdout or done.stderr).strip() else "unknown"


def find(tools: Path, name: str) -> str | None:
    """The program, from the tools or the machine."""
    return shutil.which(name, path=os.fspath(tools / "bin")) or shutil.which(name)


@contextmanager
def logging_run(tools: Path) -> Iterator[Path]:
    """A run of W&B's that goes on logging, kept on this machine alone."""
    with tempfile.TemporaryDirectory(prefix="leet-", dir="/tmp") as folder:
        python = tools / "bin" / "python"
        process = subprocess.Popen(
            [python, "-c", LOGGER, folder], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "WANDB_SILENT": "true", "WANDB_MODE": "offline"},
        )  # fmt: skip
        try:
            with ending_with(process.pid):
                assert process.stdout is not None
                yield Path(process.stdout.readline().strip())
        finally:
            process.kill()
            process.wait()


def others(tools: Path, seconds: float) -> Iterator[str]:
    """A row for each program and size, or what is not there."""
    plain = {"PATH": f"{tools / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    for name in ("btop", "nvitop", "posting"):
        program = find(tools, name)
        if program is None:
            yield f"{name}: not installed"
            continue
        if name == "nvitop" and not shutil.which("nvidia-smi"):
            yield f"{name}: there is no NVIDIA card to show"
            continue
        yield version([program])
        for size in SIZES:
            yield seen(name, [program], size, plain, seconds)
    wandb = find(tools, "wandb")
    if wandb is None or not (tools / "bin" / "python").exists():
        yield "LEET: not installed"
        return
    yield f"LEET: {version([wandb])}"
    with logging_run(tools) as folder:
        time.sleep(SETTLE_S)
        for size in SIZES:
            command = [wandb, "leet", "run", str(folder)]
            yield seen("LEET, 12 metrics, 5 a second", command, size, plain, seconds)


def ours(seconds: float) -> Iterator[str]:
    """The console on a busy run, with its own driver and with Textual's."""
    with private_home() as paths, daemon(paths, WORKER) as client:
        run = submit(client, "steady", STEADY)
        for driver in ("own", "stock"):
            for size in SIZES:
                environ = {**environment(paths), "PONDER_DRIVER": driver}
                command = [sys.executable, "-P", "-m", "tui", run]
                found = measure(command, size, environ, seconds)
                name = "ponder" if driver == "own" else "ponder, Textual's driver"
                yield row(f"{name}, {STEADY} answers a second", size, found)
        end_run(client, run)


def install(tools: Path) -> None:
    """An environment with what PyPI has."""
    subprocess.run([sys.executable, "-m", "venv", tools], check=True)
    subprocess.run([tools / "bin" / "pip", "install", "--quiet", *WANTED], check=True)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", type=Path, default=TOOLS, help="an environment that holds the programs of PyPI")
    parser.add_argument("--install", action="store_true", help="make it first")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args(words)
    if options.install:
        install(options.tools)
    print(
        "| | | first picture | alone | Tab 4 times a second | memory |\n| --- | --- | --- | --- | --- | --- |",
        flush=True,
    )
    for found in chain(ours(options.seconds), others(options.tools, options.seconds)):
        print(found, flush=True)


if __name__ == "__main__":
    main()
