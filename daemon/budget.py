"""How much rubbish a peer may send before nobody listens to it for a while.

A peer is one connection. ZeroMQ cannot hang up on one of them, so what a peer sends that has used up its budget is
thrown away unread; the connections take turns, so that it holds up nobody. Counted by the daemon's one thread, read by
any. Deliberately left out: how large a frame may be, which libzmq enforces (`daemon.__main__`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

RUBBISH_FRAMES = 64
"""So many in FORGIVEN_S; a newer program that asks what this daemon does not know stays far below."""
FORGIVEN_S = 10.0
DEAF_S = 10.0
MOST_PEERS = 4096


@dataclass
class Account:
    """What one peer has spent since `since`."""

    since: float
    frames: int = 0
    deaf_until: float = 0.0


class Budget:
    """The accounts of those that have sent rubbish lately."""

    def __init__(self) -> None:
        self.malformed = 0
        """Frames that could not be read, since the daemon began."""
        self.ignored = 0
        """Frames that were thrown away unread."""
        self._accounts: dict[bytes, Account] = {}
        self._deaf_until = 0.0

    def hears(self, peer: bytes, now: float) -> bool:
        """Whether this peer's frame is to be read."""
        account = self._accounts.get(peer)
        if account is None or now >= account.deaf_until:
            return True
        self.ignored += 1
        return False

    def spend(self, peer: bytes, now: float) -> None:
        """The peer sent a frame that cannot be read."""
        self.malformed += 1
        account = self._accounts.pop(peer, None)
        if account is None or now - account.since > FORGIVEN_S:
            account = Account(now)
        self._accounts[peer] = account  # now the youngest
        account.frames += 1
        if account.frames >= RUBBISH_FRAMES:
            account.since, account.frames = now, 0
            account.deaf_until = self._deaf_until = now + DEAF_S
        if len(self._accounts) > MOST_PEERS:
            del self._accounts[next(iter(self._accounts))]

    def health(self) -> str:
        """Empty while everybody is heard."""
        if time.monotonic() >= self._deaf_until:
            return ""
        return f"a peer sends rubbish and is not listened to for now: {self.malformed + self.ignored:,} frames so far"
