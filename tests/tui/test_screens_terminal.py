"""The program itself: how it begins, how it ends, and that the terminal is left as it was found."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tui.terminal import ROOT, Terminal


def home(folder: Path) -> dict[str, str]:
    """An environment with a ponder home of its own in which no daemon runs."""
    return {"PONDER_HOME": str(folder / "home"), "PONDER_RUNTIME_DIR": str(folder / "run")}


@pytest.mark.parametrize(
    ("leave", "code"), [("q", 0), ("\x03", 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_every_way_to_leave_restores_the_terminal(store: Path, leave: str | signal.Signals, code: int) -> None:
    with Terminal("-m", "tests.tui.screens_console", str(store)) as terminal:
        terminal.wait_for("scored last")
        terminal.wait_for(lambda: b"\x1b[?1049h" in terminal.received)
        if isinstance(leave, str):
            terminal.type(leave)
        else:
            os.kill(terminal.process.pid, leave)
        assert terminal.wait_end() == code
        assert terminal.modes()[:4] == list(terminal.modes_before)[:4]
        last = bytes(terminal.received)
        assert last.rfind(b"\x1b[?1049l") > last.rfind(b"\x1b[?1049h")
        assert last.rfind(b"\x1b[?25h") > last.rfind(b"\x1b[?25l")
        assert b"leaving the console changes nothing" in last


def test_without_colour_no_colour_is_sent_and_nothing_is_lost(store: Path) -> None:
    with Terminal("-m", "tests.tui.screens_console", str(store), environ={"NO_COLOR": "1"}) as terminal:
        terminal.wait_for("scored last")
        terminal.wait_for("[2")
        terminal.type("4")
        terminal.wait_for("+ right")
        terminal.type("q")
        assert terminal.wait_end() == 0
        styles = [part.split(b"m")[0] for part in bytes(terminal.received).split(b"\x1b[")[1:] if b"m" in part[:24]]
        numbers = {number for style in styles for number in style.split(b";") if style.replace(b";", b"").isdigit()}
        colours = {str(n).encode() for n in (*range(30, 39), *range(40, 49), *range(90, 98), *range(100, 108))}
        assert not numbers & colours


def test_sixteen_colours_are_enough(store: Path) -> None:
    environ = {"TERM": "xterm", "COLORTERM": ""}
    with Terminal("-m", "tests.tui.screens_console", str(store), environ=environ) as terminal:
        terminal.wait_for("scored last")
        terminal.type("q")
        assert terminal.wait_end() == 0
        assert b"38;2;" not in terminal.received
        assert b"38;5;" not in terminal.received


def test_ascii_is_enough(store: Path) -> None:
    with Terminal("-m", "tests.tui.screens_console", str(store), environ={"PONDER_ASCII": "1"}) as terminal:
        terminal.wait_for("scored last")
        terminal.read(0.5)
        assert terminal.text.isascii() and terminal.received.isascii()
        terminal.type("q")
        assert terminal.wait_end() == 0


def test_without_a_daemon_it_says_so_and_how_to_start_one(tmp_path: Path) -> None:
    with Terminal("-P", "-m", "tui", environ=home(tmp_path)) as terminal:
        assert terminal.wait_end(30.0) == 3
        assert "error:" in terminal.text
        assert "hint:" in terminal.text


def test_without_a_terminal_it_says_so(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "tui"],
        env=os.environ | home(tmp_path),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "needs a terminal" in ended.stderr
    assert "ponder follow" in ended.stderr


def test_the_console_loads_neither_torch_nor_the_store() -> None:
    code = (
        "import sys, tui.session; print([n for n in ('torch', 'transformers', 'store', 'trainer', 'daemon',"
        " 'sqlite_utils') if n in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_ctrl_c_before_there_is_a_console_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "textual.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "tui"],
        env=os.environ | home(tmp_path) | {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == -signal.SIGINT  # which shells call 130
    assert ended.stderr == ""
