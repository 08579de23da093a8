"""A terminal at the end of a line of any speed, and the console, or another program, in it.

So many bytes a second come through, and the terminal's replies start when its bytes have arrived. Bytes are those that
left the program, frames its questions for the cursor, processor seconds and memory those of its process and of what it
started. Deliberately left out: what is measured (`bench.console`, `bench.console_peers`).
"""

from __future__ import annotations

import os
import select
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from ponder.client import child_environment
from ponder.paths import Paths
from tests.tui.terminal import QUESTION, Terminal, split_modes

REPLY = b"\x1b[1;1R"


class Line(Terminal):
    """A terminal at the end of a line that carries `bytes_per_s`; None is a local one."""

    def __init__(
        self, *argv: str, size: tuple[int, int], environ: Mapping[str, str], bytes_per_s: float | None = None
    ) -> None:
        self.bytes_per_s = bytes_per_s
        self.arrived = 0
        self.frames = 0
        self._free_s = 0.0
        super().__init__(*argv, width=size[0], height=size[1], environ=environ)

    def read(self, for_s: float) -> bool:
        """Take what comes through within `for_s`, show it, and answer each frame when it has arrived."""
        wait_s = max(0.0, min(for_s, self._free_s - time.monotonic()))
        if wait_s:
            time.sleep(wait_s)
        if time.monotonic() < self._free_s or not select.select([self._master], [], [], for_s - wait_s)[0]:
            return False
        piece = 65536 if self.bytes_per_s is None else max(64, int(self.bytes_per_s / 100))
        try:
            data = os.read(self._master, piece)
        except OSError:
            return False
        if self.bytes_per_s is not None:
            self._free_s = max(self._free_s, time.monotonic()) + len(data) / self.bytes_per_s
            time.sleep(max(0.0, self._free_s - time.monotonic()))
        self.arrived += len(data)
        for part in split_modes(data):
            self._stream.feed(part)
        self.received = (self.received[-len(QUESTION) + 1 :] if self.received else bytearray()) + data
        asked = self.received.count(QUESTION)
        self.frames += asked
        if asked:
            os.write(self._master, REPLY * asked)
            self.received.clear()
        return True

    def watch(self, seconds: float) -> tuple[float, float, float]:
        """Bytes and frames a second, and the share of a core, over so many seconds."""
        arrived, frames, cpu, began = self.arrived, self.frames, self.cpu_s, time.monotonic()
        while (left := began + seconds - time.monotonic()) > 0:
            self.read(min(0.05, left))
        taken_s = time.monotonic() - began
        return (self.arrived - arrived) / taken_s, (self.frames - frames) / taken_s, (self.cpu_s - cpu) / taken_s

    @property
    def _family(self) -> list[psutil.Process]:
        """The program with what it started."""
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]

    @property
    def cpu_s(self) -> float:
        """Processor seconds so far."""
        times = [process.cpu_times() for process in self._family]
        return float(sum(time.user + time.system for time in times))

    @property
    def memory_mb(self) -> float:
        return float(sum(process.memory_info().rss for process in self._family)) / 1e6

    def time_key(self, key: str, holds: Callable[[], bool], within_s: float = 60.0) -> float:
        """Seconds from a key to the moment in which its effect is on the screen."""
        began = time.monotonic()
        self.type(key)
        self.wait_for(holds, within_s, 0.002)
        return time.monotonic() - began

    def time_change(self, key: str, within_s: float = 60.0) -> float:
        """The same, of a key after which something else stands between the tabs and the key line."""
        before = self.body
        return self.time_key(key, lambda: self.body != before, within_s)

    @property
    def body(self) -> list[str]:
        """The rows between the tabs and the key line."""
        return self.text.split("\n")[2:-1]


@contextmanager
def console(
    paths: Paths, run: str, size: tuple[int, int], bytes_per_s: float | None = None, **environ: str
) -> Iterator[Line]:
    """The console on a run, at the end of a line, once its first curves are there."""
    told = {**environment(paths), **environ}
    with Line("-P", "-m", "tui", run, size=size, environ=told, bytes_per_s=bytes_per_s) as line:
        line.wait_for(lambda: "[2" in line.text and "scored last" in line.text, 90.0)
        yield line
        line.type("q")
        line.wait_end(60.0)


def environment(paths: Paths) -> dict[str, str]:
    """What a person's console has: modules that were compiled before."""
    compiled = {
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir(), "ponder-compiled")),
    }
    return {**child_environment(paths), **compiled}
