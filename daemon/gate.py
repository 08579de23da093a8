"""The door to the network: who comes in, who is turned away, and what each may ask.

    a caller ──► CURVE handshake ──► its public key, asked of `answer_callers` (ZAP, RFC 27), in the daemon's thread
             ──► `ctl`, a second ROUTER; every frame carries the key it came with, and the key has a role *now*
             ──► `feed`, a second XPUB; whoever loses his key is hung up on with all the others, who come back; a key
                 that reads no thoughts hears the bell alone

There is no door until `ponder up --tcp` names an address and one key is allowed; without an answer from here libzmq
lets nobody in (ZAP_ENFORCE_DOMAIN). The folder of keys is looked at in every turn, before anything is read, so that a
key that was revoked is worth nothing from then on. Trainers have no door. Deliberately left out: the files of keys
(`ponder.keys`), and what a role may ask (`daemon.rights`).
"""

from __future__ import annotations

import time

import zmq
from zmq.utils import z85

from daemon.feed import Feed, Outlet
from daemon.log import say
from daemon.sockets import open_socket
from ponder.errors import PonderError, StoreError
from ponder.hidden import View
from ponder.keys import Allowed, KeyRing, parse_address
from ponder.remote import PLACES

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ZAP_DOMAIN = b"ponder"
REBIND_S = 0.2
"""A port that was just let go may be taken for a moment."""
RETRY_S = 2.0
YOUNG_NS = 1_000_000_000
"""A folder that changed so lately may change again without a new time: it is read again."""


class Gate:
    """The sockets of the network, while there are any. Used from the daemon's one thread; values may be read by any."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: KeyRing, feed: Feed) -> None:
        self._context, self._keys, self._feed = context, keys, feed
        self.zap: zmq.Socket[bytes] = context.socket(zmq.REP)
        self.zap.setsockopt(zmq.LINGER, 0)
        self.zap.bind(ZAP_ENDPOINT)  # before anything that asks it
        self.ctl: zmq.Socket[bytes] | None = None
        self._outlet: Outlet | None = None
        self.address = ""
        """Where it serves, as HOST:PORT; empty while it does not."""
        self.trouble = ""
        self.turned_away = 0
        """Callers whose key is not allowed."""
        self._wanted = ""
        self._allowed: dict[bytes, Allowed] = {}
        self._changed_ns: tuple[int, ...] = ()
        self._retry_due = 0.0

    def look(self, now: float) -> bool:
        """Make true what the folder of keys says; whether sockets came or went."""
        changed_ns = self._keys.changed_ns()
        is_due = bool(self.trouble) and now >= self._retry_due
        is_young = time.time_ns() - max(changed_ns) < YOUNG_NS
        if changed_ns == self._changed_ns and not is_young and not is_due:
            return False
        self._retry_due = now + RETRY_S
        try:
            wanted, keys = self._keys.address(), self._keys.allowed()
            allowed = {key.public.encode(): key for key in keys}
            is_lost = any(
                key not in allowed or allowed[key].thoughts is not known.thoughts
                for key, known in self._allowed.items()
            )
            self._allowed, self._wanted = allowed, wanted if allowed else ""
            is_other = self._wanted != self.address or is_lost
            if is_other:
                self.close()
            if is_other and self._wanted:
                self._open(self._wanted)
            self.trouble = ""
        except (PonderError, OSError) as error:
            is_other, self._allowed = True, {}
            self.close()
            self.trouble = error.message if isinstance(error, PonderError) else f"the keys cannot be read: {error}"
        self._changed_ns = changed_ns
        return is_other

    def answer_callers(self) -> None:
        """Say of each caller's key whether it is allowed."""
        while self.zap.poll(0):
            version, request, domain, _address, _identity, mechanism, *credentials = self.zap.recv_multipart()
            key = z85.encode(credentials[0]) if mechanism == b"CURVE" and credentials else b""
            is_allowed = domain == ZAP_DOMAIN and key in self._allowed
            self.turned_away += not is_allowed
            verdict = (b"200", b"allowed") if is_allowed else (b"400", b"this key is not allowed")
            self.zap.send_multipart([version, request, *verdict, key if is_allowed else b"", b""])

    def receive(self) -> tuple[bytes, list[bytes], Allowed | None]:
        """The next message: who sent it, its frames, and its key as it is allowed now; raises zmq.Again."""
        assert self.ctl is not None
        identity, *frames = self.ctl.recv_multipart(zmq.DONTWAIT, copy=False)
        key = _caller(frames[-1]) if frames else b""
        return identity.bytes, [frame.bytes for frame in frames], self._allowed.get(key)

    def close(self) -> None:
        """Hang up on everybody."""
        if self._outlet is not None:
            self._feed.outlets.remove(self._outlet)
            self._outlet.close()
        if self.ctl is not None:
            self.ctl.close(linger=0)
        self.ctl = self._outlet = None
        self.address = ""
        self._changed_ns = ()

    # ---- inside

    def _open(self, address: str) -> None:
        self.ctl = self._bound("ctl")
        self._outlet = Outlet(lambda: self._bound("feed"), hears_all=self._hears_all)
        self._feed.outlets.append(self._outlet)
        self.address = address
        say(f"serving tcp {address}, keys: {len(self._allowed)}")

    def _hears_all(self, subscription: zmq.Frame) -> bool:
        """Whether texts of answers may pass to whoever subscribes here."""
        allowed = self._allowed.get(_caller(subscription))
        return allowed is not None and allowed.thoughts is View.RAW

    def _bound(self, name: str) -> zmq.Socket[bytes]:
        """A socket for CURVE only, bound; StoreError when that cannot be."""
        host, port = parse_address(self._wanted)
        socket = open_socket(self._context, name)
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._keys.server_pair().secret.encode())
        socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        socket.setsockopt(zmq.HEARTBEAT_IVL, 5000)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 15000)
        socket.setsockopt(zmq.IPV6, ":" in host)
        if name == "feed":
            socket.setsockopt(zmq.XPUB_MANUAL, 1)
        deadline = time.monotonic() + REBIND_S
        while True:
            try:
                socket.bind(
                    f"tcp://[{host}]:{port + PLACES[name]}" if ":" in host else f"tcp://{host}:{port + PLACES[name]}"
                )
                return socket
            except zmq.ZMQError as error:
                if error.errno != zmq.EADDRINUSE or time.monotonic() > deadline:
                    socket.close(linger=0)
                    raise StoreError(f"tcp {host}:{port + PLACES[name]} cannot be bound: {error.strerror}") from error
                time.sleep(0.005)


def _caller(frame: zmq.Frame) -> bytes:
    """The public key that a frame came with, as `answer_callers` told it to ZeroMQ.

    Empty for what ZeroMQ itself says of a subscriber that is gone.
    """
    try:
        return str(frame.get("User-Id")).encode()
    except zmq.ZMQError:
        return b""
