"""How long a person waits: for the demo's first screen and first step, and for a command's answer.

    python bench/startup.py [--pairs 5]

A real pseudo-terminal of 80x24, a fresh home each time, the real recipe. Ratios are against the bare interpreter of the
same minute (`python -c pass`), since machines differ and are noisy. Deliberately left out: a cold disk cache.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from dataclasses import dataclass
from pathlib import Path

from ponder.client import child_environment
from ponder.paths import Paths

PATIENCE_S = 60.0


@dataclass
class Home:
    """A temporary ponder home and how to call its commands."""

    folder: Path

    @property
    def paths(self) -> Paths:
        return Paths(self.folder / "home", self.folder / "run")

    @property
    def environment(self) -> dict[str, str]:
        return {**child_environment(self.paths), "TERM": "xterm-256color", "LANG": "C.UTF-8"}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-P", "-m", "ponder.cli", *words]

    def ask(self, *words: str) -> str:
        return subprocess.run(
            self.command(*words), env=self.environment, capture_output=True, text=True, check=False
        ).stdout

    def time(self, *words: str) -> float:
        start = time.perf_counter()
        self.ask(*words)
        return time.perf_counter() - start


def time_interpreter() -> float:
    """Seconds of a Python that does nothing: the yardstick."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - start


def start_demo(home: Home, rows: int = 24, columns: int = 80) -> tuple[int, int, float]:
    """Start `ponder demo` in a terminal; returns its pid, the terminal and the time of the start."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, home.command("demo"), home.environment)
    resize(terminal, rows, columns)
    return pid, terminal, time.perf_counter()


def resize(terminal: int, rows: int, columns: int) -> None:
    """Give a terminal its size."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def read_for(terminal: int, seconds: float) -> bytes:
    """What the terminal shows within `seconds`, answering cursor reports as a terminal does."""
    ready, _, _ = select.select([terminal], [], [], seconds)
    if not ready:
        return b""
    data = os.read(terminal, 1 << 16)
    if b"\x1b[6n" in data:
        os.write(terminal, b"\x1b[1;1R" * data.count(b"\x1b[6n"))
    return data


def measure_demo(home: Home) -> tuple[float, float]:
    """Seconds from the command to the first painted screen, and to the first finished step."""
    pid, terminal, start = start_demo(home)
    seen, painted, first_step, asked = b"", 0.0, 0.0, 0.0
    try:
        while not (painted and first_step) and time.perf_counter() - start < PATIENCE_S:
            seen = (seen + read_for(terminal, 0.02))[-200_000:]
            now = time.perf_counter() - start
            if not painted and b"\x1b[?1049h" in seen and b"step" in seen:
                painted = now
            if painted and now - asked > 0.5:
                asked = now
                runs = json.loads(home.ask("ls", "--json") or "{}").get("runs", [])
                first_step = now if runs and runs[0]["step"] >= 1 else 0.0
    finally:
        os.kill(pid, signal.SIGTERM)
        deadline = time.perf_counter() + 5
        while os.waitpid(pid, os.WNOHANG)[0] == 0 and time.perf_counter() < deadline:
            read_for(terminal, 0.05)
        os.close(terminal)
    return painted, first_step


def describe(name: str, seconds: list[float], yardstick: float) -> str:
    middle = statistics.median(seconds)
    return f"| {name} | {middle:.2f} s | {min(seconds):.2f} .. {max(seconds):.2f} s | {middle / yardstick:.1f}x |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    pairs = parser.parse_args().pairs
    times: dict[str, list[float]] = {}
    yardstick: list[float] = []
    for _ in range(pairs):
        with tempfile.TemporaryDirectory(prefix="pndr-") as folder:
            home = Home(Path(folder))
            painted, first_step = measure_demo(home)
            times.setdefault("`ponder demo` to the first painted screen", []).append(painted)
            times.setdefault("`ponder demo` to the first finished step", []).append(first_step)
            yardstick.append(time_interpreter())
            times.setdefault("`ponder status`, trainer busy", []).append(home.time("status"))
            times.setdefault("`ponder pause --no-wait`, trainer busy", []).append(home.time("pause", "--no-wait"))
            home.time("resume")
            times.setdefault("`ponder pause` until it is paused", []).append(home.time("pause"))
            times.setdefault("`ponder status`, trainer paused", []).append(home.time("status"))
            home.ask("stop", "--now")
            home.ask("down")
    middle = statistics.median(yardstick)
    print("| what | median | spread | bare interpreter |")
    print("| --- | --- | --- | --- |")
    print(describe("`python -c pass`", yardstick, middle))
    for name, seconds in times.items():
        print(describe(name, seconds, middle))


if __name__ == "__main__":
    main()
