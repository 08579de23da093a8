"""Words to the service manager that started this daemon: ready, still turning, stopping; silence where there is none.

    NOTIFY_SOCKET   where it listens: a datagram socket by path, or by `@name` in the abstract space
    WATCHDOG_USEC   how long it waits for a sign before it ends and restarts us

The protocol is sd_notify(3)'s, a line a datagram. Both variables are taken out of the environment, so that no trainer
speaks for the daemon. Deliberately left out: the unit (`ponder.service`).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping

SIGNS_A_TURN = 3
"""So many signs fit into the time after which the manager gives up."""


class Notify:
    """Tells the service manager how the daemon is; nobody is waited for."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        address = environment.pop("NOTIFY_SOCKET", "")
        patience_us = environment.pop("WATCHDOG_USEC", "")
        is_ours = environment.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._every_s = int(patience_us) / 1e6 / SIGNS_A_TURN if is_ours and patience_us.isdigit() else 0.0
        self._due = 0.0

    def ready(self, what: str) -> None:
        """The sockets are bound and the runs are found again."""
        self._say(f"READY=1\nSTATUS={what}\nMAINPID={os.getpid()}")

    def turn(self, now: float) -> None:
        """The loop still turns; said as often as the manager wants to hear it."""
        if self._every_s and now >= self._due:
            self._due = now + self._every_s
            self._say("WATCHDOG=1")

    def stopping(self) -> None:
        """The daemon ends; trainers go on."""
        self._say("STOPPING=1\nSTATUS=ending; trainers go on")

    def _say(self, words: str) -> None:
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out,
        ):
            out.setblocking(False)  # a manager that does not read is not waited for
            out.sendto(words.encode(), self._address)
