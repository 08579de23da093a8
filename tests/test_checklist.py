"""docs/CHECKLIST.md names a way and a proof for every row, and none that is not there."""

from __future__ import annotations

import re

import pytest

from tests.test_traps import ROOT, find_tests

ROWS = 28
ROW = re.compile(r"\| (\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]*) ?\|")
TEXT = (ROOT / "docs/CHECKLIST.md").read_text().replace("\\|", "/")
FOUND = [match.groups() for line in TEXT.splitlines() if (match := ROW.fullmatch(line))]
VERBS = set(re.findall(r"^### ponder ([a-z -]+)$", (ROOT / "docs/CLI.md").read_text(), re.MULTILINE))
HEADINGS = re.findall(r"^## (.+?)(?: · .+)?$", (ROOT / "bench/RESULTS.md").read_text(), re.MULTILINE)


def test_every_row_is_there() -> None:
    assert [int(row[0]) for row in FOUND] == list(range(1, ROWS + 1))


@pytest.mark.parametrize(("way", "proof"), [row[2:4] for row in FOUND], ids=[row[0] for row in FOUND])
def test_every_way_and_every_proof_exists(way: str, proof: str) -> None:
    for words in re.findall(r"`ponder ([^`]+)`", way):
        assert any(words == verb or words.startswith(f"{verb} ") for verb in VERBS), words
        recipe = re.match(r"run ([a-z0-9-]+)", words)
        assert recipe is None or (ROOT / f"recipes/{recipe.group(1)}.toml").is_file(), words
    pieces = proof.split("<br>")
    assert any("::" in piece for piece in pieces)
    for piece in pieces:
        named = re.fullmatch(r"`(tests/[\w/]+\.py)::(\w+)`", piece)
        if named is None:
            assert piece.removeprefix("RESULTS: ") in HEADINGS, piece
        else:
            assert named.group(2) in find_tests(ROOT / named.group(1)), piece
