"""`python -m tests.tui.screens_console STORE`: the console on this terminal, over a store instead of a daemon."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from ponder.paths import find_paths
from tests.tui.reader_client import ReaderClient
from tests.tui.screens import LOG
from tui.habits import read_habits
from tui.session import present


def main() -> int:
    """Run it; the exit code is the console's."""
    habits = read_habits(find_paths()) if "PONDER_HOME" in os.environ else None
    code, words = asyncio.run(present(ReaderClient(Path(sys.argv[1]), LOG), habits=habits))
    print(words)
    return code


if __name__ == "__main__":
    sys.exit(main())
