"""What a person chose is there again after the console was closed, and no rubbish in its place ever stops a console."""

from __future__ import annotations

from pathlib import Path

import pytest

from tui.memory import Memory


def test_what_was_kept_is_there_in_the_next_session(tmp_path: Path) -> None:
    path = tmp_path / "console.json"
    Memory(path).keep("curves.metrics", ["reward/mean", "kl/k3"])
    Memory(path).keep("curves.smoothing", 0.9)
    later = Memory(path)
    assert later.recall("curves.metrics", list[str]()) == ["reward/mean", "kl/k3"]
    assert later.recall("curves.smoothing", 0.0) == 0.9
    assert later.recall("curves.axis", "step") == "step"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["console.json"]


def test_two_consoles_keep_each_their_own(tmp_path: Path) -> None:
    path = tmp_path / "console.json"
    one, other = Memory(path), Memory(path)
    one.keep("a", 1)
    other.keep("b", 2)
    assert (Memory(path).recall("a", 0), Memory(path).recall("b", 0)) == (1, 2)


@pytest.mark.parametrize(
    "rubbish",
    [b"", b"{", b"[1, 2]", b'{"x": {"y": 3}}', b'{"x": [1]}', b"\xff\xfe", b"null", b"[" * 5000, b'{"x": NaN}'],
)
def test_rubbish_counts_as_nothing_and_is_written_over(tmp_path: Path, rubbish: bytes) -> None:
    path = tmp_path / "console.json"
    path.write_bytes(rubbish)
    memory = Memory(path)
    assert memory.recall("x", ["reward/mean"]) == ["reward/mean"]
    assert memory.recall("x", "step") == "step"
    memory.keep("x", ["length/mean"])
    assert Memory(path).recall("x", list[str]()) == ["length/mean"]


def test_a_disk_that_takes_nothing_costs_only_the_memory(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "no such folder" / "console.json")
    memory.keep("x", "y")
    assert memory.recall("x", "") == "y"


def test_without_a_file_it_lasts_as_long_as_the_console() -> None:
    memory = Memory()
    memory.keep("x", ["y"])
    assert memory.recall("x", list[str]()) == ["y"]
