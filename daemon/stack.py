"""A trainer's stack on demand: a signal asks for it, and the interpreter's own handler writes it into the run's folder.

    daemon ── SIGUSR1 ──► trainer: faulthandler writes every thread's stack to stack.txt ──► daemon reads it

The handler is in C and needs no lock of the interpreter, so that it answers from inside a long call, a deadlock or an
endless loop. Only a process that catches the signal gets it: it would end any other. Stdlib only, for the worker.
Deliberately left out: stacks of C code.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from daemon.processes import is_halted, is_same_process, read_started
from ponder.errors import Refused

STACK_NAME = "stack.txt"
STACK_SIGNAL = signal.SIGUSR1
PATIENCE_S = 2.0
QUIET_S = 0.1
"""The dump is whole when nothing was added for so long."""

_one_at_a_time = threading.Lock()


def answer_with_stack(folder: Path) -> None:
    """From now on, write the stack of every thread of this process into `folder` when it is asked for."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    file = os.open(folder / STACK_NAME, flags, 0o600)  # stays open as long as the process lives
    faulthandler.register(STACK_SIGNAL, file=file, all_threads=True)


def pass_on(folder: Path, ranks: Sequence[tuple[int, int]]) -> None:
    """Have each of several processes, (rank, pid), write its stacks, under its name."""
    for rank, pid in ranks:
        if _catches(pid) and not is_halted(pid):
            with (folder / STACK_NAME).open("a", encoding="utf-8") as file:
                file.write(f"--- rank {rank} (pid {pid}) ---\n")
            os.kill(pid, STACK_SIGNAL)
            time.sleep(QUIET_S / 2)  # so long its handler takes, and the next one's name follows


def ask_for_stack(run: str, folder: Path) -> tuple[int, str]:
    """The pid of the run's trainer and the stack of each of its threads; Refused when it cannot answer."""
    papers = read_started(folder)
    if papers is None or not is_same_process(papers):
        raise Refused("conflict", f"`{run}` has no trainer that lives", f"`ponder show {run}` tells its state")
    if not _catches(papers.pid):
        raise Refused("conflict", f"the trainer of `{run}` cannot show its stack yet", "ask again in a second")
    if is_halted(papers.pid):  # it would answer when it goes on
        raise Refused("conflict", f"the trainer of `{run}` (pid {papers.pid}) is stopped by a signal or a debugger")
    path = folder / STACK_NAME
    with _one_at_a_time:
        os.truncate(path, 0)
        os.kill(papers.pid, STACK_SIGNAL)
        text = _read_whole(path)
    if not text:
        raise Refused("conflict", f"the trainer of `{run}` (pid {papers.pid}) did not answer: it waits in the kernel")
    return papers.pid, text


def _read_whole(path: Path) -> str:
    deadline = time.monotonic() + PATIENCE_S
    before, quiet_since = 0, time.monotonic()
    while (now := time.monotonic()) < deadline:
        size = path.stat().st_size
        if size != before:
            before, quiet_since = size, now
        elif size and now - quiet_since > QUIET_S:
            break
        time.sleep(0.01)
    return path.read_text(encoding="utf-8", errors="replace")


def _catches(pid: int) -> bool:
    """Whether the process has a handler for the signal."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    mask = next((int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:")), 0)
    return bool(mask >> (STACK_SIGNAL - 1) & 1)
