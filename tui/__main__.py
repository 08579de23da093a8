"""`python -P -m tui [RUN] [--readonly] [--ascii]`: the first and last lines, so that Ctrl-C always has an answer.

    ponder ── holds SIGINT back, starts us ──► here: let it through where it can be caught ──► tui.session
    the end ──► SIGINT is ignored, for Python itself would answer it with a traceback

Nothing is imported up here but `sys`, which is there already. Deliberately left out: everything else (`tui.session`).
"""

import sys


def main() -> int:
    """Show the console on this terminal; the exit code."""
    try:
        code = _run()
    except KeyboardInterrupt:
        code = _interrupted()
    _ignore_ctrl_c()
    return code


def _run() -> int:
    import signal

    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    from tui.session import run

    return run(sys.argv[1:])


def _interrupted() -> int:
    """What is said when Ctrl-C came before there was a console, which answers it itself."""
    _ignore_ctrl_c()
    from ponder.errors import INTERRUPTED_EXIT_CODE

    print("\ninterrupted; runs go on, `ponder ls` lists them", file=sys.stderr)
    return INTERRUPTED_EXIT_CODE


def _ignore_ctrl_c() -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
