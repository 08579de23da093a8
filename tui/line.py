"""What the console makes of the line to its terminal: how often it paints, what it says of it, what it sends past it.

    a line that had stalled breathes again ──► want ──► pull ──► paint ──► the driver may send: the newest state at once

Deliberately left out: how a frame gets through (`tui.driver`, `tui.pacing`).
"""

from __future__ import annotations

from tui.asking import AskingApp
from tui.driver import LineBreathes, PonderDriver
from tui.pace import SLOW, Pace, Thrift, choose_pace

LEAST_SHOWN_BYTES_PER_S = 500.0
LEAST_SHOWN_RTT_S = 0.02
"""Less is not worth a word, and the word would be most of what is sent."""


class LineApp(AskingApp):
    """See the module."""

    thrift = Thrift.AUTO
    _shown_rtt_s = 0.0
    """Changes by leaps only, since to show it anew is a frame, which takes its own time."""
    _is_catching_up = False
    """Whether the line waits for what is being asked for now."""

    def on_line_breathes(self, _: LineBreathes) -> None:
        """What it shows first is to be new."""
        self.want()

    def look_at_line(self) -> None:
        """Something is asked for now."""
        self._is_catching_up = isinstance(self._driver, PonderDriver) and self._driver.is_held

    def let_line_go(self) -> None:
        """What was asked for is painted now."""
        if self._is_catching_up and isinstance(self._driver, PonderDriver):
            self._is_catching_up = False
            self.call_after_refresh(self._driver.let_go)

    def link_words(self) -> str:
        """The line to the terminal: bytes a second, the round trip where it is known, and whether it is spared."""
        spared = "sparing the line" if self.pace() is SLOW else ""
        if not isinstance(self._driver, PonderDriver):
            return spared
        link = self._driver.link
        rate = f"{link.bytes_per_s / 1000:.0f} kB/s" if link.bytes_per_s >= LEAST_SHOWN_BYTES_PER_S else ""
        if link.rtt_s is not None and not 0.7 < link.rtt_s / (self._shown_rtt_s or 1e-9) < 1.4:
            self._shown_rtt_s = link.rtt_s
        rtt = f"rtt {self._shown_rtt_s * 1000:.0f} ms" if self._shown_rtt_s >= LEAST_SHOWN_RTT_S else ""
        return " ".join(word for word in (spared, rate, rtt) if word)

    def pace(self) -> Pace:
        """How often to ask and to paint now."""
        is_slow = isinstance(self._driver, PonderDriver) and self._driver.link.is_slow
        return choose_pace(self.thrift, is_slow)

    def action_app_repaint(self) -> None:
        """Every cell again."""
        if isinstance(self._driver, PonderDriver):
            self._driver.repaint()
        self.screen.refresh()

    def copy_to_terminal(self, text: str) -> bool:
        """Whether the terminal was given it for its clipboard."""
        if not isinstance(self._driver, PonderDriver):
            return False
        self.copy_to_clipboard(text)
        return True

    def ring(self, words: str) -> None:
        """The terminal's bell."""
        if isinstance(self._driver, PonderDriver):
            self._driver.ring(words)

    def action_app_thrift(self) -> None:
        """Spare the line to the terminal: by itself, always, never."""
        self.thrift = self.thrift.next
        self.say(f"sparing the line: {self.thrift}; at most one picture a second while it is spared")
        self.want()
