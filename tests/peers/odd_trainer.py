"""The fake trainer in an odd world: of another protocol, or with a clock that jumps, as `PONDER_TEST_ODDITY` says.

Deliberately left out: more than one oddity at a time.
"""

from __future__ import annotations

import os
import sys
import time

from daemon.worker import main
from ponder import wire
from tests.peers.fake_trainer import train

ODDITY = "PONDER_TEST_ODDITY"
JUMPS_S = (0, -86400, 3600)
_true_ns = time.time_ns


def jumping_ns() -> int:
    """The wall clock of a machine whose clock is set a day back and an hour ahead, every half second."""
    return _true_ns() + JUMPS_S[int(2 * time.monotonic()) % len(JUMPS_S)] * 10**9


def become_odd() -> None:
    """What the environment asks for, in this process."""
    oddity = os.environ[ODDITY]
    if oddity == "jumping clock":
        time.time_ns = jumping_ns
    else:
        wire.PROTOCOL += {"older": -1, "newer": 1}[oddity]


if __name__ == "__main__":
    become_odd()
    sys.exit(main(sys.argv[1:], train))
