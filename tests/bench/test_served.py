"""A benchmark ends what it started, however it is cut short."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from bench.console import submit
from bench.served import daemon, private_home
from daemon.processes import is_attempt_alive


def press_ctrl_c() -> None:
    raise KeyboardInterrupt


def be_told_to_end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()


@pytest.mark.parametrize(("cut", "kind"), [(press_ctrl_c, KeyboardInterrupt), (be_told_to_end, SystemExit)])
def test_a_benchmark_that_is_cut_short_leaves_no_trainer(cut: Callable[[], None], kind: type[BaseException]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with private_home() as paths:
        with pytest.raises(kind), daemon(paths, "bench.console_trainer") as client:
            run = paths.run(submit(client, "steady", 50))
            assert is_attempt_alive(run)
            cut()
        assert not is_attempt_alive(run)
    assert signal.getsignal(signal.SIGTERM) is before
