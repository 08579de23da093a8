"""What all tests share: signals that reach children, code that is compiled once, no deadline, and long files first.

A shell starts its background jobs with Ctrl-C ignored, and children inherit that; a test that sends SIGINT to a command
would then wait in vain. Some machines forbid Python to keep what it has compiled: each of the hundreds of daemons,
trainers and commands that tests start would compile the house again, which takes a daemon a third longer. Hypothesis
measures examples by the clock, which on a busy machine says nothing of them. Where several processes share the files,
one that takes minutes and is handed out last would leave the others idle.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # of children
sys.dont_write_bytecode = False

settings.register_profile("by work, not by the clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("by work, not by the clock")


def pytest_configure(config: pytest.Config) -> None:
    """Have pytest-xdist hand files out in our order; its own begins with those of many tests, which are quick ones."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a process that shares the work, hand out long files first; alone there is nobody to share with."""
    if hasattr(config, "workerinput"):
        items[:] = longest_first(items)


def longest_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Files whose slow tests may take longest, then the rest by size; the tests of a file stay together and in order.

    A test that may take long says so by its `slow` mark, and how long by its time limit.
    """
    limits: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for item in items:
        file = file_of(item)
        limit = item.get_closest_marker("timeout")
        limit_s = float(limit.args[0]) if limit is not None else 1.0
        limits[file] = limits.get(file, 0.0) + limit_s * (item.get_closest_marker("slow") is not None)
        sizes[file] = sizes.get(file, 0) + 1
    files = sorted(limits, key=lambda file: (-limits[file], -sizes[file]))
    places = {file: place for place, file in enumerate(files)}
    return sorted(items, key=lambda item: places[file_of(item)])


def file_of(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]
