"""Before the daemon has answered no screen says that there is nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.tui.reader_client import ReaderClient
from tests.tui.screens import MIDDLE, play, screen_text, settled, until
from tui.app import Console
from tui.widgets.emptiness import ASKING

NOTHING = ("yet", "so far", "no run", "scored answers appear here")


@pytest.mark.parametrize("name", ["samples", "group", "tokens", "aha", "checkpoints", "log", "system"])
def test_a_screen_says_that_it_asks_until_it_is_answered(store: Path, name: str) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        client.held = asyncio.Event()
        await console.show_screen(name)
        await until(
            pilot, lambda: console.current_mode == name and console.shown is not None and console.shown.is_ready
        )
        console.paint()
        await settled(pilot, console)
        text = screen_text(console).replace("no data yet", "")  # charts say so of any curve
        assert ASKING in text and not [words for words in NOTHING if words in text], text
        client.held.set()
        await until(pilot, lambda: console.shown is not None and console.shown.is_pulled)
        await settled(pilot, console)
        assert ASKING not in screen_text(console)

    play(store, script, MIDDLE)


def test_another_run_is_asked_for_anew(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await console.show_screen("group")
        await until(
            pilot, lambda: console.current_mode == "group" and console.shown is not None and console.shown.is_filled
        )
        other = next(row.name for row in client.rows() if row.name != console.run_name)
        await console.watch_run(other)
        client.held = asyncio.Event()
        await settled(pilot, console)
        shown = console.shown
        assert shown is not None and not shown.is_pulled and shown.when_none("nothing") == ASKING
        client.held.set()
        await until(pilot, lambda: shown.is_pulled)
        assert shown.when_none("nothing") == "nothing"

    play(store, script, MIDDLE)
