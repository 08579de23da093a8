"""Our Textual driver: changed cells only, nothing but known sequences, frames paced by acknowledgement.

    Textual frame -> CellGrid.draw          (wanted grid; event loop)
    flush -> Pacer -> CellGrid.changes      (event loop, or the input thread when a reply frees the line)
    -> Textual's writer thread -> terminal
    terminal -> input thread -> ReplyFilter -> Textual's parser -> events

Threads: the event loop draws, the input thread acknowledges; both hold `_lock` while they touch grid or pacer. Nobody
waits inside the lock but for the writer thread's queue, in which there is never more than one frame and a few modes.

Left out on purpose: Windows, inline mode, hyperlinks (OSC 8) and pointer shapes, which are dropped.
PONDER_DRIVER=stock gives Textual's own driver back.
"""

from __future__ import annotations

import asyncio
import os
import re
import selectors
import sys
import threading
import time
from codecs import getincrementaldecoder
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TextIO

from textual import events
from textual._xterm_parser import XTermParser
from textual.driver import Driver
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message

from ponder.plot_text import wants_ascii
from tui.cells import CellGrid
from tui.pacing import ASK, LineGauge, Pacer, ReplyFilter

if TYPE_CHECKING:
    from textual.app import App

MODES = re.compile(
    r"\x1b\[\?(?:7|25|1000|1003|1004|1006|1015|1016|1049|2004|2048)[hl]"  # wrap, cursor, mouse, focus, screen, paste
    r"|\x1b\[\?20(?:26|48)\$p"  # does the terminal know synchronised output, sizes in band?
    r"|\x1b\[>\d{1,3}u|\x1b\[<u"  # the kitty keyboard
    r"|\x07"  # the bell
)
CLIPBOARD = re.compile(r"\x1b\]52;c;[A-Za-z0-9+/=]{0,100000}\x07")
NOTICE = re.compile(r"\x1b\]9;[ -~]{1,200}\x07")
"""OSC 9: several terminals show it as a notice of the desktop, the others nothing."""
FRAME = re.compile(r"\n*\x1b\[\d{1,5};\d{1,5}H")
"""How every frame begins; what begins otherwise and is no known mode is refused."""
BEGIN_SYNC, END_SYNC = "\x1b[?2026h", "\x1b[?2026l"
ENTER_SCREEN, LEAVE_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
SYNC_FROM_BYTES = 600
"""Smaller frames arrive in one piece and need no synchronised output."""

RATE_WINDOW_S = 5.0


@dataclass(frozen=True, slots=True)
class Link:
    """The line to the terminal as the driver sees it."""

    bytes_per_s: float
    rtt_s: float | None
    """None until the terminal has answered once."""
    is_slow: bool
    """Whether frames keep it busy: a picture less is a quicker answer to a key."""
    pacing: Literal["replies", "timed"]
    frames: int
    bytes_sent: int
    refused: int
    """Control and invisible characters that were kept from the terminal."""


def driver_class(environ: Mapping[str, str] | None = None) -> type[Driver] | None:
    """The driver to give to `App(driver_class=...)`; None lets Textual choose (TEXTUAL_DRIVER is set)."""
    env = os.environ if environ is None else environ
    if env.get("PONDER_DRIVER") == "stock":
        return LinuxDriver
    return None if env.get("TEXTUAL_DRIVER") else PonderDriver


class LineBreathes(Message):
    """A line that had stalled takes frames again; none is sent before `let_go`, or for a moment."""


