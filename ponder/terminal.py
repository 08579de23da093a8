"""Giving a terminal back to its shell when the program that had it was killed and could not do so itself.

Deliberately left out: leaving a terminal in peace, which whoever took it does (`tui.driver`).
"""

from __future__ import annotations

import os
import sys
import termios
from typing import Any  # Any: what termios itself says

RESTORE = (
    "\x1b[?2026l\x1b[m\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1016l"
    "\x1b[?2004l\x1b[?2048l\x1b[?1004l\x1b[?7h\x1b[<u\x1b[?1049l\x1b[?25h"
)
"""Ends every mode that the console may have set: styles, mouse, paste, reports, wrapping, keys, screen, cursor."""


def read_modes() -> list[Any]:
    """The settings of the terminal on stdin, as `restore` takes them."""
    return list(termios.tcgetattr(sys.stdin.fileno()))


def restore(modes: list[Any]) -> None:
    """The terminal on stdin and stdout as it was when its modes were read."""
    termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, modes)
    os.write(sys.stdout.fileno(), RESTORE.encode())
