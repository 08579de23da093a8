"""Lines for daemon.log and for a run's log: to stderr, made harmless for who reads them with `cat`; a full disk makes
them fewer and never ends a program. And a log's last word.

Deliberately left out: levels, files and rotation. Prompts, answers and recipes stay out of logs.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path

from ponder.safe_text import safe_text


def say(line: str, *, is_dated: bool = True) -> None:
    """One line."""
    date = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} [{os.getpid()}] " if is_dated else ""
    with contextlib.suppress(OSError):
        print(f"{date}{safe_text(line)}", file=sys.stderr, flush=True)


def say_bug(error: Exception) -> None:
    """The traceback of an exception that nobody expected."""
    say("".join(traceback.format_exception(error)).rstrip())


def last_line(log: Path) -> str:
    """The last line of a log that says something, at most 200 characters of it."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip()[:200] for line in reversed(lines) if line.strip() and not line.startswith("---")), "")
