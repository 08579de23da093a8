"""What a service manager hears of the daemon."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from daemon.notify import Notify
from ponder.events import RunState
from tests.daemon.conftest import Home


@pytest.fixture
def manager(home: Home) -> socket.socket:
    """A socket at which a service manager would listen, in a folder short enough for the kernel."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(home.paths.runtime / "notify"))
    listening.settimeout(10)
    return listening


def test_the_daemon_says_when_it_is_ready_that_it_turns_and_when_it_stops(
    home: Home, manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with manager:
        monkeypatch.setenv("NOTIFY_SOCKET", str(home.paths.runtime / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "300000")
        daemon = home.spawn()
        ready = manager.recv(4096).decode()
        assert ready.startswith("READY=1\n") and f"MAINPID={daemon.pid}" in ready
        run = home.submit(steps=4000, step_s=0.02)
        home.wait_state(run, RunState.RUNNING)
        trainer = Path(f"/proc/{home.trainer_pid(run)}/environ").read_bytes()
        assert b"NOTIFY_SOCKET" not in trainer and b"WATCHDOG" not in trainer
        assert [manager.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        daemon.send_signal(signal.SIGTERM)
        words = b"WATCHDOG=1"
        while words == b"WATCHDOG=1":
            words = manager.recv(4096)
        assert words.startswith(b"STOPPING=1\n")
        assert daemon.wait(10) == 0
    home.start()
    assert home.wait_state(run, RunState.RUNNING).attempt == 1, "its trainer lived on"


def test_a_name_in_the_abstract_space_is_understood() -> None:
    name = f"ponder-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.settimeout(5)
        Notify({"NOTIFY_SOCKET": f"@{name}"}).ready("here")
        assert manager.recv(4096).startswith(b"READY=1\nSTATUS=here")


def test_without_a_manager_or_with_one_that_is_gone_nothing_happens(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "1000"}):
        notify = Notify(dict(environment))
        notify.ready("here")
        notify.turn(1.0)
        notify.stopping()


def test_a_watchdog_of_another_process_is_not_ours() -> None:
    environment = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1", "HOME": "/"}
    notify = Notify(environment)
    assert environment == {"HOME": "/"}
    assert notify._every_s == 0.0
