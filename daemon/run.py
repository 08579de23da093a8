"""What the daemon knows, in memory, of a run that is not over. All of it can be found again on disk.

Deliberately left out: everything that is done with it (`daemon.supervisor`).
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field

from daemon.companion import Companion
from daemon.facts import Facts
from daemon.processes import Started
from daemon.pulse import Pulse
from ponder import wire
from ponder.events import RunState
from ponder.watched import WatchedPart


@dataclass
class Run:
    """What the daemon knows of a run that is not over."""

    id: int
    name: str
    state: RunState
    reason: str = ""
    attempt: int = 0
    has_attempt: bool = False
    """An attempt was started and is not yet judged; its trainer may live or be gone."""
    is_gone: bool = False
    """Its trainer is gone, and its journal is being read to the end."""
    shim: subprocess.Popen[bytes] | None = None
    """None when an earlier daemon started it."""
    papers: Started | None = None
    facts: Facts = field(default_factory=Facts)
    orders: dict[str, wire.Order] = field(default_factory=dict)
    """Accepted and unanswered, oldest first."""
    failures: int = 0
    restart_at: float = 0.0
    hold: str = ""
    """The pause command that the next trainer is to be held under."""
    is_pressed: bool = False
    """A stop that may not wait."""
    is_killed: bool = False
    """A stop that may not even wait for SIGTERM to do."""
    kill_at: float | None = None
    drained: int = 0
    rest_until: float = 0.0
    orders_due: float = 0.0
    beat: wire.Beat | None = None
    seen_us: int | None = None
    companions: list[Companion] = field(default_factory=list)
    """There once it had a trainer."""
    pulse: Pulse = field(default_factory=Pulse)
    stuck: str = ""
    """That its trainer lives and gets nowhere, in words."""
    watched: WatchedPart | None = None
    """What its loop says of itself, where it trains elsewhere."""

    @property
    def has_slot(self) -> bool:
        """Whether it takes one of the places for running trainers; a paused one keeps its place."""
        return self.watched is None and (self.has_attempt or self.state is RunState.RESTARTING)


def verb_of(order: wire.Order) -> str:
    """The order's word: `set`, `pause`, `resume`, `stop`, `save`, `quarantine`, `lift`."""
    return str(order.action.__struct_config__.tag)
