"""A monkey at the keyboard: random keys and window sizes over a real daemon and a run that goes on.

PONDER_MONKEY_S says how many seconds (60 for a release), PONDER_MONKEY_SEED which keys.
"""

from __future__ import annotations

import os
import random

import pytest

from ponder import wire
from ponder.client import child_environment
from ponder.events import RunState
from store.schema import open_for_reading
from tests.daemon.conftest import Home, wait_for
from tests.tui.terminal import Terminal
from tui.actions import ACTIONS, WIDGET_KEYS

SECONDS = float(os.environ.get("PONDER_MONKEY_S", "10"))
SEED = int(os.environ.get("PONDER_MONKEY_SEED", "1"))
EVERY_S = 0.06
LEAVING = ("app.leave", "app.interrupt")
SIZES = ((80, 24), (120, 40), (200, 60), (59, 14), (61, 16))
TYPED = {
    "enter": "\r", "escape": "\x1b", "tab": "\t", "space": " ", "up": "\x1b[A", "down": "\x1b[B", "right": "\x1b[C",
    "left": "\x1b[D", "pageup": "\x1b[5~", "pagedown": "\x1b[6~", "home": "\x1b[H", "end": "\x1b[F", "f1": "\x1bOP",
    "colon": ":", "question_mark": "?", "plus": "+", "equals_sign": "=", "minus": "-", "slash": "/",
    "full_stop": ".", "comma": ",", "less_than_sign": "<", "greater_than_sign": ">", "backspace": "\x7f",
    "left_square_bracket": "[", "right_square_bracket": "]",
}  # fmt: skip
"""What a terminal sends for a key of this name; a letter sends itself, `ctrl+p` its control character."""


def typed(key: str) -> str:
    if key in TYPED:
        return TYPED[key]
    return chr(ord(key[-1]) & 31) if key.startswith("ctrl+") else key


def all_keys() -> list[str]:
    """Every key that means something, some that mean nothing, and text for the lines that take it."""
    declared = [key for action in ACTIONS if action.id not in LEAVING for key in action.key.split(",")]
    moving = [key for keys, _ in WIDGET_KEYS.values() for key in keys.split(",")]
    words = [
        *"zXW%_0.5",
        "lr",
        "0.001",
        "[b]x[/b]",
        "é漢",
        "\x1b[200~pasted\nlines\x1b[201~",
        "\x1b[<0;10;5M\x1b[<0;10;5m",
    ]
    return [*map(typed, declared), *map(typed, moving), *words, "\r", "\r", "\x1b"]


def last_words(terminal: Terminal) -> str:
    """What the console wrote after it had left its screen: a traceback."""
    return terminal.received.rpartition(b"\x1b[?1049l")[2].decode("utf-8", "replace")


@pytest.mark.slow
@pytest.mark.timeout(120 + 3 * SECONDS)
def test_no_key_breaks_the_console_and_no_command_is_lost(served: Home) -> None:
    chance = random.Random(SEED)
    run = served.submit("monkey", steps=1_000_000, step_s=0.05, save_every=5)
    other = served.submit("other", steps=3)
    served.wait_step(run, 3)
    keys = all_keys()
    with Terminal("-P", "-m", "tui", run, environ=child_environment(served.paths)) as terminal:
        terminal.wait_for("[2")
        for _ in range(int(SECONDS / EVERY_S)):
            terminal.type(chance.choice(keys))
            if chance.random() < 0.01:
                terminal.resize(*chance.choice(SIZES))
            terminal.read(EVERY_S)
            assert terminal.process.poll() is None, last_words(terminal)
        terminal.resize(80, 24)
        terminal.type("\x03")
        assert terminal.wait_end(60.0) == 130, last_words(terminal)
        assert "Traceback" not in last_words(terminal)
        assert terminal.modes() == terminal.modes_before
    for name in (run, other):
        if not served.row(name).state.is_over:
            served.client.command(wire.StopRun(name, now=True))
        served.wait_state(name, RunState.STOPPED, RunState.FINISHED)

    def open_commands() -> list[tuple[object, ...]]:
        with open_for_reading(served.paths.store) as store:
            return store.execute("SELECT verb, name, value, state FROM commands WHERE state = 'accepted'").fetchall()

    wait_for(lambda: None if open_commands() else True, "every command to be applied or refused")
