"""What all tests share: children get the signals of a terminal, and no test fails for being slow.

A shell starts its background jobs with Ctrl-C ignored, and children inherit that; a test that sends SIGINT to a command
would then wait in vain. Hypothesis measures examples by the clock, which on a busy machine says nothing of them.
"""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("by work, not by the clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("by work, not by the clock")
