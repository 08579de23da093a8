"""The real daemon with `fake_trainer` as its worker and short waits before a restart."""

from __future__ import annotations

import sys

from daemon.__main__ import main

if __name__ == "__main__":
    sys.exit(main(worker="tests.peers.fake_trainer", backoff_s=(0.05, 0.05, 0.05)))
