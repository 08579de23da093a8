"""The parent of one trainer attempt: holds its lock, owns its log, and keeps its exit status when the daemon is gone.

    python -P -m daemon.shim FOLDER ATTEMPT COMMAND...

    supervisor ──exec──► shim ──exec──► trainer      each in a session of its own
                         │ attempt.lock   held by both: free only when both are gone
                         │ attempt.json   the trainer's pid, written when it exists
                         │ log.txt        the trainer's stdout and stderr, appended under a line that names the attempt
                         └ exit.json      how it ended, written when it is gone

Only a parent can collect an exit status, and the daemon may be dead when the trainer ends: so somebody small must stay.
Stdlib only. Deliberately left out: restarting, which the daemon decides.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from daemon.log import say
from daemon.processes import (
    ENDED_NAME,
    LOCK_NAME,
    STARTED_NAME,
    Ended,
    Started,
    boot_id,
    meeting_prefix,
    start_ticks,
    write_facts,
)  # fmt: skip
from ponder.errors import RankLost

LOCK_PATIENCE_S = 5.0
"""The daemon touches the lock for an instant to see whether it is held; that is worth waiting for."""

NOT_STARTED_EXIT_CODE = 75


def main(arguments: list[str]) -> int:
    """Run the command as this attempt; returns when it is gone."""
    folder, attempt, command = Path(arguments[0]), int(arguments[1]), arguments[2:]
    os.umask(0o077)
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(log, 2)
    lock = take_lock(folder / LOCK_NAME)
    if lock is None:
        say(f"attempt {attempt} was not started: another attempt of this run lives")
        return NOT_STARTED_EXIT_CODE
    with contextlib.suppress(OSError):
        os.write(log, f"--- attempt {attempt} · {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC ---\n".encode())
    kills_before = out_of_memory_kills()
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        pass_fds=(lock,),
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(child.pid, signal.SIGTERM))
    now_us = time.time_ns() // 1000
    ticks = start_ticks(child.pid) or 0
    keep_facts(folder, STARTED_NAME, Started(attempt, child.pid, ticks, boot_id(), os.getpid(), now_us))
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    clear_meetings(Path(tempfile.gettempdir()), child.pid)
    ended = Ended(
        attempt=attempt,
        pid=child.pid,
        exit_code=child.returncode if child.returncode >= 0 else None,
        signal=-child.returncode if child.returncode < 0 else None,
        is_out_of_memory=child.returncode in (-signal.SIGKILL, RankLost.exit_code)
        and out_of_memory_kills() > kills_before,
        max_rss_kb=usage.ru_maxrss,
        ended_us=time.time_ns() // 1000,
    )
    keep_facts(folder, ENDED_NAME, ended)
    return 0


def clear_meetings(temporary: Path, pid: int) -> None:
    """Delete what a parent of ranks that was killed has left."""
    for meeting in temporary.glob(f"{meeting_prefix(pid)}*"):
        shutil.rmtree(meeting, ignore_errors=True)


def keep_facts(folder: Path, name: str, facts: Started | Ended) -> None:
    """Write the facts; on a full disk the trainer matters more than its papers, and the daemon does without them."""
    try:
        write_facts(folder, name, facts)
    except OSError as error:
        say(f"`{folder / name}` cannot be written: {error.strerror}: {facts}")


def take_lock(path: Path, patience_s: float = LOCK_PATIENCE_S) -> int | None:
    """The held lock's descriptor, or None when another process keeps it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(lock)
                return None
            time.sleep(0.02)
        else:
            return lock


def out_of_memory_kills() -> int:
    """How many processes of this control group the kernel has killed for want of memory; 0 where it does not say."""
    try:
        group = Path("/proc/self/cgroup").read_text().strip().rpartition("::")[2].lstrip("/")
        for line in (Path("/sys/fs/cgroup") / group / "memory.events").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
