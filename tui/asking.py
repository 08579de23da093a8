"""What a console does before it shows anything: ask the daemon, have things done, and say what came of it.

    send ──► accepted ──► settle: applied at step N, or refused (asked at every pull)

Deliberately left out: what is asked when (`tui.app`, the screens).
"""

from __future__ import annotations

import os
import time

from ponder import wire
from ponder.errors import NotFound, PonderError
from ponder.event_text import applied_line
from ponder.safe_text import safe_line
from tui.feed import Asks, R
from tui.orderly import OrderlyApp

NOTICE_S = 8.0
"""So long what the daemon said stands in the key line, unless a key is pressed after NOTICE_LEAST_S."""
NOTICE_LEAST_S = 1.0


class AskingApp(OrderlyApp):
    """See the module. A subclass paints the notice."""

    client: Asks
    is_readonly = False
    notice: tuple[str, str] | None = None
    """A sentence for the key line, and its style."""
    _notice_s = 0.0
    _unsettled: dict[str, str]
    applied = 0
    """How many commands of this console came true."""

    async def ask(self, request: wire.Request, reply_type: type[R], ask_id: str = "") -> R:
        """The daemon's reply; raises a PonderError."""
        return await self.client.ask(request, reply_type, None, ask_id)

    async def try_ask(self, request: wire.Request, reply_type: type[R]) -> R | None:
        """The daemon's reply, or None after saying what went wrong: for keys, whose errors nobody else catches."""
        try:
            return await self.ask(request, reply_type)
        except PonderError as error:
            self.say(f"! {error.message}", "bad")
            return None

    async def send(self, request: wire.Request, words: str) -> str:
        """Ask for something to be done and say what came of it; the command's id, or empty when it was refused."""
        if self.is_readonly:
            self.say("! this console only reads (`--readonly`)", "warning")
            return ""
        try:
            accepted = await self.ask(request, wire.Accepted)
        except PonderError as error:
            hint = f" ({error.hint})" if error.hint else ""
            self.say(f"! refused: {error.message}{hint}", "bad")
            return ""
        self._unsettled[accepted.command] = words
        self.say(f". accepted: {words}", "warning")
        self.want()
        return accepted.command

    async def settle(self) -> None:
        """Say what became of accepted commands."""
        for command, words in list(self._unsettled.items()):
            try:
                status = await self.ask(wire.GetCommand(command), wire.CommandStatus)
            except NotFound:
                del self._unsettled[command]
                continue
            if status.state is wire.CommandState.APPLIED:
                del self._unsettled[command]
                self.applied += 1
                is_named = status.step is not None or bool(status.name)
                line = applied_line(status.verb, status.step, status.name, status.old, status.new)
                self.say(f"+ {line if is_named else f'applied: {words}'}", "good")
            elif status.state is wire.CommandState.REFUSED:
                del self._unsettled[command]
                hint = f" ({status.hint})" if status.hint else ""
                self.say(f"! refused: {words}: {status.message}{hint}", "bad")

    @property
    def is_settled(self) -> bool:
        """Whether everything that was accepted has been applied or refused."""
        return not self._unsettled

    @property
    def by(self) -> str:
        """Who turns things, for the record."""
        return os.environ.get("USER", "")[:64]

    def say(self, text: str, style: str = "plain") -> None:
        """Show a sentence in the key line for a while."""
        self.notice = (safe_line(text), style)
        self._notice_s = time.monotonic()
        self.show_notice()

    def take_notice_away(self, after_s: float) -> bool:
        """Whether there was a sentence that had stood for so long."""
        if self.notice is None or time.monotonic() - self._notice_s <= after_s:
            return False
        self.notice = None
        return True

    def show_notice(self) -> None:
        """Paint the key line."""

    def want(self) -> None:
        """Pull as soon as possible."""
