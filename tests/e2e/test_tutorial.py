"""`ponder tutorial` from the shell: it begins a run of the demo, waits for answers, and goes on where it was left."""

from __future__ import annotations

import pytest

from ponder.cli import main
from tests.e2e.conftest import Ponder
from tests.tui.terminal import Terminal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
PATIENCE_S = 90.0


def open_tutorial(ponder: Ponder, *words: str) -> Terminal:
    return Terminal("-P", "-m", "ponder.cli", "tutorial", *words, environ=ponder.environment)


def test_a_newcomer_is_led_on_a_run_of_its_own_and_comes_back_to_it(ponder: Ponder) -> None:
    with open_tutorial(ponder) as terminal:
        terminal.wait_for("1/10 An answer is written", PATIENCE_S)
        terminal.wait_for("watch it choose", PATIENCE_S)
        terminal.type("n")
        terminal.wait_for("2/10 The policy", PATIENCE_S)
        terminal.wait_for("one token by token", PATIENCE_S)
        terminal.type("5")
        terminal.wait_for("most probable here", PATIENCE_S)
        terminal.type("l")
        terminal.wait_for("3/10 The group", PATIENCE_S)
        terminal.type("q")
        assert terminal.wait_end() == 0
        terminal.wait_for("goes on at station 3: The group")
    with open_tutorial(ponder) as terminal:
        terminal.wait_for("3/10 The group", PATIENCE_S)
        terminal.type("X")
        terminal.wait_for("goes on where it was left", PATIENCE_S)
        terminal.type("q")
        assert terminal.wait_end() == 0
    with open_tutorial(ponder, "--again") as terminal:
        terminal.wait_for("1/10 An answer is written", PATIENCE_S)
        terminal.type("q")
        assert terminal.wait_end() == 0
    [row] = ponder.ok("ls", "--json").json()["runs"]
    assert row["name"] == "tutorial-1"


def test_without_a_terminal_the_stations_are_printed_and_nothing_is_started(ponder: Ponder) -> None:
    printed = ponder.ok("tutorial").out
    assert printed.count("\n   $ ponder ") > 20
    assert all(f"\n{number}. " in printed for number in range(1, 11))
    assert not (ponder.home / "ponder.db").exists()


@pytest.mark.parametrize("words", [["tutorial", "now"], ["tutorial", "--agian"]])
def test_what_makes_no_sense_is_a_usage_error(words: list[str]) -> None:
    assert main(words) == 2
