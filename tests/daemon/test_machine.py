"""What the daemon says of its machine is what is so: shares between two looks, never more than one look a second."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from daemon.gpus import NO_PACKAGE, look_at_gpus
from daemon.machine import Machine

BUSY = "import time\nprint(flush=True)\nwhile True: pass"
PARENT = f"import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {BUSY!r}])\ntime.sleep(600)"
NESTED = f"""
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {PARENT!r}], env=os.environ | {{"RANK": "1"}})
time.sleep(600)
"""


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does what it can."""
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def burn(process: psutil.Process, seconds: float) -> None:
    """Wait until it has had so much of a processor more."""
    before = process.cpu_times().user
    while process.cpu_times().user < before + seconds:
        process.cpu_times()


def test_a_share_needs_two_looks_and_is_that_of_the_time_between(tmp_path: Path, busy: subprocess.Popen[bytes]) -> None:
    clock = Clock()
    looked = Machine(tmp_path, lambda: {"run-1": busy.pid}, clock)
    first = looked.look()
    assert first.over_s == 0 and first.cpu_share is None
    assert all(row.cpu_share is None for row in first.processes)
    burn(psutil.Process(busy.pid), 0.2)
    clock.now_s += 10.0
    second = looked.look()
    (trainer,) = (row for row in second.processes if row.what == "trainer")
    assert second.over_s == 10.0
    assert trainer.run == "run-1" and trainer.pid == busy.pid
    assert trainer.cpu_share is not None and trainer.cpu_share >= 0.2 / 10.0
    assert second.cpu_share is not None and 0.0 <= second.cpu_share <= 1.0


def test_however_many_ask_it_is_looked_once_a_second(tmp_path: Path) -> None:
    clock, asked = Clock(), []
    looked = Machine(tmp_path, lambda: asked.append(1) or {}, clock)  # type: ignore[func-returns-value]  # counts
    first = looked.look()
    assert looked.look() is first
    clock.now_s += 0.9
    assert looked.look() is first
    clock.now_s += 0.1
    assert looked.look() is not first
    assert len(asked) == 2


def test_what_a_trainer_has_started_is_one_row(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            parent.stdout.readline()  # the child's
            rows = Machine(tmp_path, lambda: {"run-1": parent.pid}).look().processes
            (workers,) = (row for row in rows if row.what == "reward workers")
            assert workers.run == "run-1" and workers.memory_bytes > 0
        finally:
            for child in psutil.Process(parent.pid).children():
                child.kill()
            parent.kill()


def test_ranks_have_rows_of_their_own_and_what_they_start_are_workers(tmp_path: Path) -> None:
    """A rank's workers are in its environment, too."""
    with subprocess.Popen([sys.executable, "-c", NESTED], stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            parent.stdout.readline()  # the worker's
            rows = Machine(tmp_path, lambda: {"run-1": parent.pid}).look().processes
            family = psutil.Process(parent.pid)
            (rank,) = family.children()
            (worker,) = rank.children()
            assert [(row.what, row.pid) for row in rows[1:]] == [
                ("trainer", parent.pid), ("rank 1", rank.pid), ("reward workers", worker.pid),
            ]  # fmt: skip
        finally:
            for child in psutil.Process(parent.pid).children(recursive=True):
                child.kill()
            parent.kill()


def test_a_trainer_that_is_gone_has_no_row(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    rows = Machine(tmp_path, lambda: {"run-1": ended.pid}).look().processes
    assert [row.what for row in rows] == ["daemon"]
    assert rows[0].pid == os.getpid()


def test_a_disk_that_fills_says_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, free = Clock(), [1000]
    usage = type(psutil.disk_usage("/"))
    monkeypatch.setattr(psutil, "disk_usage", lambda _: usage(4000, 4000 - free[0], free[0], 0.0))
    looked = Machine(tmp_path, dict, clock)
    assert looked.look().full_in_s is None
    clock.now_s += 100.0
    free[0] = 900
    assert looked.look().full_in_s == pytest.approx(900.0)
    clock.now_s += 100.0
    free[0] = 2000
    assert looked.look().full_in_s is None


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert look_at_gpus() == ([], NO_PACKAGE)


class NVMLError(Exception):
    pass


def make_nvml() -> types.ModuleType:
    """NVML with one card that knows no power."""
    nvml = types.ModuleType("pynvml")

    def refuse(_: object) -> float:
        raise NVMLError("not supported")

    for name, value in {
        "NVMLError": NVMLError,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda number: number,
        "nvmlDeviceGetName": lambda _: b"Card X",
        "nvmlDeviceGetMemoryInfo": lambda _: types.SimpleNamespace(total=100, used=40),
        "nvmlDeviceGetUtilizationRates": lambda _: types.SimpleNamespace(gpu=75),
        "nvmlDeviceGetTemperature": lambda *_: 61,
        "nvmlDeviceGetPowerUsage": refuse,
    }.items():
        setattr(nvml, name, value)
    return nvml


def test_a_card_says_what_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", make_nvml())
    (row,), note = look_at_gpus()
    assert note == ""
    assert (row.name, row.busy_share, row.memory_used_bytes, row.temperature_c, row.power_w) == (
        "Card X", 0.75, 40, 61.0, None,
    )  # fmt: skip


def test_a_driver_that_fails_is_said_and_nothing_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = make_nvml()

    def refuse() -> None:
        raise NVMLError("driver not loaded")

    nvml.nvmlInit = refuse  # type: ignore[attr-defined]  # a module made for this test
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert look_at_gpus() == ([], "NVML does not answer: driver not loaded")
