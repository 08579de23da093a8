"""What a run's trainer tells of its rollout workers, in words: how many there are, how old their weights, when heard.

    step 41 is done ──► `workers/*` of the step ──► 2 connected, heard at step 41, 12 s ago; drew 38.0% ...

The trainer counts them when a step is done, and says nothing of them where it takes none. Deliberately left out:
letting them in (`daemon.crew_door`), and their figures over the whole run, which are curves.
"""

from __future__ import annotations

from dataclasses import dataclass

from ponder import metrics
from ponder.event_text import format_ago
from ponder.wire import Curves, GetMetrics, RunRow

LOOKED_AT = 200
"""Steps: whoever was last heard before them is long gone."""
ASKED = (metrics.WORKERS, metrics.WORKERS_SHARE, metrics.WORKERS_LAG, metrics.WORKERS_LAG_MAX)


@dataclass(frozen=True)
class WorkersNow:
    """A run's rollout workers, as its trainer counted them at its newest step."""

    run: str
    connected: int
    """None of a run that is over or whose stage takes none."""
    share: float
    """Of the newest step's answers, those that workers drew."""
    lag: float | None
    """Mean of how many updates old the weights were that drew them, and the most; None: no worker drew any lately."""
    lag_max: float | None
    heard_step: int | None
    """The last step at whose end one was there; None: none of late."""
    heard_us: int | None
    """When that step was done."""

    @property
    def words(self) -> str:
        """All of it, for one line."""
        return ", ".join(filter(None, (self.there(), self.drawn)))

    def there(self, now_us: int | None = None) -> str:
        """How many there are, and when one was heard."""
        if self.heard_step is None:
            return f"{self.connected} connected, none heard of late"
        ago = f", {format_ago(self.heard_us, now_us)}" if self.heard_us else ""
        return f"{self.connected} connected, heard at step {self.heard_step}{ago}"

    @property
    def drawn(self) -> str:
        """How much they drew, and from how old weights; empty where nobody is there."""
        if not self.share or self.lag is None or self.lag_max is None:
            return "drew nothing of the newest step" if self.connected else ""
        share = metrics.format_metric(metrics.WORKERS_SHARE, self.share)
        return f"drew {share} of the newest step, lag {self.lag:.3g} updates, {self.lag_max:.0f} at most"


def workers_request(row: RunRow) -> GetMetrics:
    """What is asked of the daemon."""
    return GetMetrics(row.name, list(ASKED), max(row.step - LOOKED_AT, -1), with_times=True)


def read_workers(row: RunRow, found: Curves) -> WorkersNow | None:
    """What that said; None where the trainer told nothing of workers."""
    counted = found.curves.get(metrics.WORKERS)
    if not counted:
        return None
    is_now = counted[-1][0] >= row.step and not row.state.is_over
    heard = next((step for step, count in reversed(counted) if count), None)
    shares, lags, most = (found.curves.get(name) or [] for name in ASKED[1:])
    return WorkersNow(
        row.name, int(counted[-1][1]) if is_now else 0, shares[-1][1] if shares and is_now else 0.0,
        lags[-1][1] if lags else None, most[-1][1] if most else None, heard,
        None if heard is None else dict(found.times).get(heard),
    )  # fmt: skip