class _MeteredFile:
    """The terminal's file for the writer thread: counts what was written, survives a terminal that is gone."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.writes_done = 0
        self.bytes_sent = 0
        self.recent: deque[tuple[float, int]] = deque()

    def write(self, text: str) -> int:
        size = len(text.encode("utf-8", "replace"))
        try:
            self._file.write(text)
            self._file.flush()
        except (OSError, ValueError):
            # The terminal hung up. The input thread sees that too and ends the app; dying here would block it.
            size = 0
        now = time.monotonic()
        self.recent.append((now, size))
        while self.recent and self.recent[0][0] < now - RATE_WINDOW_S:
            self.recent.popleft()
        self.bytes_sent += size
        self.writes_done += 1
        return len(text)

    def flush(self) -> None:
        """Nothing: every write is flushed."""

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return self._file.isatty()

    def bytes_per_s(self) -> float:
        """The mean over the last seconds."""
        since = time.monotonic() - RATE_WINDOW_S
        return sum(size for moment, size in tuple(self.recent) if moment >= since) / RATE_WINDOW_S


class PonderDriver(LinuxDriver):
    """See the module. One lives as long as the app; suspending and resuming restarts its screen."""

    def __init__(
        self,
        app: App[object],
        *,
        debug: bool = False,
        mouse: bool = True,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        assert sys.__stderr__ is not None
        self._metered = _MeteredFile(sys.__stderr__)
        self._file = self._metered  # type: ignore[assignment]  # the writer thread needs write, flush and fileno only
        self._lock = threading.RLock()
        self._grid = CellGrid(*self._get_terminal_size(), colour=not app.no_color, is_ascii=wants_ascii())
        self._new_size: tuple[int, int] | None = None
        self._pacer = Pacer()
        self._gauge = LineGauge()
        self._replies = ReplyFilter()
        self._answered = threading.Event()
        self._on_screen = False
        self._is_starting = False
        self._is_asleep = False
        """Suspended by ctrl+z, and not yet continued."""
        self._knows_sync = False
        self._frames = 0
        self._frame_bytes = 0
        """Of the newest."""
        self._writes = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def link(self) -> Link:
        """What the line to the terminal is doing."""
        with self._lock:
            return Link(
                bytes_per_s=self._metered.bytes_per_s(),
                rtt_s=self._pacer.rtt_s,
                is_slow=self._gauge.judge(time.monotonic()),
                pacing="replies" if self._pacer.asks else "timed",
                frames=self._frames,
                bytes_sent=self._metered.bytes_sent,
                refused=self._grid.refused,
            )

    @property
    def is_held(self) -> bool:
        """Whether the line waits for a newer picture than it has."""
        return self._pacer.held_until > time.monotonic()

    def let_go(self) -> None:
        """The picture is as new as can be."""
        with self._lock:
            self._pacer.let_go()
            self._pump()

    def repaint(self) -> None:
        """Send every cell again, for a screen that something else wrote on."""
        with self._lock:
            self._grid.forget()
            self._pacer.restart()
            self._pump()

    def ring(self, words: str) -> None:
        """The bell, and a notice where the terminal has such."""
        with self._lock:
            self.write("\x07")
            if os.environ.get("TERM", "") != "linux":  # which would print it
                printable = "".join(sign for sign in words if " " <= sign <= "~")[:200]
                self.write(f"\x1b]9;{printable}\x07")

    def start_application_mode(self) -> None:
        """Take the terminal. No frame leaves before its input is raw: the terminal's reply to it would be echoed."""
        self._is_starting = True
        try:
            super().start_application_mode()  # type: ignore[no-untyped-call]  # Textual does not annotate it
        finally:
            self._is_starting = False
        with self._lock:
            self._answered.clear()
            self._pacer.probed(time.monotonic())
            self._send(ASK)
            self._pump()

    # -- from the toolkit --

    def write(self, data: str) -> None:
        """Take a frame into the grid, or pass a mode switch on; whatever is neither goes no further."""
        with self._lock:
            if data in (BEGIN_SYNC, END_SYNC):
                self._knows_sync = True
            elif any(known.fullmatch(data) for known in (MODES, CLIPBOARD, NOTICE)):
                if data in (ENTER_SCREEN, LEAVE_SCREEN):
                    self._send("\x1b[m")
                    self._on_screen = data == ENTER_SCREEN
                    self._grid.forget()
                    self._pacer.restart()
                self._send(data)
            elif FRAME.match(data):
                self._take_size()
                self._grid.draw(data)
            else:
                self._grid.refused += 1

    def flush(self) -> None:
        """Show what was drawn, as soon as the terminal is ready for it."""
        with self._lock:
            self._pump()

    def _take_size(self) -> None:
        if self._new_size is not None:
            self._grid.resize(*self._new_size)
            self._new_size = None

    def _send(self, data: str) -> None:
        self._writes += 1
        super().write(data)

    # -- pacing; everything here runs inside the lock --

    def _pump(self) -> None:
        if not self._on_screen or self._is_starting or self._writer_thread is None:
            return
        wait_s = self._pacer.wait_s(time.monotonic())
        if not wait_s and not self._pacer.asks and self._metered.writes_done < self._writes:
            wait_s = 0.05
        if wait_s:
            self._loop.call_soon_threadsafe(self._arm, wait_s)
            return
        self._take_size()
        most = self._gauge.frame_bytes if self._pacer.asks else float("inf")  # a reply brings the rest
        frame = self._grid.changes(most)
        if not frame:
            return
        if self._knows_sync and len(frame) >= SYNC_FROM_BYTES:
            frame = f"{BEGIN_SYNC}{frame}{END_SYNC}"
        if self._pacer.asks:
            self._answered.clear()
            frame += ASK
        self._pacer.sent(time.monotonic())
        self._frames += 1
        self._frame_bytes = len(frame)
        self._send(frame)

    def _arm(self, wait_s: float) -> None:
        """Look again later, unless that will be done by then anyway. Runs on the event loop."""
        if self._timer is not None:
            if self._timer.when() <= self._loop.time() + wait_s:
                return
            self._timer.cancel()
        self._timer = self._loop.call_later(wait_s, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self.flush()

    def _on_replies(self, count: int) -> None:
        """Replies came in, on the input thread: the line is free."""
        with self._lock:
            now = time.monotonic()
            for _ in range(count):
                if (empty_s := self._pacer.take_probe(now)) is not None:
                    self._gauge.took(now, empty_s)
                    continue
                if self._pacer.asked_at is not None:
                    self._gauge.took(now, now - self._pacer.asked_at, self._frame_bytes)
                if self._pacer.replied(now):
                    self._app.post_message(LineBreathes())
            if not self._pacer.unanswered:
                self._answered.set()
            self._pump()

    # -- stop and continue (ctrl+z) --

    def _sigtstp_application(self, *_: object) -> None:
        """Suspend from the event loop: this signal may have interrupted somebody who holds the lock."""
        self._loop.call_soon_threadsafe(self._sleep)

    def _sleep(self) -> None:
        self._is_asleep = True
        super()._sigtstp_application()

    def _sigcont_application(self, *_: object) -> None:
        """Come back if we were suspended; whoever continues a running console only gets it painted again.

        One that is on its way out stays so: a terminal that hangs up sends this signal, too.
        """
        if self._is_asleep:
            self._is_asleep = False
            super()._sigcont_application()
        elif self._on_screen:
            self._loop.call_soon_threadsafe(self.repaint)

    # -- size --

    def _get_terminal_size(self) -> tuple[int, int]:
        """Textual asks at the start and when the window changes, the latter in a signal handler: no lock here."""
        self._new_size = super()._get_terminal_size()
        return self._new_size

    def process_message(self, message: Message) -> None:
        """Learn sizes that the terminal reports in band; let no stray reply through."""
        if isinstance(message, events.CursorPosition):
            return
        if isinstance(message, events.Resize):
            self._new_size = (message.size.width, message.size.height)
        super().process_message(message)

    # -- input --

    def run_input_thread(self) -> None:
        """Textual's own loop with the replies taken out, and an end when the terminal hangs up."""
        parser = XTermParser(self._debug)
        decode = getincrementaldecoder("utf-8")("replace").decode
        with selectors.DefaultSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            while not self.exit_event.is_set():
                typed = None
                if selector.select(0.1):
                    data = self._read()
                    if not data:
                        self._hung_up()
                        break
                    typed, replies = self._replies.feed(decode(data), expecting=self._pacer.unanswered > 0)
                    if typed:
                        self._pacer.typed(time.monotonic())
                    if replies:
                        self._on_replies(replies)
                else:
                    typed = self._replies.release()
                for message in parser.feed(typed) if typed else ():
                    self.process_message(message)
                for message in parser.tick():
                    self.process_message(message)
        for _ in parser.feed(""):
            pass  # an escape sequence cut off by the end is nobody's key press

    def _read(self) -> bytes:
        try:
            return os.read(self.fileno, 4096)
        except OSError:
            return b""

    def _hung_up(self) -> None:
        """End the app when its terminal is gone; without a terminal, just wait to be told to stop."""
        if self.input_tty:
            self._loop.call_soon_threadsafe(self._app.exit)
        self.exit_event.wait()

    # -- the end --

    def disable_input(self) -> None:
        """Stop reading, after the reply that is still under way: it must not be typed into the shell."""
        with self._lock:
            self._on_screen = False
            waiting = self._pacer.asked_at is not None and self._key_thread is not None
        if waiting and self._key_thread is not None and self._key_thread.is_alive():
            self._answered.wait(min(1.0, 0.25 + 4 * (self._pacer.rtt_s or 0.1)))
        super().disable_input()

    def stop_application_mode(self) -> None:
        """Put every mode back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._mouse_pixels:
            self.write("\x1b[?1016l")
            self._mouse_pixels = False
        super().stop_application_mode()
