"""What all tests share: children get the signals of a terminal, however the tests themselves were started.

A shell starts its background jobs with Ctrl-C ignored, and children inherit that; a test that sends SIGINT to a command
would then wait in vain.
"""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
