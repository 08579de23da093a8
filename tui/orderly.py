"""Keys one after the other: a key is looked at when what the keys before it opened is there.

    key ──► nothing is being answered? ──► the toolkit, which hands it from pane to pane through their queues
        └─► else it waits              ──► until its forerunner went the whole way, twice: what that posted went too
                                       ──► and until what is on top now is there (`is_there`), for PATIENCE_S at most

Without it the toolkit gives every key to the pane that is in focus when it comes in, which in a burst is the one
before the form that the first key opens. Deliberately left out: what keys do, and the mouse.
"""

from __future__ import annotations

import time
from collections import deque
from typing import ClassVar

from textual import events
from textual.app import App
from textual.dom import DOMNode
from textual.driver import Driver
from textual.timer import Timer

PATIENCE_S = 1.0
"""A key waits so long at most: what opens may need a daemon that is away."""


class OrderlyApp(App[int]):
    """See the module. Everything here runs on the app's own task, but for the steps between panes."""

    AT_ONCE: ClassVar[frozenset[str]] = frozenset()
    """Keys that wait for nobody."""
    _turn = 0
    """The number of the key that is being answered."""
    _is_answering = False
    _patience: Timer | None = None

    def __init__(self, driver_class: type[Driver] | None = None, *, ansi_color: bool | None = None) -> None:
        super().__init__(driver_class=driver_class, ansi_color=ansi_color)
        self._waiting: deque[events.Key | events.Paste] = deque()
        self._since_s = time.monotonic()
        """When the newest key had been taken; before there was one, the beginning."""

    def is_there(self) -> bool:
        """Whether what is on top can take a key."""
        return True

    def stop_waiting(self) -> None:
        """It took too long: let `is_there` be true."""

    async def on_event(self, event: events.Event) -> None:
        """Let a key wait for the keys before it."""
        if not isinstance(event, (events.Key, events.Paste)) or event.is_forwarded or self._is_urgent(event):
            await super().on_event(event)
        else:
            self._waiting.append(event)
            await self._take_next()

    def _is_urgent(self, event: events.Event) -> bool:
        return isinstance(event, events.Key) and event.key in self.AT_ONCE

    async def _take_next(self) -> None:
        """Answer the key that has waited longest, if its time has come; else see to it that somebody looks again."""
        left_s = self._since_s + PATIENCE_S - time.monotonic()
        if self._waiting and not self._is_answering and (left_s <= 0 or self.is_there()):
            if not self.is_there():
                self.stop_waiting()
            self._turn += 1
            self._is_answering = True
            await super().on_event(self._waiting.popleft())
            self._since_s = time.monotonic()
            await self._follow(self._turn, is_second=False)
        elif self._waiting and self._patience is None:
            self._patience = self.set_timer(max(0.001, left_s), self._lose_patience)

    async def _lose_patience(self) -> None:
        self._patience = None
        if time.monotonic() >= self._since_s + PATIENCE_S:
            self._is_answering = False
        await self._take_next()

    async def _follow(self, turn: int, *, is_second: bool) -> None:
        """Go the key's way, from the pane in focus to the app."""
        if not self._exit:
            target = self.focused or self.screen
            await self._pass(turn, target, list(target.ancestors_with_self), is_second)

    async def _pass(self, turn: int, target: DOMNode, way: list[DOMNode], is_second: bool) -> None:
        """Behind the key through the queue of each on its way, but for those that are closed; then look around."""
        for number, pump in enumerate(way):
            if pump.call_later(self._pass, turn, target, way[number + 1 :], is_second):
                return
        if turn != self._turn or self._exit:
            return
        if not is_second or (self.focused or self.screen) is not target:
            await self._follow(turn, is_second=True)
        else:
            self._is_answering = False
            await self._take_next()

    def look_again(self) -> None:
        """What is on top has changed: a key may have waited for that."""
        if self._waiting:
            self.call_later(self._take_next)
