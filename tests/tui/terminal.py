"""A terminal to run the console in: a pty, an emulator (pyte) that shows what arrived, and replies as a terminal gives.

It can also misbehave: never reply, reply late, reply in pieces, hang up.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import psutil
import pyte

Replies = Literal["at once", "never", "late", "in pieces"]
QUESTION = b"\x1b[6n"
ROOT = Path(__file__).parents[2]


class Terminal:
    """Runs `python -m MODULE` on a pty. Use as a context manager; waits have a deadline."""

    def __init__(
        self,
        *argv: str,
        width: int = 80,
        height: int = 24,
        replies: Replies = "at once",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self.screen)
        self.received = bytearray()
        self._replies = replies
        self._due: list[tuple[float, bytes]] = []
        self._asked = 0
        self._master, slave = pty.openpty()
        self.resize(width, height)
        self.modes_before = termios.tcgetattr(self._master)
        unwanted = ("NO_COLOR", "COLORTERM", "TEXTUAL_DRIVER", "PONDER_DRIVER", "PONDER_ASCII")
        env = {key: value for key, value in os.environ.items() if key not in unwanted}
        env |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONPATH": str(ROOT), **(environ or {})}
        self.process = subprocess.Popen(
            [sys.executable, *argv], stdin=slave, stdout=slave, stderr=slave, env=env, cwd=ROOT, start_new_session=True
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self._master >= 0:
            os.close(self._master)

    def resize(self, width: int, height: int) -> None:
        """Change the window."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.screen.resize(height, width)
        if hasattr(self, "process"):
            os.killpg(self.process.pid, signal.SIGWINCH)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def hang_up(self) -> None:
        """Close the line."""
        os.close(self._master)
        self._master = -1

    def modes(self) -> list[object]:
        """The line's settings (`stty`)."""
        return list(termios.tcgetattr(self._master))

    @property
    def has_replied(self) -> bool:
        """No reply is still under way."""
        return not self._due

    @property
    def is_stopped(self) -> bool:
        """The program was stopped by a signal and has not been continued; what it wrote before is read."""
        is_stopped = psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED
        while self.read(0.0):
            pass
        return bool(is_stopped)

    @property
    def text(self) -> str:
        """What is on the screen. (pyte's own `display` stumbles over a frame that has half arrived.)"""
        buffer = self.screen.buffer
        return "\n".join(
            "".join(buffer[y][x].data for x in range(self.screen.columns)) for y in range(self.screen.lines)
        )

    def wait_for(self, condition: str | Callable[[], bool], within_s: float = 45.0, every_s: float = 0.05) -> None:
        """Read until a text is on the screen or a condition holds."""
        deadline = time.monotonic() + within_s
        while not (condition in self.text if isinstance(condition, str) else condition()):
            if time.monotonic() > deadline:
                raise AssertionError(f"never saw {condition!r}; the screen shows:\n{self.text}")
            self.read(every_s)

    def wait_end(self, within_s: float = 45.0) -> int:
        """Read until the program ends; returns its exit status."""
        self.wait_for(lambda: self.process.poll() is not None, within_s)
        while self.read(0.05):
            pass
        return self.process.returncode

    def read(self, for_s: float) -> bool:
        """Read what is there, waiting at most `for_s`, and reply as this terminal does."""
        now = time.monotonic()
        for moment, reply in [due for due in self._due if due[0] <= now]:
            self._due.remove((moment, reply))
            os.write(self._master, reply)
        if self._due:
            for_s = min(for_s, max(0.0, self._due[0][0] - now))
        if not select.select([self._master], [], [], for_s)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False
        self.received += data
        for part in split_modes(data):
            self._stream.feed(part)
        asked = self.received.count(QUESTION)
        for _ in range(asked - self._asked):
            self._reply()
        self._asked = asked
        return bool(data)

    def _reply(self) -> None:
        now = time.monotonic()
        if self._replies == "at once":
            self._due.append((now, b"\x1b[24;80R"))
        elif self._replies == "late":
            self._due.append((now + 2.5, b"\x1b[24;80R"))
        elif self._replies == "in pieces":
            began = max([now, *(moment for moment, _ in self._due)])  # one reply after the other
            self._due += [(began, b"\x1b"), (began + 0.03, b"[2"), (began + 0.35, b"4;8"), (began + 0.7, b"0R")]


def split_modes(data: bytes) -> list[bytes]:
    """pyte does not know the kitty keyboard's sequences and would print them."""
    return re.split(rb"\x1b\[[<>]\d*u", data)
