"""A daemon on another machine: where it is, and how a socket reaches it.

    --connect  PONDER_SERVER=tcp://HOST:PORT   the daemon's `ctl`; its `feed` is at the port after it
    --key      PONDER_KEY=FILE                 what `ponder key add` made there, carried here; 0600
    --host     PONDER_HOST=USER@HOST           by ssh, as that user, who may do everything (`ponder.ssh_line`)
               PONDER_SERVER=ipc://FOLDER      a line by ssh that stands already: said by ponder to its own programs

Without any of them the daemon is this user's own. Over tcp everything is encrypted, and the daemon is known by the key
in the file: nobody can pose as it; over ssh that is ssh's affair. Deliberately left out: the files of keys
(`ponder.keys`).
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol  # Any: what a socket gives, bytes or a future of them

from ponder.errors import NoDaemon, UsageError

if TYPE_CHECKING:
    import zmq

    from ponder.keys import ClientKey

SERVER, KEY, HOST, HOST_PONDER = "PONDER_SERVER", "PONDER_KEY", "PONDER_HOST", "PONDER_HOST_PONDER"
"""The variables of the environment, which programs that a command starts inherit."""
OPTIONS = {"host": HOST, "host_ponder": HOST_PONDER, "connect": SERVER, "key": KEY}
"""What `ponder` takes before its verb, and the variable that says the same."""
STANDING_LINE = "ipc://"
CONNECT_S = 5.0
GREETING_S = 1.0
PLACES = {"ctl": 0, "feed": 1}
"""How far each socket's port lies behind the named one. Trainers (`ingest`) are local, always."""
TROUBLE = "trouble"
"""The file beside a line's sockets that says why it is down."""
GREETING = b"\xff"
"""What whoever speaks ZeroMQ says first, unasked."""
VERSION_3 = b"\xff\0\0\0\0\0\0\0\1\x7f" + b"\3\1"
"""How a greeting begins (ZMTP 3.1, RFC 37); the other side then says its mechanism, before it has heard ours."""
MECHANISM, CURVE = slice(12, 32), b"CURVE".ljust(20, b"\0")


class Elsewhere(Protocol):
    """A daemon that is not this user's own; as text, what a person calls it."""

    def endpoint(self, name: str) -> str:
        """Where its socket of this name is."""
        ...

    def arm(self, line: zmq.Socket[Any]) -> None:
        """Make a fresh socket fit to be connected there."""
        ...

    def is_listening(self) -> bool:
        """Whether anybody takes connections there."""
        ...

    def absence(self) -> NoDaemon:
        """What to say when nobody does."""
        ...


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
        """Make it speak with our key, to that daemon only."""
        import zmq

        line.setsockopt(zmq.CURVE_SERVERKEY, self.key.server.encode())
        line.setsockopt(zmq.CURVE_PUBLICKEY, self.key.public.encode())
        line.setsockopt(zmq.CURVE_SECRETKEY, self.key.secret.encode())
        line.setsockopt(zmq.HEARTBEAT_IVL, 5000)
        line.setsockopt(zmq.HEARTBEAT_TIMEOUT, 15000)
        line.setsockopt(zmq.IPV6, 1)

    def is_listening(self) -> bool:
        try:
            with socket.create_connection((self.host.strip("[]"), self.port), CONNECT_S):
                return True
        except OSError:
            return False

    def speaks_another_language(self) -> bool:
        """Whether whoever listens there greets with another mechanism than CURVE; one who says nothing is not known."""
        told = b""
        with suppress(OSError), socket.create_connection((self.host.strip("[]"), self.port), GREETING_S) as line:
            line.sendall(VERSION_3)
            while len(told) < MECHANISM.stop and (piece := line.recv(MECHANISM.stop)):
                told += piece
        return len(told) >= MECHANISM.stop and told[MECHANISM] != CURVE

    def absence(self) -> NoDaemon:
        return NoDaemon(f"nobody listens at `{self}`", "`ponder up` starts it over there, with `--tcp`")


@dataclass(frozen=True)
class Forwarded:
    """A daemon whose sockets ssh has brought into a folder of this machine."""

    host: str
    folder: Path

    def __str__(self) -> str:
        return self.host

    def place(self, name: str) -> Path:
        return self.folder / name

    def endpoint(self, name: str) -> str:
        return f"{STANDING_LINE}{self.place(name)}"

    def arm(self, line: zmq.Socket[Any]) -> None:
        """Nothing to do: ssh has locked the door."""

    def is_listening(self) -> bool:
        """Whether the daemon itself is there: ssh takes every connection, and ends it when nobody is behind it."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(CONNECT_S)
            try:
                probe.connect(os.fspath(self.place("ctl")))
                return probe.recv(1) == GREETING
            except OSError:
                return False

    def absence(self) -> NoDaemon:
        try:
            words = (self.folder / TROUBLE).read_text(encoding="utf-8")
        except OSError:
            return NoDaemon(f"no daemon answers on `{self.host}`", f"`ssh {self.host} ponder up` starts it")
        return NoDaemon(f"the line to `{self.host}` is down: {words}", "it is tried again until this command ends")


def named_elsewhere() -> str:
    """What the environment calls a daemon of another machine; empty for this user's own."""
    return os.environ.get(HOST, "") or os.environ.get(SERVER, "")


def from_verb(arguments: Sequence[str]) -> list[str]:
    """The arguments of `ponder` from the verb on.

    >>> from_verb(["--host", "user@box", "watch", "--plain"])
    ['watch', '--plain']
    """
    words = list(arguments)
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if words and option.removeprefix("--").replace("-", "_") in OPTIONS:
            words.pop(0)
    return words


def ponder_words() -> str:
    """How a command begins that is to reach the same daemon again."""
    host, server = os.environ.get(HOST, ""), os.environ.get(SERVER, "")
    if host:
        return f"ponder --host {host}"
    return f"ponder --connect {server} --key {os.environ.get(KEY, 'FILE')}" if server else "ponder"


def find_server() -> Elsewhere | None:
    """The daemon that the environment names; None for this user's own.

    A line by ssh that does not stand yet is made now, and stands for this process and what it becomes or starts.
    Raises UsageError, StoreError, or NoDaemon when ssh does not come through.
    """
    named, host = os.environ.get(SERVER, ""), os.environ.get(HOST, "")
    if host and named.startswith(STANDING_LINE):
        return Forwarded(host, Path(named.removeprefix(STANDING_LINE)))
    if host and named:
        raise UsageError(f"{HOST} and {SERVER} name two daemons", f"`unset {HOST}`, or `unset {SERVER}`")
    if host:
        from ponder.ssh_line import open_line

        folder = open_line(host)
        os.environ[SERVER] = f"{STANDING_LINE}{folder}"
        return Forwarded(host, folder)
    return _find_listener(named) if named else None


def _find_listener(named: str) -> Server:
    match = re.fullmatch(r"tcp://([\w.-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})", named)
    if match is None or not 0 < int(match[2]) < 0xFFFF:
        hint = "for example tcp://box:7766"
        raise UsageError(f"`--connect` or {SERVER} is `{named}`, which is not tcp://HOST:PORT", hint)
    file = os.environ.get(KEY, "")
    if not file:
        hint = "it is the file that `ponder key add NAME` made over there"
        raise UsageError(f"`--connect` wants `--key FILE` too, or {SERVER} wants {KEY}", hint)
    from ponder.keys import read_client_key

    return Server(match[1], int(match[2]), read_client_key(Path(file).expanduser()))
