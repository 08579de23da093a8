"""Rankings and labels on their way to the daemon, on disk until it has them: whatever dies, they are sent again.

One small file an ask, `rankings/ID` in the ponder home, written before it is sent and taken away when it is accepted.
The ask's id is the ranking's, so that one that arrived twice is kept once; a console that starts sends what another
left. What a daemon refuses for good is moved to `rankings/refused/`. For a daemon on another machine they lie in a
folder of its own. Deliberately left out: when a person's screen moves on (`tui.judging`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from ponder import wire
from ponder.errors import NoDaemon, PonderError

MOST_BYTES = 1 << 20
REFUSED = "refused"
FOLDER = "rankings"

Kept = wire.RankAnswers | wire.UndoRanking | wire.LabelTurn
Send = Callable[[Kept, str], Awaitable[wire.Accepted]]
"""Asks with that id; raises a PonderError."""


class Outbox:
    """See the module; without a folder, what waits lasts as long as the console."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def keep(self, ask_id: str, request: Kept) -> bool:
        """Before it is sent; False when the disk takes nothing, which costs only what a kill would cost."""
        if self._folder is None:
            return False
        fresh = self._folder / f".{ask_id}.{os.getpid()}"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(wire.encode(wire.Ask(ask_id, wire.PROTOCOL, request)))
            fresh.replace(self._folder / ask_id)
        except OSError:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
            return False
        return True

    def drop(self, ask_id: str) -> None:
        """The daemon has it."""
        if self._folder is not None:
            with suppress(OSError):
                (self._folder / ask_id).unlink(missing_ok=True)

    def refuse(self, ask_id: str) -> None:
        """The daemon will never have it; it is put where a person can look at it."""
        if self._folder is not None:
            with suppress(OSError):
                (self._folder / REFUSED).mkdir(mode=0o700, exist_ok=True)
                (self._folder / ask_id).replace(self._folder / REFUSED / ask_id)

    def waiting(self) -> list[tuple[str, Kept]]:
        """What was not yet accepted, oldest first; a file that makes no sense is left where it is."""
        found: list[tuple[str, Kept]] = []
        with suppress(OSError):
            for path in sorted(self._folder.iterdir()) if self._folder is not None else []:
                with suppress(OSError, msgspec.DecodeError):
                    if path.name.startswith(".") or not path.is_file():
                        continue
                    with path.open("rb") as file:
                        ask = wire.decode_ask(file.read(MOST_BYTES))
                    if ask.id == path.name and isinstance(ask.request, Kept):
                        found.append((ask.id, ask.request))
        return found

    async def send_again(self, send: Send, pause: Callable[[], Awaitable[None]]) -> tuple[int, list[str]]:
        """Send what an earlier console left, until a daemon answers; (how many are kept, why others never will be)."""
        kept, refused = 0, []
        for ask_id, request in self.waiting():
            while True:
                try:
                    await send(request, ask_id)
                except NoDaemon:
                    await pause()
                    continue
                except PonderError as error:
                    self.refuse(ask_id)
                    refused.append(error.message)
                else:
                    self.drop(ask_id)
                    kept += 1
                break
        return kept, refused


def outbox_folder(home: Path, server: str) -> Path:
    """Where a home's rankings wait that are for this daemon; `server` is empty for the home's own."""
    folder = home / FOLDER
    return folder / f"for-{hashlib.sha256(server.encode()).hexdigest()[:12]}" if server else folder
