"""Memory that a step no longer needs goes back to the system."""

from __future__ import annotations

import platform

import psutil
import pytest

from trainer.memory import give_back


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps such holes, and can give them back")
def test_holes_in_the_heap_go_back_to_the_system() -> None:
    process = psutil.Process()
    pieces = [bytes(64 << 10) + bytes([n & 255]) for n in range(4000)]  # 256 MB, in the heap
    kept = pieces[::400]
    full = process.memory_info().rss
    del pieces
    give_back()
    assert full - process.memory_info().rss > 150 << 20
    assert len(kept) == 10
