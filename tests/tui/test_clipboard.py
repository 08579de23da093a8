"""Where `y` copies to: tmux, the terminal, a file; and what each screen copies."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from textual.pilot import Pilot

from ponder.client import child_environment
from ponder.paths import Paths
from tests.tui.reader_client import ReaderClient
from tests.tui.screens import RUN, go_to, make_store, play, until
from tests.tui.terminal import Terminal
from tui.app import Console
from tui.clipboard import OSC_52_MOST_BYTES, copy

FAKE_TMUX = """#!/bin/sh
[ "$2" = "-w" ] && [ -n "$OLD_TMUX" ] && exit 1
printf '%s|' "$@" > "$TOOK"; cat >> "$TOOK"
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path)


def never(_: str) -> bool:
    raise AssertionError("another way was open")


@pytest.mark.parametrize(("old", "words"), [("", "load-buffer|-w|-|"), ("1", "load-buffer|-|")])
def test_inside_tmux_its_buffer_takes_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, words: str
) -> None:
    (tmp_path / "tmux").write_text(FAKE_TMUX)
    (tmp_path / "tmux").chmod(0o700)
    took = tmp_path / "took"
    for name, value in {"PATH": f"{tmp_path}:/bin:/usr/bin", "TOOK": str(took), "OLD_TMUX": old}.items():
        monkeypatch.setenv(name, value)
    assert "tmux" in copy("wait — 漢\n", never, tmp_path / "file", {"TMUX": "/tmp/tmux,1,0"})
    assert took.read_text() == f"{words}wait — 漢\n"


def test_without_tmux_the_terminal_and_a_file_take_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    sent: list[str] = []
    file = tmp_path / "file"
    for environ in ({}, {"TMUX": "a server without a tmux"}):
        assert "terminal" in copy("text", lambda text: not sent.append(text), file, environ)  # type: ignore[func-returns-value]  # None is what is meant
        assert (sent.pop(), file.read_text()) == ("text", "text")
    assert copy("x" * (OSC_52_MOST_BYTES + 1), never, file, {}) == f"in {file}"
    assert copy("text", lambda _: False, file, {}) == f"in {file}"


def test_every_screen_copies_what_is_under_its_cursor(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    file = store.parent / "clipboard.txt"

    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        console.habits.clipboard = file

        async def copied(screen: str, *keys: str) -> str:
            file.unlink(missing_ok=True)
            await go_to(pilot, console, screen)
            await pilot.press(*keys, "y")
            await until(pilot, lambda: console.notice is not None and str(file) in console.notice[0])
            return file.read_text()

        assert await copied("runs") == RUN
        assert "wait" in await copied("live", "tab", "down")
        assert await copied("group") == await copied("group")
        assert "wait" in await copied("aha")
        assert re.fullmatch(rf"ponder set {RUN} [a-z_.]+=\S+", await copied("knobs"))
        await go_to(pilot, console, "log")
        await pilot.press("y")
        await until(pilot, lambda: console.notice is not None and "nothing here" in console.notice[0])

    play(store, script)


def test_the_terminal_gets_it_as_osc_52(store: Path) -> None:
    paths = Paths(store.parent, store.parent)
    environ = {**child_environment(paths), "TMUX": ""}
    with Terminal("-m", "tests.tui.screens_console", str(store), environ=environ) as terminal:
        terminal.wait_for("[2")
        terminal.type("1")
        terminal.wait_for("[1")
        terminal.type("y")
        terminal.wait_for("the terminal's clipboard")
        terminal.type("q")
        assert terminal.wait_end() == 0
    (found,) = re.findall(rb"\x1b\]52;c;([A-Za-z0-9+/=]+)\x07", bytes(terminal.received))
    assert base64.b64decode(found).decode() == (paths.home / "clipboard.txt").read_text() != ""
