"""The real daemon as one of a later ponder would be: it speaks the next protocol, and no older one."""

from __future__ import annotations

import sys

from daemon.__main__ import main
from ponder import wire

if __name__ == "__main__":
    wire.PROTOCOL += 1
    sys.exit(main(worker="tests.peers.fake_trainer"))
