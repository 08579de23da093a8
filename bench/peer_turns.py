"""How the two sides of a comparison take turns: a process each, of which one at a time does one step.

    driver  -> side    `go`, a line on its stdin
    side    -> driver  `Turn` as a line of JSON on what was its stdout; the first says that it is ready

So a noisy minute hits both alike, and neither shares the machine with the other. Whatever else a side prints goes to
its stderr. Deliberately left out: what a step is.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec


def threads_in_environment(count: int) -> dict[str, str]:
    """What a process must find in its environment to compute with so many threads."""
    return {"OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count), "TOKENIZERS_PARALLELISM": "false"}


ONE_THREAD = threads_in_environment(1)


def asked_threads() -> int:
    """As many as the environment says."""
    return int(os.environ["OMP_NUM_THREADS"])


class Turn(msgspec.Struct):
    """One step of one side."""

    seconds: float = 0.0
    """From `go` until the step is over."""
    cpu_s: float = 0.0
    """Processor seconds of the side's process in that time: on a busy machine steadier than the clock."""
    phases: dict[str, float] = {}
    """Processor seconds of `sample`, `score` and `learn`."""
    prompts: list[int] = []
    """Tokens of each answer's prompt."""
    lengths: list[int] = []
    """Tokens of each answer."""
    rewards: list[float] = []
    facts: dict[str, float] = {}
    """What else the side says of itself."""

    @property
    def tokens(self) -> int:
        """Of all answers."""
        return sum(self.lengths)

    @property
    def tokens_per_cpu_s(self) -> float:
        return self.tokens / self.cpu_s


class Seat:
    """The side's end, in its process."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self._started_s = self._started_cpu_s = 0.0

    def tell(self, turn: Turn) -> None:
        """Hand in the turn, with its seconds, and wait for the next `go`; exits when there is none."""
        if self._started_s:
            turn.seconds = time.perf_counter() - self._started_s
            turn.cpu_s = time.process_time() - self._started_cpu_s
        self._out.write(msgspec.json.encode(turn).decode() + "\n")
        if sys.stdin.readline() != "go\n":
            os._exit(0)
        self._started_s, self._started_cpu_s = time.perf_counter(), time.process_time()


@contextmanager
def alone(lock: Path | None) -> Iterator[None]:
    """Inside, nobody else has the file's lock, where there is one."""
    if lock is None:
        yield
        return
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Side:
    """The driver's end. Use it as a context: it has a process."""

    def __init__(self, command: Sequence[str], log: Path, *, threads: int = 1) -> None:
        self._log = log.open("w")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            env={
                **os.environ, **threads_in_environment(threads),
                "PYTHONUNBUFFERED": "1",  # what it said before it was ended is in the log
                "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
            },
        )  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self.ready = self._read()

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BrokenPipeError):
            self._stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stdout.close()
        self._log.close()

    def step(self) -> Turn:
        """Have the side do one step; SystemExit with the end of its log when it is gone."""
        self._stdin.write("go\n")
        self._stdin.flush()
        return self._read()

    def _read(self) -> Turn:
        line = self._stdout.readline()
        if not line:
            self.__exit__()
            raise SystemExit(f"{self._process.args!r} ended:\n{Path(self._log.name).read_text()[-4000:]}")
        return msgspec.json.decode(line, type=Turn)
