"""Which process is which, from facts that survive a daemon: boot id, start ticks, and the lock of an attempt.

A pid alone says little: it is used again. The same pid with the same start ticks in the same boot is the same process.
Whether an attempt lives is told by its lock alone, which the shim takes and the trainer inherits: the kernel lets go of
it when the last of the two is gone, however it went. Stdlib only, for the shim. Deliberately left out: starting and
ending processes.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LOCK_NAME = "attempt.lock"
STARTED_NAME = "attempt.json"
ENDED_NAME = "exit.json"


@dataclass(frozen=True)
class Started:
    """What the shim writes when the trainer's process exists."""

    attempt: int
    pid: int
    pid_start: int
    boot_id: str
    shim_pid: int
    started_us: int


@dataclass(frozen=True)
class Ended:
    """What the shim writes when the trainer's process is gone."""

    attempt: int
    pid: int
    exit_code: int | None
    signal: int | None
    is_out_of_memory: bool
    max_rss_kb: int
    ended_us: int


def meeting_prefix(pid: int) -> str:
    """How the name of the folder begins, among temporary ones, in which the ranks of this parent meet."""
    return f"ponder-ranks-{pid}-"


def boot_id() -> str:
    """This boot of the machine, empty where the kernel does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None when it is gone, 0 where the kernel does not say."""
    words = _stat_words(pid)
    return None if not words or words[0] in ("Z", "X") else int(words[19])


def is_halted(pid: int) -> bool:
    """Whether a signal or a debugger has stopped the process, so that it answers nothing until it goes on."""
    return _stat_words(pid)[:1] in (["T"], ["t"])


def _stat_words(pid: int) -> list[str]:
    """What the kernel says of a process, from its state on; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def is_same_process(started: Started) -> bool:
    """Whether this very process still lives."""
    return started.boot_id == boot_id() and start_ticks(started.pid) == started.pid_start


def is_attempt_alive(folder: Path) -> bool:
    """Whether a shim or a trainer of the run in this folder lives."""
    try:
        lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)  # lets go of the lock as well
    return False


def write_facts(folder: Path, name: str, facts: DataclassInstance) -> None:
    """Write the facts so that a reader sees all of them or the old ones, also after a power cut."""
    draft = folder / f".{name}.{os.getpid()}"
    with draft.open("w", encoding="utf-8") as file:
        json.dump(asdict(facts), file)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(folder / name)
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_started(folder: Path) -> Started | None:
    """The newest attempt that was started in this run's folder."""
    try:
        return Started(**json.loads((folder / STARTED_NAME).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def read_ended(folder: Path, attempt: int) -> Ended | None:
    """How this attempt ended; None while it lives, and for ever when its shim was killed before it."""
    try:
        ended = Ended(**json.loads((folder / ENDED_NAME).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return ended if ended.attempt == attempt else None
