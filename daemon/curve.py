"""Sockets of the network that speak CURVE only, and who is let in to them.

    a caller ──► CURVE handshake ──► its public key, asked of `answer_callers` (ZAP, RFC 27)

Without an answer libzmq lets nobody in (ZAP_ENFORCE_DOMAIN). Deliberately left out: which keys are allowed
(`ponder.keys`), and what is said over the sockets.
"""

from __future__ import annotations

import time
from collections.abc import Container

import zmq
from zmq.utils import z85

from ponder.errors import StoreError
from ponder.keys import KeyRing

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ZAP_DOMAIN = b"ponder"
REBIND_S = 0.2
"""A port that was just let go may be taken for a moment."""


def open_zap(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """Where this context's sockets ask who is allowed; opened before any of them."""
    zap: zmq.Socket[bytes] = context.socket(zmq.REP)
    zap.setsockopt(zmq.LINGER, 0)
    zap.bind(ZAP_ENDPOINT)
    return zap


def answer_callers(zap: zmq.Socket[bytes], allowed: Container[bytes]) -> int:
    """Say of each caller's key whether it is allowed; how many were not."""
    turned_away = 0
    while zap.poll(0):
        version, request, domain, _address, _identity, mechanism, *credentials = zap.recv_multipart()
        key = z85.encode(credentials[0]) if mechanism == b"CURVE" and credentials else b""
        is_allowed = domain == ZAP_DOMAIN and key in allowed
        turned_away += not is_allowed
        verdict = (b"200", b"allowed") if is_allowed else (b"400", b"this key is not allowed")
        zap.send_multipart([version, request, *verdict, key if is_allowed else b"", b""])
    return turned_away


def key_of(frame: zmq.Frame) -> bytes:
    """The public key that this frame came with; empty for what ZeroMQ itself says of a subscriber that is gone."""
    try:
        return str(frame.get("User-Id")).encode()
    except zmq.ZMQError:
        return b""


def bind_tcp(socket: zmq.Socket[bytes], keys: KeyRing, host: str, port: int) -> None:
    """Serve holders of keys at HOST:PORT, for 0 at any port; StoreError, and the socket closed, when that cannot be."""
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.server_pair().secret.encode())
    socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    socket.setsockopt(zmq.HEARTBEAT_IVL, 5000)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 15000)
    socket.setsockopt(zmq.IPV6, ":" in host)
    place = f"[{host}]" if ":" in host else host
    deadline = time.monotonic() + REBIND_S
    while True:
        try:
            socket.bind(f"tcp://{place}:{port or '*'}")
            return
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE or time.monotonic() > deadline:
                socket.close(linger=0)
                raise StoreError(f"tcp {host}:{port} cannot be bound: {error.strerror}") from error
            time.sleep(0.005)
