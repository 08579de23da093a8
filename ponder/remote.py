"""A daemon on another machine: where it is, the key that lets us in, and how a socket is made to use both.

    PONDER_SERVER=tcp://HOST:PORT      the daemon's `ctl`; its `feed` is at the port after it
    PONDER_KEY=FILE                    what `ponder key add` made there, carried here; 0600

Without PONDER_SERVER the daemon is this user's own. Everything that passes is encrypted, and the daemon is known by the
key in the file: nobody can pose as it. Deliberately left out: the files of keys (`ponder.keys`).
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: what a socket gives, bytes or a future of them

from ponder.errors import UsageError

if TYPE_CHECKING:
    import zmq

    from ponder.keys import ClientKey

CONNECT_S = 5.0
PLACES = {"ctl": 0, "feed": 1}
"""How far each socket's port lies behind the named one. Trainers (`ingest`) are local, always."""


@dataclass(frozen=True)
class Server:
    """A daemon that is reached over the network."""

    host: str
    port: int
    key: ClientKey

    def __str__(self) -> str:
        return f"tcp://{self.host}:{self.port}"

    def endpoint(self, name: str) -> str:
        return f"tcp://{self.host}:{self.port + PLACES[name]}"

    def arm(self, line: zmq.Socket[Any]) -> None:
        """Make a fresh socket speak with our key, to that daemon only."""
        import zmq

        line.setsockopt(zmq.CURVE_SERVERKEY, self.key.server.encode())
        line.setsockopt(zmq.CURVE_PUBLICKEY, self.key.public.encode())
        line.setsockopt(zmq.CURVE_SECRETKEY, self.key.secret.encode())
        line.setsockopt(zmq.HEARTBEAT_IVL, 5000)
        line.setsockopt(zmq.HEARTBEAT_TIMEOUT, 15000)
        line.setsockopt(zmq.IPV6, 1)

    def is_listening(self) -> bool:
        """Whether anybody takes connections there."""
        try:
            with socket.create_connection((self.host.strip("[]"), self.port), CONNECT_S):
                return True
        except OSError:
            return False


def find_server() -> Server | None:
    """The daemon that the environment names; None for this user's own. Raises UsageError or StoreError."""
    named = os.environ.get("PONDER_SERVER", "")
    if not named:
        return None
    match = re.fullmatch(r"tcp://([\w.-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})", named)
    if match is None or not 0 < int(match[2]) < 0xFFFF:
        raise UsageError(f"PONDER_SERVER is `{named}`, which is not tcp://HOST:PORT", "for example tcp://box:7766")
    file = os.environ.get("PONDER_KEY", "")
    if not file:
        raise UsageError("PONDER_SERVER wants PONDER_KEY too", "the file that `ponder key add NAME` made over there")
    from ponder.keys import read_client_key

    return Server(match[1], int(match[2]), read_client_key(Path(file).expanduser()))
