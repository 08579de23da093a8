"""The daemon's sockets with their limits: how large a frame may be, how many may wait, how long a greeting may take.

Deliberately left out: where they are bound (`daemon.__main__` locally, `daemon.gate` on the network, `daemon.crew_door`
by a trainer).
"""

from __future__ import annotations

import zmq

from ponder import crew, wire

SUBSCRIBER_QUEUE = 100
CLIENT_QUEUE = 100
PEER_QUEUE = 100
"""Frames of one peer that wait to be read; a trainer has two at most on their way."""
TOPIC_BYTES = 1024
"""Of a subscription; CURVE's longest greeting takes 400."""
HALF_OPEN_S = 5.0
"""So long a connection may take to say that it speaks ZeroMQ."""
MOST_BYTES = {
    "ctl": wire.MAX_REQUEST_BYTES,
    "ingest": wire.MAX_BATCH_BYTES,
    "feed": TOPIC_BYTES,
    "crew": crew.MOST_BYTES,
}


def open_socket(context: zmq.Context[zmq.Socket[bytes]], name: str) -> zmq.Socket[bytes]:
    """`ctl`, `ingest` or `crew`, a ROUTER, or `feed`, an XPUB; not bound yet."""
    socket = context.socket(zmq.XPUB if name == "feed" else zmq.ROUTER)
    socket.setsockopt(zmq.LINGER, 200)
    socket.setsockopt(zmq.HANDSHAKE_IVL, int(HALF_OPEN_S * 1000))
    socket.setsockopt(zmq.MAXMSGSIZE, MOST_BYTES[name])
    if name == "feed":
        socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        socket.setsockopt(zmq.SNDHWM, SUBSCRIBER_QUEUE)
    else:
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.SNDHWM, CLIENT_QUEUE)
        socket.setsockopt(zmq.RCVHWM, PEER_QUEUE)
    return socket
