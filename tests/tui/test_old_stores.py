"""Every screen draws a store of every earlier version, with what that version recorded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from textual.pilot import Pilot

from store.writer import Writer
from tests.store.test_golden import STORES
from tests.tui.reader_client import ReaderClient
from tests.tui.screens import MIDDLE, RUN, go_to, play, screen_text, until
from tui.actions import SCREENS
from tui.app import Console

SHOWN = {
    "runs": "countdown-zero-1",
    "live": "scored last",
    "samples": "96 answers",
    "group": "step 12 group",
    "tokens": "token 1 of",
    "aha": "turns",
    "curves": "reward",
    "knobs": "optim.lr",
    "system": "s sampling",
    "log": "step 119 done",
    "checkpoints": f"{RUN} @ 10",
}
"""What a reader of a store of twelve steps, two groups of four answers each, finds on each screen."""


@pytest.mark.parametrize("path", STORES, ids=lambda path: path.stem)
def test_every_screen_draws_a_store_of_every_version(path: Path, tmp_path: Path) -> None:
    store = tmp_path / "ponder.db"
    shutil.copy(path, store)
    Writer(store).close()  # as the daemon does before anybody asks

    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        for name in SCREENS:
            await go_to(pilot, console, name)
            if name in SHOWN:
                await until(pilot, lambda name=name: SHOWN[name] in screen_text(console))  # type: ignore[misc]  # at once
            assert RUN in screen_text(console).splitlines()[0]
        await go_to(pilot, console, "group")
        await pilot.press("e")
        await until(pilot, lambda: "Gather" in screen_text(console))
        await pilot.press("G")
        await until(pilot, lambda: "worked out" in screen_text(console))

    play(store, script, MIDDLE, RUN)
