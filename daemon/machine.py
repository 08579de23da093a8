"""The machine while somebody looks: processors, memory, disk, GPUs, and what trainers and the daemon take of them.

    asked ──► older than LEAST_S? look once more ──► shares since the look before
              else the look that is there: however many ask, it is looked once a second

Nothing is looked at while nobody asks. A share of time needs two looks: the first has none. Where NVML is missing, or
fails, that is said in words and the rest is told all the same. Deliberately left out: how long a step's phases take,
which the trainer measures (`ponder.metrics`), and keeping any of this.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import psutil

from daemon.gpus import look_at_gpus
from daemon.ranks import ranks_of
from ponder import wire

LEAST_S = 1.0
FILL_WINDOW_S = 600.0
FILL_LEAST_S = 20.0
"""A disk is not said to fill before it was looked at for so long."""
DAEMON = "daemon"
REWARD_WORKERS = "reward workers"


class Machine:
    """Looks at this machine for one daemon; any of its threads may ask."""

    def __init__(
        self, home: Path, trainers: Callable[[], Mapping[str, int]], now: Callable[[], float] = time.monotonic
    ) -> None:
        """`trainers` gives the pid of each living trainer by its run."""
        self._home, self._trainers, self._now = home, trainers, now
        self._lock = threading.Lock()
        self._system: wire.System | None = None
        self._looked_s = 0.0
        self._busy: dict[object, float] = {}
        """Seconds of processor time at the last look, by process and start; of the whole machine under "idle"."""
        self._free: deque[tuple[float, int]] = deque()

    def look(self) -> wire.System:
        """What is true now, or was a moment ago."""
        with self._lock:
            now = self._now()
            if self._system is None or now - self._looked_s >= LEAST_S:
                self._system = self._look(now)
                self._looked_s = now
            return self._system

    def _look(self, now: float) -> wire.System:
        over_s = now - self._looked_s if self._system is not None else 0.0
        busy: dict[object, float] = {}
        processes = [self._row(DAEMON, "", os.getpid(), over_s, busy)]
        for run, pid in self._trainers().items():
            trainer = self._row("trainer", run, pid, over_s, busy)
            processes.append(trainer)
            own = ranks_of(pid)
            processes += [self._row(f"rank {rank}", run, rank_pid, over_s, busy) for rank, rank_pid in own]
            processes.append(self._workers(run, pid, over_s, busy, {rank_pid for _, rank_pid in own}))
        memory, swap, disk = psutil.virtual_memory(), psutil.swap_memory(), psutil.disk_usage(str(self._home))
        gpus, note = look_at_gpus()
        cpus = os.cpu_count() or 1
        cpu_share = self._cpu_share(cpus, over_s, busy)
        self._busy = busy
        return wire.System(
            taken_us=time.time_ns() // 1000,
            over_s=over_s,
            cpus=cpus,
            cpu_share=cpu_share,
            load=list(os.getloadavg()),
            memory_bytes=memory.total,
            memory_used_bytes=memory.total - memory.available,
            swap_used_bytes=swap.used,
            disk_bytes=disk.total,
            disk_free_bytes=disk.free,
            full_in_s=self._full_in_s(now, disk.free),
            gpus=gpus,
            gpu_note=note,
            processes=[row for row in processes if row is not None],
        )

    def _row(self, what: str, run: str, pid: int, over_s: float, busy: dict[object, float]) -> wire.ProcessRow | None:
        """What one process takes; None when it is gone."""
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times, key = process.cpu_times(), (pid, process.create_time())
                memory, threads = process.memory_info().rss, process.num_threads()
        except (psutil.Error, OSError):
            return None
        return wire.ProcessRow(
            what, run, pid, self._share(key, times.user + times.system, over_s, busy), memory, threads
        )

    def _workers(
        self, run: str, pid: int, over_s: float, busy: dict[object, float], apart: Collection[int]
    ) -> wire.ProcessRow | None:
        """All that the trainer has started but those `apart`, as one row; None when there is nothing."""
        try:
            children = psutil.Process(pid).children(recursive=True)
        except (psutil.Error, OSError):
            return None
        rows = [
            row
            for child in children
            if child.pid not in apart and (row := self._row(REWARD_WORKERS, run, child.pid, over_s, busy))
        ]
        if not rows:
            return None
        shares = [row.cpu_share for row in rows if row.cpu_share is not None]
        return wire.ProcessRow(
            REWARD_WORKERS, run, rows[0].pid, sum(shares) if shares else None,
            sum(row.memory_bytes for row in rows), sum(row.threads for row in rows),
        )  # fmt: skip

    def _share(self, key: object, busy_s: float, over_s: float, busy: dict[object, float]) -> float | None:
        """Of one processor, since the last look; None when it was not there then."""
        busy[key] = busy_s
        before = self._busy.get(key)
        return None if before is None or over_s <= 0 else max(0.0, busy_s - before) / over_s

    def _cpu_share(self, cpus: int, over_s: float, busy: dict[object, float]) -> float | None:
        """Of all processors, by their idle time, waiting for the disk included."""
        times = psutil.cpu_times()
        idle = self._share("idle", times.idle + getattr(times, "iowait", 0.0), over_s, busy)
        return None if idle is None else min(max(1.0 - idle / cpus, 0.0), 1.0)

    def _full_in_s(self, now: float, free: int) -> float | None:
        """When the disk is full if it goes on as in the last minutes; None while it does not fill."""
        self._free.append((now, free))
        while self._free[0][0] < now - FILL_WINDOW_S:
            self._free.popleft()
        since, then = self._free[0]
        if now - since < FILL_LEAST_S or then <= free:
            return None
        return free * (now - since) / (then - free)
