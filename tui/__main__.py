"""`python -P -m tui [RUN] [--readonly] [--ascii]`: the first and last lines, so that Ctrl-C is never a traceback.

    ponder ── holds SIGINT back, starts us ──► here: let it through, deadly as for any program ──► tui.session, which
    takes it over when the console opens ──► the end: ignored, for Python itself would answer it with a traceback

Nothing is imported up here but `sys`, which is there already. Deliberately left out: everything else (`tui.session`).
"""

import sys


def main() -> int:
    """Show the console on this terminal; the exit code."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    import gc

    gc.disable()  # nothing that is made until the first picture is there ever goes; `tui.app` turns it on
    from tui.session import run

    code = run(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return code


if __name__ == "__main__":
    sys.exit(main())
