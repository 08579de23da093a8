"""Two sides of a comparison take turns: one step each time it is asked, and a side that dies says why."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.peer_turns import Side, Turn

COUNTING = """
from bench.peer_turns import Seat, Turn
seat, steps = Seat(), 0
print("noise of a library")
while True:
    seat.tell(Turn(lengths=[steps]))
    steps += 1
    sum(range(200_000))
"""


def side(code: str, folder: Path) -> Side:
    return Side([sys.executable, "-c", code], folder / "log")


def test_a_side_takes_one_step_each_time_it_is_asked(tmp_path: Path) -> None:
    with side(COUNTING, tmp_path) as counting:
        assert counting.ready == Turn(lengths=[0])
        turns = [counting.step() for _ in range(3)]
    assert [turn.lengths for turn in turns] == [[1], [2], [3]]
    assert all(turn.seconds > 0 and turn.cpu_s > 0 for turn in turns)
    assert "noise of a library" in (tmp_path / "log").read_text()


def test_a_side_that_dies_says_why(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no model here"):
        side("raise SystemExit('no model here')", tmp_path)
