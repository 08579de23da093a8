"""Whether a trainer that lives gets anywhere, from its beats: alive but stuck is a state that no lock shows.

    a beat a second: step, phase, since when ──► how long each phase took in this run ──► silent, stuck, or neither

A phase is stuck when it lasts ten times as long as it ever did in this run, and a minute at least; one that was never
seen to end may take a quarter of an hour. Time is the daemon's own, which no clock that jumps can move. Deliberately
left out: doing anything about it; a person looks (`ponder stack`) and decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ponder import wire
from ponder.event_text import format_duration
from ponder.events import ELSEWHERE, HELD, WAIT_FOR_DISK

TIMES_LONGEST = 10.0
LEAST_S = 60.0
UNKNOWN_S = 900.0
SILENT_S = 60.0
PATIENT = (HELD, WAIT_FOR_DISK, ELSEWHERE)
"""Phases that last until somebody does something, or of which nothing is known."""


@dataclass
class Pulse:
    """What the beats of a run's trainers say, one after another."""

    longest_s: dict[str, float] = field(default_factory=dict)
    """By phase, of those that have ended."""
    _beat: wire.Beat | None = None
    _since: float = 0.0
    _heard: float = 0.0

    def begin(self, now: float) -> None:
        """A trainer was started, or found; what the ones before it took is remembered."""
        self._beat, self._since, self._heard = None, now, now

    def hear(self, beat: wire.Beat, now: float) -> None:
        """Take a beat; one of another step or phase ends the phase before."""
        before = self._beat
        if before is None or _place(beat) != _place(before):
            if before is not None:
                self.longest_s[before.phase] = max(self.longest_s.get(before.phase, 0.0), now - self._since)
            self._since = now
        self._beat, self._heard = beat, now

    def trouble(self, now: float) -> str:
        """Empty when all is well, else since when the trainer is silent, or where it is stuck.

        >>> pulse = Pulse()
        >>> pulse.hear(wire.Beat("run", 1, 3, "sample", 7), 0.0)
        >>> pulse.hear(wire.Beat("run", 1, 3, "learn", 8), 20.0)
        >>> pulse.hear(wire.Beat("run", 1, 4, "sample", 9), 25.0)
        >>> pulse.hear(wire.Beat("run", 1, 4, "sample", 9), 230.0)
        >>> pulse.trouble(225.0), pulse.trouble(226.0)
        ('', 'stuck in `sample` for 3 min 21 s')
        """
        if now - self._heard > SILENT_S:
            return f"silent for {format_duration(now - self._heard)}"
        if self._beat is None or self._beat.phase in PATIENT:
            return ""
        longest_s, spent_s = self.longest_s.get(self._beat.phase), now - self._since
        bound_s = UNKNOWN_S if longest_s is None else max(LEAST_S, TIMES_LONGEST * longest_s)
        return f"stuck in `{self._beat.phase}` for {format_duration(spent_s)}" if spent_s > bound_s else ""


def _place(beat: wire.Beat) -> tuple[int, int, str, int]:
    return beat.attempt, beat.step, beat.phase, beat.phase_since_us
