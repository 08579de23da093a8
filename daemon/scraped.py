"""Answers scrapes at a socket that the daemon has bound, until the daemon is gone.

    python -P -m daemon.scraped DESCRIPTOR

It ends when its stdin does, which is the daemon's pipe. Deliberately left out: the address (`daemon.scrape_door`), and
what is told (`ponder.scrape`).
"""

from __future__ import annotations

import socket
import sys
import threading

from daemon.program import run_program
from ponder.paths import find_paths
from ponder.scrape import ScrapeServer


def act(descriptor: int) -> None:
    with ScrapeServer(find_paths(), socket.socket(fileno=descriptor)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.buffer.read()
        server.shutdown()


if __name__ == "__main__":
    sys.exit(run_program(lambda: act(int(sys.argv[1]))))
