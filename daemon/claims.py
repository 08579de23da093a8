"""Who is being asked what just now, so that people who ask in one moment are shown different groups.

    NextRanking ──► what others hold is not free ──► chosen ──► `take`: held, unless another was quicker

An annotator holds what was chosen last and what the question says is still on the screen or fetched ahead; all else is
let go. A claim ends by itself, so that whoever goes away blocks nothing for long. It lives in the daemon's memory:
after a restart two people may be shown one group, and both rankings are kept. Deliberately left out: what may be shared
(`rlhf.overlap`, `daemon.rank_desk`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

CLAIM_S = 600.0
"""So long one may look at answers without asking for anything."""


@dataclass
class Claims:
    """Of all runs; asked by several reading threads, none of which waits for more than a few lookups."""

    now_s: Callable[[], float] = time.monotonic
    _ends_s: dict[tuple[int, str], dict[str, float]] = field(default_factory=dict)
    """When each annotator's claim ends, by run and key."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of_others(self, run_id: int, annotator: str) -> Mapping[str, set[str]]:
        """Who but the annotator holds what, by key."""
        with self._lock:
            self._forget()
            found = {key: holders.keys() - {annotator} for (run, key), holders in self._ends_s.items() if run == run_id}
        return {key: others for key, others in found.items() if others}

    def take(self, run_id: int, annotator: str, key: str, keep: Collection[str], *, is_shared: bool) -> bool:
        """Hold `key`, and of what is held already only `keep`; False where another holds it and it is not shared."""
        with self._lock:
            self._forget()
            if not is_shared and self._ends_s.get((run_id, key), {}).keys() - {annotator}:
                return False
            end_s = self.now_s() + CLAIM_S
            for (run, held), holders in self._ends_s.items():
                if run == run_id and annotator in holders:
                    holders[annotator] = end_s if held in keep else 0.0
            self._ends_s.setdefault((run_id, key), {})[annotator] = end_s
            return True

    def _forget(self) -> None:
        """What has ended; whoever calls holds the lock."""
        now_s = self.now_s()
        left = {
            place: {who: end_s for who, end_s in holders.items() if end_s > now_s}
            for place, holders in self._ends_s.items()
        }
        self._ends_s = {place: holders for place, holders in left.items() if holders}
