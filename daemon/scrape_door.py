"""Where the daemon's metrics are scraped, while a person wants that: `ponder up --metrics 127.0.0.1:9480`.

    HOME/metrics.listen    HOST:PORT; without the file nothing listens
    the address is bound here ──► a program of its own answers at it (`daemon.scraped`), again when it dies

So an address that cannot be had is known at once, no scrape holds up a commit, and between two lives of the program
callers wait instead of being turned away. It ends with the daemon, whose pipe it holds. Deliberately left out: what is
told (`ponder.scrape`).
"""

from __future__ import annotations

import socket
import subprocess
import sys

from daemon.log import say
from ponder import scrape
from ponder.client import child_environment
from ponder.errors import PonderError
from ponder.paths import Paths

PROGRAM = "daemon.scraped"
REST_S = 2.0
"""Between two tries to bind, and two starts of the program."""


class ScrapeDoor:
    """Used from the daemon's one thread; values may be read by any."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._socket: socket.socket | None = None
        self._program: subprocess.Popen[bytes] | None = None
        self._rest_until = 0.0
        self._wanted = ""
        self.address = ""
        """Where it is answered, as HOST:PORT; empty while it is not."""
        self.trouble = ""

    def look(self, now: float) -> None:
        """Make true what the file says."""
        wanted = scrape.read_wanted(self._paths)
        if wanted != self._wanted:
            self.close()
            self._wanted, self._rest_until = wanted, 0.0
        if not wanted or now < self._rest_until:
            return
        if self._program is not None and self._program.poll() is not None:
            say(f"what answers scrapes ended with {self._program.returncode}; started again")
            self._program, self._rest_until = None, now + REST_S
            return
        if self._program is None:
            self._rest_until = now + REST_S
            try:
                self._open(wanted)
            except (PonderError, OSError) as error:
                self.trouble = error.message if isinstance(error, PonderError) else f"metrics cannot be served: {error}"

    def close(self) -> None:
        """Nothing listens any more."""
        if self._program is not None:
            self._program.kill()  # it keeps nothing
            self._program.communicate()
        if self._socket is not None:
            self._socket.close()
        self._program = self._socket = None
        self.address = self.trouble = ""

    def _open(self, address: str) -> None:
        host, port = scrape.read_address(address)
        if not scrape.is_local(host):
            raise PonderError(f"metrics are not served at `{address}`: other machines can reach it")
        if self._socket is None:
            self._socket = scrape.bind(host, port)
            say(f"serving metrics at http://{address}{scrape.PATH}")
        self._program = subprocess.Popen(
            [sys.executable, "-P", "-m", PROGRAM, str(self._socket.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=child_environment(self._paths),
            pass_fds=[self._socket.fileno()],
            start_new_session=True,
        )
        self.address, self.trouble = address, ""
