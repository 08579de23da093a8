"""Another program on this terminal, while the console waits behind it.

Ctrl-C belongs to that program alone. Deliberately left out: which programs (the screens), and their words.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence

from textual.app import App, SuspendNotSupported

from ponder.client import child_environment
from ponder.errors import UsageError
from ponder.paths import find_paths


def run_ponder(app: App[int], words: Sequence[str], is_read: bool = False) -> int:
    """Run `ponder words...` in the console's place; its exit code. UsageError where there is no terminal to lend.

    What went wrong stays to be read until Enter is pressed; with `is_read`, what it says, too.
    """
    command = [sys.executable, "-P", "-m", "ponder.cli", *words]
    before = signal.signal(signal.SIGINT, lambda *_: None)  # not SIG_IGN, which the program would inherit
    try:
        with app.suspend():
            code = subprocess.run(command, env=child_environment(find_paths()), check=False).returncode
            if code or is_read:
                _wait_for_enter()
    except SuspendNotSupported:
        raise UsageError("this terminal cannot be lent", f"`ponder {' '.join(words)}` does it from a shell") from None
    finally:
        signal.signal(signal.SIGINT, before)
    return code


def _wait_for_enter() -> None:
    sys.stdout.write("Enter goes back to the console ")
    sys.stdout.flush()
    sys.stdin.readline()
