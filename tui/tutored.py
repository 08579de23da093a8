"""The console as the tutorial hears it: what was done, what was asked of the daemon; and the tutorial's own keys.

Without a tutor none of it does anything. Deliberately left out: what follows from it (`tui.tutor`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from textual.actions import ActionParseResult
from textual.dom import DOMNode
from textual.screen import Screen
from textual.widget import Widget

from ponder import wire
from tui.asking import AskingApp
from tui.feed import R

if TYPE_CHECKING:
    from tui.app import Console
    from tui.screens.guide import Guide
    from tui.tutor import Tutor

GUIDE = "guide"
"""The id of its lines on a screen."""
LEAST_ROWS = 20
"""With fewer the tutorial would push what it speaks of off the screen."""
NO_TUTORIAL = "no tutorial is on; `ponder tutorial` begins one"


class TutoredApp(AskingApp):
    """See the module."""

    tutor: Tutor | None = None

    async def run_action(
        self,
        action: str | ActionParseResult,
        default_namespace: DOMNode | None = None,
        namespaces: Mapping[str, DOMNode] | None = None,
    ) -> bool:
        """Do it, and tell the tutor."""
        screen = self.current_mode
        is_done = await super().run_action(action, default_namespace, namespaces)
        if is_done and self.tutor is not None and isinstance(action, str):
            self._hears(self.tutor.hear(action, screen))
        return is_done

    async def ask(self, request: wire.Request, reply_type: type[R], ask_id: str = "") -> R:
        """Ask, and tell the tutor what was not refused."""
        reply = await super().ask(request, reply_type, ask_id)
        if self.tutor is not None:
            self._hears(self.tutor.hear_request(request))
        return reply

    def _hears(self, is_further: bool) -> None:
        if is_further:
            self.show_notice()
            self.want()

    async def look_for_tutor(self) -> None:
        """See whether what the tutorial waits for is there."""
        if self.tutor is not None:
            self._hears(await self.tutor.look(cast("Console", self)))
            if self.size.height < LEAST_ROWS and self.notice is None:
                self.say(f"! the tutorial needs {LEAST_ROWS} rows to stand in; {self.size.height} are here", "warning")

    def guide(self) -> list[Widget]:
        """The lines of the tutorial, for a screen that is being made."""
        if self.tutor is None:
            return []
        from tui.screens.guide import Guide  # with all its words, for which no other console need wait

        return [Guide(id=GUIDE)]

    def paint_guide(self, screen: Screen[None]) -> None:
        """Say on a screen where the tutorial is; nothing once it was left."""
        for guide in screen.query(f"#{GUIDE}"):
            guide.display = self.tutor is not None and self.size.height >= LEAST_ROWS
            if self.tutor is not None:
                cast("Guide", guide).show(self.tutor, cast("Console", self))

    def action_tutorial_skip(self) -> None:
        """To the next station."""
        if self.tutor is None:
            self.say(NO_TUTORIAL)
            return
        self.tutor.skip()
        self._hears(True)

    def action_tutorial_leave(self) -> None:
        """No more of it."""
        if self.tutor is None:
            self.say(NO_TUTORIAL)
            return
        is_finished = self.tutor.station is None
        self.tutor = None
        words = "the tutorial is over" if is_finished else "`ponder tutorial` goes on where it was left"
        self.say(f"{words}; everything works as before")
