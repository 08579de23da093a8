"""When the next frame may go out: one frame in flight, the newest picture next.

Each frame ends with the question "where is the cursor?" (CSI 6 n); the terminal's reply means that everything before
it was shown. Until then nothing else is sent: what the screen wants meanwhile is only remembered, so a slow link shows
fewer pictures and never an old one.

A terminal that has never replied within `PATIENCE_S`, or that lets keys through but no reply for `LOST_S`, is no
longer asked and gets frames at a fixed rate; should a reply come after all, pacing by replies begins again. One that
has replied before and is silent altogether stands at the end of a line that is stuck: whatever were sent would be old
when it arrives, so that only one frame every `STUCK_S` asks again, in case the reply was lost. When it breathes again,
nothing is sent before the console has asked for the newest state, or for `HOLD_S`.

Before the first frame the question goes out alone: how long an empty way takes. Until a frame has told how wide the
line is, no frame is larger than a slow one takes in half a second.

`LineGauge` says from the same replies whether the line is too slow for what is sent over it; then the screens are
repainted less often (tui/pace.py), and of a big picture what was drawn last comes first, in pieces.

Left out on purpose: clocks, threads and writing (tui/driver.py).
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field

PATIENCE_S = 2.0
LOST_S, STUCK_S = 5.0, 15.0
STALL_S, HOLD_S = 2.0, 0.5
"""After so long a wait for a reply the picture is old, and a new one is waited for so long."""
TIMED_INTERVAL_S = 0.1
ASK = "\x1b[6n"

GAUGE_WINDOW_S = 5.0
SLOW_FROM, SLOW_UNTIL = 0.4, 0.04
"""Shares of the time in which frames are under way: too much, and so little that ten times as much would be fine."""
FRAMES_FOR_BASE = 200
FULL_FRAME_S, LEAST_FRAME_BYTES = 0.1, 600
"""A frame takes the line for about so long, and is worth its question."""
FIRST_FRAME_BYTES = 8000
"""While nothing is known of the line."""
RATE_FROM_BYTES, RATES_KEPT = 300, 8
"""Smaller frames tell more of the way than of the line."""

_REPLY = re.compile(r"\x1b\[\d{1,5};\d{1,5}R")
_PART_OF_REPLY = re.compile(r"\x1b(?:\[(?:\d{1,5}(?:;\d{0,5})?)?)?\Z")


@dataclass(slots=True)
class Pacer:
    """Decides for each wanted frame: now, or not before a moment, or when the reply comes."""

    asks: bool = True
    """Whether frames carry the question."""
    asked_at: float | None = None
    """When the unanswered frame went out."""
    sent_at: float = float("-inf")
    rtt_s: float | None = None
    """Seconds between the last answered frame and its reply."""
    unanswered: int = 0
    """Replies that may still come in."""
    typed_at: float = float("-inf")
    """When a key came in."""
    probed_at: float | None = None
    """When the question went out alone, unless it was answered."""
    held_until: float = float("-inf")
    """Until then nothing is sent: something newer is on its way to the picture."""

    def wait_s(self, now: float) -> float:
        """Seconds until a frame may be sent; 0 means now. A reply can make it 0 sooner."""
        if self.asked_at is not None:
            has_replied = self.rtt_s is not None
            is_stuck = has_replied and self.typed_at < self.asked_at + PATIENCE_S
            patience_s = STUCK_S if is_stuck else LOST_S if has_replied else PATIENCE_S
            left = self.asked_at + patience_s - now
            if left > 0:
                return left
            self.asked_at = None
            self.asks = is_stuck
        timed_at = float("-inf") if self.asks else self.sent_at + TIMED_INTERVAL_S
        return max(0.0, timed_at - now, self.held_until - now)

    def sent(self, now: float) -> None:
        """A frame went out, with the question if `asks`."""
        self.sent_at = now
        if self.asks:
            self.asked_at = now
            self.unanswered += 1

    def probed(self, now: float) -> None:
        """The question went out alone. Frames do not wait for its reply."""
        self.probed_at = now
        self.unanswered += 1

    def take_probe(self, now: float) -> float | None:
        """The seconds that an empty way takes, if the reply that came in is the probe's: it was asked first."""
        if self.probed_at is None:
            return None
        seconds, self.probed_at = now - self.probed_at, None
        self.unanswered = max(0, self.unanswered - 1)
        return seconds

    def replied(self, now: float) -> bool:
        """A reply came in, late or not; a late one frees the line too, for another one may have been lost.

        Returns whether the line had stalled: what it wants to show now is old, and is held back until `let_go`.
        """
        self.unanswered = max(0, self.unanswered - 1)
        self.asks = True
        if self.asked_at is None:
            return False
        self.rtt_s = now - self.asked_at
        self.asked_at = None
        has_stalled = self.rtt_s >= STALL_S
        if has_stalled:
            self.held_until = now + HOLD_S
        return has_stalled

    def let_go(self) -> None:
        """The picture is new."""
        self.held_until = float("-inf")

    def typed(self, now: float) -> None:
        """A key came in: the line is not stuck, at least in this direction."""
        self.typed_at = now

    def restart(self) -> None:
        """Ask again from the next frame on, whatever was asked before."""
        self.asks = True
        self.asked_at = self.probed_at = None
        self.unanswered = 0
        self.let_go()


