"""The first lines of a trainer's process."""

from __future__ import annotations

import sys

import pytest

from daemon.worker import main
from ponder.paths import Paths
from tests.daemon.conftest import recipe_text


def test_no_thread_keeps_the_interpreter_from_the_trainer_for_a_millisecond(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, seen = sys.getswitchinterval(), list[float]()
    monkeypatch.setenv("PONDER_HOME", str(paths.home))
    monkeypatch.setenv("PONDER_RUNTIME_DIR", str(paths.runtime))
    paths.run("r").mkdir(parents=True)
    paths.run_recipe("r").write_text(recipe_text())
    try:
        assert main(["r", "1", "0"], lambda *_: seen.append(sys.getswitchinterval())) == 0
    finally:
        sys.setswitchinterval(usual)
    assert seen and seen[0] < 0.001
