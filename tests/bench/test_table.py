"""The table of `make bench` says what is met, and what could not be measured is never met."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bench.__main__ import Outcome, measure, tabulate
from bench.figures import Figure


def shown(*outcomes: Outcome) -> list[str]:
    screen = io.StringIO()
    Console(file=screen, width=120).print(tabulate(outcomes))
    return [line for line in screen.getvalue().splitlines() if "│" in line]


@pytest.mark.parametrize(
    ("measured", "at_least", "met"), [(2.0, True, "yes"), (1.99, True, "NO"), (2.0, False, "yes"), (2.01, False, "NO")]
)
def test_a_figure_is_met_at_its_target_and_not_beyond(measured: float, at_least: bool, met: str) -> None:
    (row,) = shown(Outcome("one", 1.0, [Figure("speed", measured, "x", 2.0, at_least)]))
    assert row.split("│")[4].strip() == met


def test_a_module_that_is_not_there_is_a_row_with_the_reason() -> None:
    outcome = measure("no_such_module")
    (row,) = shown(outcome)
    assert "bench/no_such_module.py" in row
    assert "No module named" in row
    assert "NO" in row.split("│")[4]
