"""A few worker processes that score answers with one function, which may hang, crash or eat memory.

    Pool.score ──► a free worker ──► its value                        answers come back in the order they were given
                   raises            unscored, with the error
                   past its time     killed with its children; unscored, `timed out`
                   gone              unscored, with how it ended; the next call gets a fresh one

A worker is exec'ed, never forked from a process that holds a model and threads. One thread drives them all through
pipes that never block. Workers import their function anew whenever they start, so that a mended file is used after
`restart`. Deliberately left out: which answers, and what the values weigh (`trainer.rewards.judge`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO

import msgspec

from ponder.errors import RecipeError
from trainer.rewards.frames import HEAD_BYTES, MAX_FRAME_BYTES, Call, Ready, Result, encode

log = logging.getLogger(__name__)

START_S = 120.0
"""A worker may take so long to import its function."""
CHUNK_BYTES = 1 << 16
GIVE_UP_AFTER = 32
"""When the first so many calls all fail, the rest are not tried: that is a bug, and each may cost a time-out."""
WORKER = "trainer.rewards.worker"


@dataclass(frozen=True)
class Outcome:
    """What became of one call: its value, or why there is none."""

    result: Result
    is_fault: bool = False
    """The function failed, as opposed to saying that it cannot score."""


class StartError(Exception):
    """A worker did not start; carries a sentence and the traceback of the import."""

    def __init__(self, message: str, trace: str) -> None:
        super().__init__(message)
        self.message, self.trace = message, trace


@dataclass
class _Worker:
    """One process and what is under way to and from it."""

    process: subprocess.Popen[bytes]
    out: bytearray = field(default_factory=bytearray)
    """Bytes that its stdin has not taken yet."""
    into: bytearray = field(default_factory=bytearray)
    """Bytes of a message that is not whole yet."""
    is_ready: bool = False
    job: int | None = None
    deadline: float = 0.0

    @property
    def stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout


class Pool:
    """The workers of one function. Not for several threads."""

    def __init__(self, name: str, function: str, *, timeout_s: float, memory_mb: int, at_once: int) -> None:
        self.name, self.function, self.timeout_s = name, function, timeout_s
        self._memory_mb, self._at_once = memory_mb, at_once
        self._workers: list[_Worker] = []
        self._selector = selectors.PollSelector()  # the only one that holds no file itself

    def start(self) -> None:
        """Start one worker and wait until it has imported the function; RecipeError when it cannot."""
        try:
            if not self._workers:
                self._launch()
            self._run([], [])
        except StartError as error:
            self.close()
            if error.trace:
                log.error("the reward `%s`: %s", self.name, error.trace)
            raise RecipeError(
                f"the reward `{self.name}` cannot use `{self.function}`: {error.message}",
                "mend the file; the traceback is in the run's log (`ponder logs`)"
                if error.trace
                else "name a function that takes some of `prompt`, `text`, `answer`, `reference` and `meta`",
            ) from error

    def score(self, calls: Sequence[Call]) -> list[Outcome]:
        """Each call's outcome, in their order; StartError when a worker cannot import the function any more."""
        outcomes: list[Outcome | None] = [None] * len(calls)
        try:
            while len(self._workers) < min(self._at_once, len(calls)):
                self._launch()
            self._run(list(calls), outcomes)
        except BaseException:
            self.close()
            raise
        return [outcome for outcome in outcomes if outcome is not None]

    def restart(self) -> None:
        """End all workers and start anew, with the function as it now stands on disk."""
        self.close()
        self.start()

    def close(self) -> None:
        """End all workers now."""
        for worker in list(self._workers):
            self._end(worker)

    # ---- inside

    def _run(self, calls: list[Call], outcomes: list[Outcome | None]) -> None:
        """Drive the workers until every call has its outcome; without calls, until every worker has started."""
        waiting = list(range(len(calls)))[::-1]
        while True:
            if waiting and _is_hopeless(outcomes):
                given_up = Outcome(Result(error=f"not tried, since the first {GIVE_UP_AFTER} failed"), is_fault=True)
                outcomes[:] = [given_up if job in waiting else outcome for job, outcome in enumerate(outcomes)]
                waiting.clear()
            for worker in self._workers:
                if waiting and worker.is_ready and worker.job is None:
                    self._give(worker, waiting.pop(), calls)
            busy = [worker for worker in self._workers if not worker.is_ready or worker.job is not None]
            if not waiting and not any(worker.job is not None for worker in busy) and (calls or not busy):
                return
            if not self._workers:
                self._launch()
                continue
            now = time.monotonic()
            wait_s = min((worker.deadline for worker in busy), default=now) - now
            for key, events in self._selector.select(max(0.0, wait_s)):
                worker = key.data
                if worker not in self._workers:
                    continue
                if events & selectors.EVENT_WRITE:
                    self._write(worker)
                if events & selectors.EVENT_READ:
                    self._read(worker, outcomes)
            for worker in [worker for worker in self._workers if worker in busy]:
                if time.monotonic() >= worker.deadline:
                    self._expire(worker, outcomes)

    def _launch(self) -> None:
        command = [sys.executable, "-P", "-m", WORKER, self.function, str(self._memory_mb), str(os.getpid())]
        code = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
        path = os.pathsep.join(filter(None, (code, os.environ.get("PYTHONPATH", ""))))
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            process_group=0,  # a time-out ends what it has started too
        )
        worker = _Worker(process, deadline=time.monotonic() + START_S)
        os.set_blocking(worker.stdin.fileno(), False)
        os.set_blocking(worker.stdout.fileno(), False)
        self._selector.register(worker.stdout, selectors.EVENT_READ, worker)
        self._workers.append(worker)

    def _give(self, worker: _Worker, job: int, calls: list[Call]) -> None:
        worker.job, worker.deadline = job, time.monotonic() + self.timeout_s
        worker.out += encode(calls[job])
        self._write(worker)

    def _write(self, worker: _Worker) -> None:
        try:
            while worker.out:
                del worker.out[: os.write(worker.stdin.fileno(), worker.out[:CHUNK_BYTES])]
        except BlockingIOError:
            with contextlib.suppress(KeyError):
                self._selector.register(worker.stdin, selectors.EVENT_WRITE, worker)
            return
        except BrokenPipeError:  # it is gone; reading will tell
            worker.out.clear()
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.stdin)

    def _read(self, worker: _Worker, outcomes: list[Outcome | None]) -> None:
        try:
            data = os.read(worker.stdout.fileno(), CHUNK_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._bury(worker, outcomes)
            return
        worker.into += data
        size = int.from_bytes(worker.into[:HEAD_BYTES], "little")
        if size > MAX_FRAME_BYTES:
            self._fail(worker, outcomes, "it returned more than a reward can be")
        elif len(worker.into) >= HEAD_BYTES + size:
            body = bytes(worker.into[HEAD_BYTES : HEAD_BYTES + size])
            worker.into.clear()
            self._take(worker, body, outcomes)

    def _take(self, worker: _Worker, body: bytes, outcomes: list[Outcome | None]) -> None:
        if not worker.is_ready:
            ready = msgspec.msgpack.decode(body, type=Ready)
            if ready.error:
                self._end(worker)
                raise StartError(ready.error, ready.trace)
            worker.is_ready = True
        elif worker.job is not None:
            result = msgspec.msgpack.decode(body, type=Result)
            outcomes[worker.job] = Outcome(result, bool(result.error))
            worker.job = None
            if result.is_spoilt:
                self._end(worker)

    def _expire(self, worker: _Worker, outcomes: list[Outcome | None]) -> None:
        if not worker.is_ready:
            self._end(worker)
            raise StartError(f"its import took more than {START_S:g} s", "")
        self._fail(worker, outcomes, f"timed out after {self.timeout_s:g} s")

    def _bury(self, worker: _Worker, outcomes: list[Outcome | None]) -> None:
        """Its pipe has ended: it is gone, or will be at once."""
        try:
            code = worker.process.wait(1.0)
        except subprocess.TimeoutExpired:
            code = 0
        how = f"exit code {code}" if code >= 0 else f"signal {-code} ({_signal_name(-code)})"
        if not worker.is_ready:
            self._end(worker)
            raise StartError(f"the worker that imported it ended with {how}", "")
        self._fail(worker, outcomes, f"its worker ended with {how}")

    def _fail(self, worker: _Worker, outcomes: list[Outcome | None], why: str) -> None:
        if worker.job is not None:
            outcomes[worker.job] = Outcome(Result(error=why), is_fault=True)
        self._end(worker)

    def _end(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        for pipe in (worker.stdin, worker.stdout):
            with contextlib.suppress(KeyError):
                self._selector.unregister(pipe)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.process.pid, signal.SIGKILL)
        worker.process.wait()
        for pipe in (worker.stdin, worker.stdout):
            with contextlib.suppress(OSError):
                pipe.close()


def _is_hopeless(outcomes: Sequence[Outcome | None]) -> bool:
    known = [outcome for outcome in outcomes if outcome is not None]
    return len(known) >= GIVE_UP_AFTER and all(outcome.is_fault for outcome in known)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
