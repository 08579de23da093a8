"""docs/TRAPS.md names a test for every trap, and names none that is not there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TRAPS = 28
NOT_YET = "does not apply yet: "
ROW = re.compile(r"\| (\d+) \| ([^|]+) \| ([^|]+) \|")

ROWS = [match.groups() for line in (ROOT / "docs/TRAPS.md").read_text().splitlines() if (match := ROW.fullmatch(line))]


def find_tests(path: Path) -> dict[str, ast.FunctionDef]:
    """The tests of a file that pytest would run."""
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name: node for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_trap_has_its_row() -> None:
    assert [int(number) for number, _, _ in ROWS] == list(range(1, TRAPS + 1))


@pytest.mark.parametrize(("trap", "what"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_every_trap_has_a_test_that_exists_or_a_reason(trap: str, what: str) -> None:
    if what.startswith(NOT_YET):
        assert len(what) > len(NOT_YET) + 20
        return
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", what)
    assert named and len(named) == what.count("::")
    for file, test in named:
        assert (ROOT / file).is_file(), f"{file} is not there"
        found = find_tests(ROOT / file).get(test)
        assert found is not None, f"{trap}: {file} has no test `{test}`"
        marks = [ast.unparse(decorator) for decorator in found.decorator_list]
        assert not any("skip" in mark or "xfail" in mark for mark in marks), f"{test} is not run everywhere"
