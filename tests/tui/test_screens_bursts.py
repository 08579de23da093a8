"""Bursts: what is typed while a screen, a line, a form or a menu opens belongs to it, in its order."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from ponder import wire
from tests.tui.reader_client import ReaderClient
from tests.tui.screens import go_to, play, screen_text, until
from tests.tui.terminal import Terminal
from tui.app import Console
from tui.screens.group import GroupScreen
from tui.screens.live import LiveScreen

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


def test_a_key_that_comes_while_the_newest_group_is_asked_for_is_not_lost(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "group")
        screen = console.shown
        assert isinstance(screen, GroupScreen) and screen._detail is not None
        older = screen._detail.older_id
        answer, pressed = client._answer, list[bool]()

        def slowly(request: wire.Request, ask_id: str) -> wire.Reply:
            if isinstance(request, wire.GetGroup) and not pressed:
                pressed.append(True)
                screen.action_group_previous()
            return answer(request, ask_id)

        monkeypatch.setattr(client, "_answer", slowly)
        console.want()
        await until(pilot, lambda: bool(pressed))
        await until(pilot, lambda: screen._detail is not None and screen._detail.row.id == older)

    play(store, script)


def test_holding_is_seen_while_the_answer_that_is_read_is_on_its_way(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "live")
        assert isinstance(console.shown, LiveScreen)
        console.shown._reading.watched = (10**6, 0, 0)  # neither streamed nor scored as far as we know
        await pilot.press("f")
        await until(pilot, lambda: "HELD" in screen_text(console))
        await pilot.press("f")
        await until(pilot, lambda: "HELD" not in screen_text(console))

    play(store, script)
