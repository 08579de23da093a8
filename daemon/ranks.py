"""Which processes are ranks of a trainer: those that it has started with a RANK of their own.

What a rank starts has that in its environment too, and is no child of the trainer. Deliberately left out: starting them
(`daemon.launch`).
"""

from __future__ import annotations

import psutil


def ranks_of(pid: int) -> list[tuple[int, int]]:
    """(rank, pid) of those of the trainer `pid` that live, in order; none where it is gone."""
    try:
        children = psutil.Process(pid).children()
    except psutil.Error:
        return []
    found = []
    for child in children:
        try:
            rank = child.environ().get("RANK")
        except (psutil.Error, OSError):
            continue
        if rank is not None:
            found.append((int(rank), child.pid))
    return sorted(found)