class LineGauge:
    """How wide the line is, and whether frames keep it busy, beyond the time that an empty one takes there and back."""

    def __init__(self) -> None:
        self.is_slow = False
        self._rates: deque[float] = deque(maxlen=RATES_KEPT)
        """Bytes a second of the newest frames: the quickest shows how wide the line is."""
        self._times: deque[float] = deque(maxlen=FRAMES_FOR_BASE)
        self._recent: deque[tuple[float, float]] = deque()

    def took(self, now: float, seconds: float, size: int = 0) -> None:
        """A frame of so many bytes was answered after so many seconds."""
        self._times.append(seconds)
        beyond_s = seconds - min(self._times)
        self._recent.append((now, beyond_s))
        if size >= RATE_FROM_BYTES and len(self._times) > 1:
            self._rates.append(size / max(beyond_s, 1e-6))

    @property
    def frame_bytes(self) -> float:
        """How much a frame may hold, so that what comes after it need not wait for long."""
        return max(LEAST_FRAME_BYTES, max(self._rates) * FULL_FRAME_S) if self._rates else FIRST_FRAME_BYTES

    def judge(self, now: float) -> bool:
        """Whether it is slow, over the last seconds."""
        while self._recent and self._recent[0][0] < now - GAUGE_WINDOW_S:
            self._recent.popleft()
        busy = sum(seconds for _, seconds in self._recent) / GAUGE_WINDOW_S
        self.is_slow = busy > (SLOW_UNTIL if self.is_slow else SLOW_FROM)
        return self.is_slow


@dataclass(slots=True)
class ReplyFilter:
    """Takes the terminal's replies out of what is typed, even when one arrives in pieces.

    Without it a reply cut in two by the network would be read as an Escape key and some digits.
    """

    _held: str = field(default="")

    def feed(self, typed: str, *, expecting: bool) -> tuple[str, int]:
        """Returns what is left for the keyboard, and how many replies were in it.

        While a reply is expected, an end that may be the start of one is held back until more comes (or `release`).
        """
        text = self._held + typed
        self._held = ""
        rest, replies = _REPLY.subn("", text)
        if expecting and (part := _PART_OF_REPLY.search(rest)):
            self._held = part.group()
            rest = rest[: part.start()]
        return rest, replies

    def release(self) -> str:
        """Give back a held Escape, which may after all have been the key; a reply's digits stay held for its end."""
        if len(self._held) > 2:
            return ""
        held, self._held = self._held, ""
        return held
