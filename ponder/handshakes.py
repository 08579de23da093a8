"""Whether a daemon elsewhere lets us in, and whether the line was lost meanwhile, from what ZeroMQ tells of a socket.

    HANDSHAKE_FAILED_AUTH        the daemon knows itself, and not our key              Refused, `forbidden`
    HANDSHAKE_FAILED_NO_DETAIL   hung up on in the middle, again and again: another    NoDaemon
                                 daemon than the one that our key file names
    HANDSHAKE_FAILED_PROTOCOL    whoever is there speaks another language              NoDaemon
    HANDSHAKE_SUCCEEDED, again   the line dropped, and is back: what was asked over    ask again, at once
                                 the lost one gets no answer

A single hang-up is no reason: the daemon does that to everybody when it revokes a key. Deliberately left out: silence,
which has no event (`ponder.client`).
"""

from __future__ import annotations

import struct
from typing import Any, Generic, TypeVar  # Any: what a socket gives, bytes or a future of them

import zmq

from ponder.errors import NoDaemon, Refused
from ponder.remote import Elsewhere, Server

EVENTS = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
)
HANG_UPS = 8
"""So many in a row are no accident; the next try comes a tenth of a second after each. Whoever speaks another language
hangs up, too, when he is quicker than we are to see that he does: so he is asked."""


Line = TypeVar("Line", bound=zmq.Socket[Any])


class Handshakes(Generic[Line]):
    """Those of one socket, which is not connected yet."""

    def __init__(self, line: Line, server: Elsewhere) -> None:
        self.monitor: Line = line.get_monitor_socket(EVENTS)
        """Consumed by whoever uses the line, message by message."""
        self._server = server
        self._hang_ups = 0
        self._lines = 0

    def see(self, message: list[bytes]) -> bool:
        """Take one of the monitor's messages; whether it says that the line is another one than before.

        Raises Refused or NoDaemon when it says that nobody will ever answer.
        """
        event, _ = struct.unpack("=hi", message[0])  # zmq.utils.monitor would do it, and costs asyncio
        self._hang_ups = self._hang_ups + 1 if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL else 0
        if isinstance(self._server, Server):
            self._explain(event, self._server)
        self._lines += event == zmq.EVENT_HANDSHAKE_SUCCEEDED
        return event == zmq.EVENT_HANDSHAKE_SUCCEEDED and self._lines > 1

    def _explain(self, event: int, server: Server) -> None:
        """Raise what an event means over the network."""
        key = server.key.name
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            hint = f"`ponder key list` over there shows whether `{key}` is let in; `ponder key add` makes a key"
            raise Refused("forbidden", f"`{server}` does not let in the key `{key}`", hint)
        is_hung_up_on = self._hang_ups >= HANG_UPS
        if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL or (is_hung_up_on and server.speaks_another_language()):
            hint = "`ponder status` over there says at which address it serves"
            raise NoDaemon(f"what answers at `{server}` is no daemon of ponder's", hint)
        if is_hung_up_on:
            hint = "PONDER_KEY names the file of another daemon, or this one has a new key: `ponder key add` over there"
            raise NoDaemon(f"`{server}` is not the daemon that made the key `{key}`", hint)

    def close(self) -> None:
        self.monitor.close(linger=0)
