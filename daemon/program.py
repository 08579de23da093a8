"""How a program that a command starts behaves.

It goes second where it is told to, says what takes long, and ends done, with an error in words, or interrupted; never
with a traceback.

Deliberately left out: whether a trainer lives beside it (`daemon.beside`), and what the programs do (`daemon.chat`,
`daemon.measure`, `daemon.causal`, `daemon.ladder`, `daemon.rm_server`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

from ponder.errors import INTERRUPTED_EXIT_CODE, PonderError
from ponder.output import say, show_error, stop_writing, write_over

SAY_AFTER_S = 2.0
NICENESS = 10


def run_program(act: Callable[[], None], interrupted: str = "") -> int:
    """Do it with files for the user alone; the exit code. `interrupted` is said after Ctrl-C."""
    os.umask(0o077)
    try:
        act()
        sys.stdout.flush()
    except PonderError as error:
        show_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        say(interrupted)
        return INTERRUPTED_EXIT_CODE
    except OSError as error:
        return stop_writing(error)
    return 0


def give_way() -> None:
    """Let a trainer on the same cores go first."""
    with contextlib.suppress(OSError):
        os.nice(NICENESS)


@contextlib.contextmanager
def told_while(what: str | Callable[[], str]) -> Iterator[None]:
    """Say what takes so long, if it does, and for how long on a terminal; a function says how far it is."""
    say_what = what if callable(what) else lambda: what
    done = threading.Event()
    is_terminal = sys.stderr.isatty()

    def tell() -> None:
        began_s = time.monotonic()
        if done.wait(SAY_AFTER_S):
            return
        if not is_terminal:
            say(say_what())
            return
        while not done.wait(0.5):
            write_over(f"{say_what()}, {time.monotonic() - began_s:.0f} s")
        write_over("")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
