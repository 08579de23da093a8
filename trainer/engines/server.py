"""JSON over HTTP with the server that samples: the one door of the trainer to a network.

    a try that failed on its way (no connection, no answer in time, a server error) is made again, a few times
    a refusal (4xx) is told at once, with the server's words

Deliberately left out: what is said through it (`trainer.engines.vllm`), and TLS of its own making.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from typing import Any  # Any: what a server says is untyped until somebody has looked at it

from ponder.errors import EngineError, NoSuchRoute

PAUSE_S = 0.2
"""Before the second try; twice as long before each further one."""
SHOWN = 300
"""Characters of a server's words in an error."""


class Server:
    """A server by its address."""

    def __init__(self, url: str, *, timeout_s: float, tries: int) -> None:
        self.url, self._timeout_s, self._tries = url.rstrip("/"), timeout_s, tries

    def get(self, path: str) -> Any:
        """What it says at the path; EngineError when it does not."""
        return self._ask(path, None)

    def post(self, path: str, body: object | None = None) -> Any:
        """What it answers to the body; EngineError when it does not."""
        return self._ask(path, {} if body is None else body)

    def _ask(self, path: str, body: object | None) -> Any:
        for number in range(self._tries):
            if number:
                time.sleep(PAUSE_S * 2 ** (number - 1))
            try:
                return self._once(path, body)
            except urllib.error.HTTPError as error:
                words = error.read(4 * SHOWN).decode(errors="replace")[:SHOWN]
                if error.code == 404:
                    raise NoSuchRoute(f"`{self.url}` has no `{path}`", HINT) from None
                if error.code < 500:
                    raise EngineError(f"`{self.url}` refused `{path}`: {error.code} {words}", HINT) from None
                reason = f"{error.code} {words}"
            except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
                reason = str(getattr(error, "reason", "")) or str(error) or type(error).__name__
        raise EngineError(f"`{self.url}` does not answer `{path}`, after {self._tries} tries: {reason}", HINT)

    def _once(self, path: str, body: object | None) -> Any:
        request = urllib.request.Request(
            f"{self.url}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method="GET" if body is None else "POST",
        )
        with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:
            text = answer.read()
        return json.loads(text) if text else None


HINT = "`vllm.url` says where it is looked for; docs/ENGINES.md has the command that starts one"
