"""A picture of a screen is an SVG that loads nothing, shows what the screen shows, and changes no run."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ponder.errors import PonderError, UsageError
from tests.tui.reader_client import ReaderClient
from tests.tui.screens import LOG
from tests.tui.terminal import ROOT
from tui.actions import SCREENS
from tui.shot import read_size, take


class Words(HTMLParser):
    """The text of a picture, and its tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words = ""
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(name in ("href", "xlink:href", "src") or name.startswith("on") for name, _ in attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        self.words += f"{data} "


def shoot(store: Path, screen: str, run: str = "", press: tuple[str, ...] = (), theme: str = "dark") -> str:
    async def whole() -> str:
        client = ReaderClient(store, LOG)
        try:
            svg = await take(client, screen, run, size=(100, 30), press=press, theme=theme)
        finally:
            client.close()
        assert not client.acted
        return svg

    return asyncio.run(whole())


def test_every_screen_has_a_picture(store: Path) -> None:
    for screen in SCREENS:
        picture = Words(shoot(store, screen, "countdown-zero-1"))
        assert picture.tags <= {"svg", "title", "style", "rect", "circle", "text", "path"}
        assert "countdown-zero-1" in picture.words
        assert "FINISHED" in picture.words


def test_keys_are_pressed_first_and_change_nothing(store: Path) -> None:
    assert "Stop" not in Words(shoot(store, "curves", press=("p",))).words
    assert "optim.lr" in Words(shoot(store, "curves", press=("p",))).words
    shoot(store, "runs", press=("space", "c", "S", "y"))


def test_a_run_that_does_not_exist_is_no_picture(store: Path) -> None:
    with pytest.raises(PonderError, match="nowhere"):
        shoot(store, "runs", "nowhere")


def test_a_size_that_is_none_is_refused() -> None:
    assert read_size("80x24") == (80, 24)
    for text in ("80", "x", "8x2", "-1x10", "99999x99"):
        with pytest.raises(UsageError):
            read_size(text)


def test_without_a_daemon_it_ends_with_3(tmp_path: Path) -> None:
    environment = {"PONDER_HOME": str(tmp_path), "PONDER_RUNTIME_DIR": str(tmp_path / "rt"), "PATH": "/usr/bin"}
    command = [sys.executable, "-m", "tui.shot", "live", "--out", str(tmp_path / "x.svg")]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 3
    assert "no daemon serves" in ended.stderr
    assert not (tmp_path / "x.svg").exists()
