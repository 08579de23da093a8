"""A process that ends when the one that started it is gone, however that went.

On Linux the kernel sees to it; elsewhere a thread watches the parent. Stdlib only, for programs that start in an
instant. Deliberately left out: signals, which each program takes as it needs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1
WATCH_S = 0.5


def end_with(parent: int) -> None:
    """End this process when `parent`, the pid of who started it, is gone; at once where it is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)
    if sys.platform != "linux":
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    os._exit(0)
