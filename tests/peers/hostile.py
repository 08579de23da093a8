"""Peers that mean no good: frames that are nearly right, frames that are nothing, and callers that speak no ZeroMQ.

All from one seed, so that a failure comes again. Deliberately left out: a sound order to a run that is
there, or to shut down, which the daemon would rightly obey.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import msgspec
import zmq

from daemon.handlers import Acting
from ponder import wire
from ponder.events import Record, encode_record
from ponder.paths import Paths
from tests.peers.messages import invent

FRAMES_A_PEER = 40
"""Fewer than the daemon's patience with one peer: who has lost it is not read, and tries nothing."""
GREETING = bytes.fromhex("ff00000000000000017f0300") + b"NULL".ljust(20, b"\0") + bytes(32)
HUGE = (b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff")
"""Heads of a text, bytes, a list and a map of four milliards of each."""
REQUESTS = [kind for kind in wire.Request.__args__ if kind is not wire.ShutDown]
SOCKETS = {"ctl": zmq.DEALER, "ingest": zmq.DEALER, "feed": zmq.XSUB}

LAST_WORDS = {
    "ctl": wire.encode(wire.Ask("the end", wire.PROTOCOL, wire.GetCommand("x"))),
    "ingest": wire.encode(wire.Hello(wire.PROTOCOL, "the end", 1, 1, 0)),
}
"""What the daemon answers by quoting it."""


def rubbish(name: str, random: Random) -> list[bytes]:
    """A message for the socket of this name that is wrong in one way or several."""
    frame = bytearray(_sound(name, random))
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        _spoil(frame, random)
    if random.random() < 0.05:
        frame = bytearray(random.choice((b"\x91", b"\x81\xa1a", b"\xdd\xff\xff\xff\xff")) * random.randrange(2000))
    if random.random() < 0.1:
        frame = bytearray(random.randbytes(random.choice((0, 1, 5, 60, 3000))))
    return [bytes(frame)] * random.choice((1, 1, 1, 1, 1, 1, 2, 5))


def _sound(name: str, random: Random) -> bytes:
    match name:
        case "ctl":
            request = invent(random.choice(REQUESTS), random)
            if isinstance(request, Acting):
                request = msgspec.structs.replace(
                    request, **dict.fromkeys({"run"} & {*request.__struct_fields__}, "nobody")
                )
            protocol = random.choice((wire.PROTOCOL,) * 5 + (0, 2**64 - 1))
            return msgspec.msgpack.encode({"id": wire.new_id(), "protocol": protocol, "request": request})
        case "ingest":
            kind = random.choice(wire.FromTrainer.__args__)
            if kind is wire.Batch:
                records = [encode_record(invent(Record, random)) for _ in range(random.choice((0, 1, 3)))]
                return wire.encode(wire.Batch("nobody", 1, records))
            return wire.encode(invent(kind, random))
        case _:
            return random.choice((b"\x01bell", b"\x01live.", b"\x01live.nobody", b"\x00bell", b"\x02", b"bell"))


def _spoil(frame: bytearray, random: Random) -> None:
    place = random.randrange(len(frame)) if frame else 0
    match random.randrange(5):
        case 0 if frame:
            frame[place] = random.randrange(256)
        case 1:
            del frame[place:]
        case 2:
            frame[place:place] = random.randbytes(random.randrange(9))
        case 3:
            frame[place:place] = random.choice(HUGE)
        case _:
            del frame[place : place + random.randrange(9)]


def send_rubbish(paths: Paths, context: zmq.Context[zmq.Socket[bytes]], frames: int, random: Random) -> None:
    """So many messages to all sockets, from many connections."""
    sent = 0
    while sent < frames:
        for name, kind in SOCKETS.items():
            peer: zmq.Socket[bytes] = context.socket(kind)
            peer.setsockopt(zmq.LINGER, 2000)
            peer.setsockopt(zmq.SNDTIMEO, 5000)
            peer.connect(paths.endpoint(name))
            for _ in range(FRAMES_A_PEER):
                peer.send_multipart(rubbish(name, random))
                sent += 1
            if name in LAST_WORDS:
                _wait_until_read(peer, LAST_WORDS[name])
            peer.close()


def _wait_until_read(peer: zmq.Socket[bytes], last: bytes) -> None:
    """Return when all that the peer sent was read: what is answered last was sent last.

    Without it thousands of connections would wait at once, each of which costs the daemon memory.
    """
    peer.send(last)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if peer.poll(100) and b"the end" in peer.recv_multipart()[-1]:
            return
    raise AssertionError("a peer that makes sense at last was not answered")


def call_raw(path: Path, random: Random) -> None:
    """A caller who speaks no ZeroMQ, or begins to and then does not go on."""
    greeting = bytearray(GREETING)
    for _ in range(random.choice((0, 0, 1, 3))):
        _spoil(greeting, random)
    said = random.choice(
        (
            random.randbytes(random.randrange(200)),
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            bytes(greeting),
            GREETING + b"\x04\x26\x05READY" + random.randbytes(random.randrange(60)),
            GREETING + bytes([random.randrange(8)]) + b"\xff" * 8 + random.randbytes(20),
        )
    )
    with connected(path) as caller, contextlib.suppress(OSError):
        for start in range(0, len(said), piece := random.choice((1000, 1000, 7))):
            caller.sendall(said[start : start + piece])


@contextlib.contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    """A bare connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(5)
        deadline = time.monotonic() + 5
        while True:
            try:
                caller.connect(str(path))
                break
            except BlockingIOError:  # so many callers before us that one more cannot even wait
                assert time.monotonic() < deadline
                time.sleep(0.001)
        yield caller
