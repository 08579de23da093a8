"""How a program that a command starts ends: done, with an error in words, or interrupted; never with a traceback.

Deliberately left out: what the programs do (`daemon.chat`, `daemon.measure`, `daemon.causal`, `daemon.ladder`,
`daemon.rm_server`).
"""

from __future__ import annotations

import os
from collections.abc import Callable

from ponder.errors import INTERRUPTED_EXIT_CODE, PonderError
from ponder.output import say, show_error


def run_program(act: Callable[[], None], interrupted: str = "") -> int:
    """Do it with files for the user alone; the exit code. `interrupted` is said after Ctrl-C."""
    os.umask(0o077)
    try:
        act()
    except PonderError as error:
        show_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        say(interrupted)
        return INTERRUPTED_EXIT_CODE
    return 0
