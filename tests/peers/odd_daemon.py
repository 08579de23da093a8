"""The real daemon over odd trainers, and with their clock where that is what is odd."""

from __future__ import annotations

import os
import sys

from daemon.__main__ import main
from tests.peers.odd_trainer import ODDITY, become_odd

if __name__ == "__main__":
    if os.environ[ODDITY] == "jumping clock":
        become_odd()
    sys.exit(main(worker="tests.peers.odd_trainer", backoff_s=(0.05, 0.05, 0.05)))
