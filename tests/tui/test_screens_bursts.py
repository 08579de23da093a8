"""Bursts: what is typed while a screen, a line, a form or a menu opens belongs to it, in its order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.terminal import Terminal

TIMES = 8
FORM = "$ ponder fork countdown-zero-2 --at 30 --set kl.coef=0.5 --name quiet"


@pytest.mark.parametrize(
    ("burst", "seen", "leave", "gone"),
    [
        ("Cfkl.coef=0.5\tquiet", FORM, "\x1b", "Fork countdown"),
        ("Cry", "accepted", "2", "rewind"),
        ("Sn", "goes on", "2", "Stop countdown"),
        (":pause the quiet q", "pause the quiet q", "\x1b", "pause the quiet"),
        (":optlr", "optim.lr", "\x1b", "a run, screen, knob"),
        ("?q1?q2", "[2", "", "help:"),
        ("1/quiet w", "quiet w", "\x1b", "quiet w"),
        ("3/step:7 right", "step:7 right", "\x1b", "step:7 right"),
        ("3iwhat? quickly", "what? quickly", "\x1b", "what? quickly"),
        ("3t7\rt8", "step 8", "\x1b", "step 8"),
        ("7mkl/k3", "kl/k3", "\x1b", "letters of a metric"),
        ("8\r\x15\x0b0.125", "0.125", "\x1b", "0.125"),
    ],
)
def test_a_burst_goes_where_its_first_key_leads(store: Path, burst: str, seen: str, leave: str, gone: str) -> None:
    """`q` would leave, `w` spare the line, digits change the screen."""
    with Terminal("-m", "tests.tui.screens_console", str(store), width=120, height=40) as terminal:
        terminal.wait_for("[2")
        for _ in range(TIMES):
            terminal.type(burst)
            terminal.wait_for(seen)
            terminal.type(leave)
            if gone:
                terminal.wait_for(lambda: gone not in terminal.text)
        terminal.type("\x03")
        assert terminal.wait_end() == 130
