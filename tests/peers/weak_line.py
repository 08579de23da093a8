"""A line that drags, drops in the middle of a word, and is down for a while: a proxy for a daemon's two ports.

All from one seed, so that a failure comes again. Deliberately left out: damaged bytes, which TCP does not let through.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from random import Random
from types import TracebackType
from typing import Self

PORTS = 2
CHUNK_BYTES = 4096


class WeakLine:
    """Takes connections at `port` and the port after it, for those of the daemon. Use as a context manager."""

    def __init__(
        self, port: int, target: int, *, delay_s: float = 0.0, cut_after: tuple[int, int] | None = None,
        target_host: str = "127.0.0.1",
    ) -> None:  # fmt: skip
        """Each connection is cut after so many bytes, between the two numbers; None lets it live."""
        self.cuts = 0
        self._target_host = target_host
        self._target, self._delay_s, self._cut_after = target, delay_s, cut_after
        self._random, self._lock = Random(1), threading.Lock()
        self._is_down = self._is_over = False
        self._open: set[socket.socket] = set()
        self._doors = [socket.create_server(("127.0.0.1", port + place)) for place in range(PORTS)]
        for place, door in enumerate(self._doors):
            threading.Thread(target=self._take, args=(door, place), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        for door in self._doors:
            door.shutdown(socket.SHUT_RDWR)
            door.close()
        self.drop()

    def drop(self) -> None:
        """Cut every connection there is."""
        with self._lock:
            ends, self._open = self._open, set()
            self.cuts += bool(ends)
        for end in ends:
            _close(end)

    def go_down(self) -> None:
        """Cut every connection, and take no new one."""
        self._is_down = True
        self.drop()

    def come_up(self) -> None:
        self._is_down = False

    def _take(self, door: socket.socket, place: int) -> None:
        while not self._is_over:
            try:
                near, _ = door.accept()
            except OSError:
                return
            if self._is_down:
                _close(near)
                continue
            try:
                far = socket.create_connection((self._target_host, self._target + place))
            except OSError:
                _close(near)
                continue
            with self._lock:
                self._open |= {near, far}
                room = [self._random.randint(*self._cut_after)] if self._cut_after else []
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, sink, room), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, room: list[int]) -> None:
        """Until an end closes, or until both ways have carried as much as there is room for."""
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                time.sleep(self._delay_s)
                if room:
                    data, room[0] = data[: max(0, room[0])], room[0] - len(data)
                sink.sendall(data)
                if room and room[0] <= 0:
                    break
        with self._lock:
            self.cuts += bool(room) and room[0] <= 0 and source in self._open
            self._open -= {source, sink}
        _close(source)
        _close(sink)


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
