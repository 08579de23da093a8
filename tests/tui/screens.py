"""What the tests of the screens share: a store, a console over it, waiting, and the screen as plain text.

    PONDER_UPDATE_SNAPSHOTS=1 pytest tests/tui     writes the texts that the screens are compared with

Deliberately left out: a terminal (`tests.tui.terminal`) and a daemon (`tests.e2e`).
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path

from msgspec.structs import replace
from textual.pilot import Pilot

from ponder.events import RunState
from tests.store.records import FIRST_US, fill_store
from tests.tui.reader_client import ReaderClient
from tui.app import ANNOTATOR, Console
from tui.screens.frame import ConsoleScreen
from tui.screens.text_line import TextLine

SNAPSHOTS = Path(__file__).parent / "snapshots"
SMALL, MIDDLE, LARGE = (80, 24), (120, 40), (200, 60)
NOW_US = FIRST_US + 600_000_000
LOG = "".join(f"2025-11-24 02:00:{n % 60:02} step {n} done\n" for n in range(120))
RUN = "countdown-zero-2"
Script = Callable[[Pilot[int], Console, ReaderClient], Awaitable[None]]


class StillConsole(Console):
    """A console for which it is always ten minutes after the store's first event, and before which `ada` sits."""

    @property
    def annotator(self) -> str:
        return self.memory.recall(ANNOTATOR, "ada")

    def now_us(self) -> int:
        return NOW_US


def make_store(folder: Path) -> Path:
    """A finished run and a running one."""
    store = folder / "ponder.db"
    store.write_bytes(_filled())
    return store


@cache
def _filled() -> bytes:
    """Such a store's file: written once by the real writer, since all of them are the same to the byte of every row."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "ponder.db"
        fill_store(store)
        return store.read_bytes()


def make_client(store: Path) -> ReaderClient:
    """A client to whom the running run was heard of just now."""
    client = ReaderClient(store, LOG)
    for row in client.rows():
        is_running = row.state is RunState.RUNNING
        client.overrides[row.name] = replace(row, seen_us=NOW_US if is_running else row.seen_us)
    return client


def play(store: Path, script: Script, size: tuple[int, int] = SMALL, run: str = "", is_readonly: bool = False) -> None:
    """Run a console over the store, and the script in it."""

    async def whole() -> None:
        client = make_client(store)
        console = StillConsole(client, run, is_readonly=is_readonly, is_ascii=False)
        try:
            async with console.run_test(size=size) as pilot:
                await until(pilot, lambda: console.shown is not None and console.feed.pulled_s is not None)
                await script(pilot, console, client)
        finally:
            client.close()

    asyncio.run(whole())


async def until(pilot: Pilot[int], holds: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait until something holds; fails with the screen after the deadline."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not holds():
        if loop.time() > deadline:
            raise AssertionError(f"waited in vain; the screen shows\n{screen_text(pilot.app)}")
        await asyncio.sleep(0.01)


async def go_to(pilot: Pilot[int], console: Console, name: str) -> ConsoleScreen:
    """Switch to a screen and wait for its data."""
    before = console.feed.pulled_s
    await console.show_screen(name)
    console.want()
    await until(pilot, lambda: console.current_mode == name and console.feed.pulled_s != before)
    await settled(pilot, console)
    shown = console.shown
    assert shown is not None
    return shown


async def settled(pilot: Pilot[int], console: Console) -> None:
    """Paint until two paints in a row look the same."""
    last = ""
    for _ in range(50):
        console.paint()
        await pilot.pause()
        text = screen_text(console)
        if text == last and text.strip():  # a screen that has not painted yet is at rest too
            return
        last = text
    raise AssertionError("the screen never came to rest")


def screen_text(app: object) -> str:
    """The cells of the topmost screen as lines of text."""
    assert isinstance(app, Console)
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


def key_line(console: Console) -> str:
    """What the last line says."""
    assert console.shown is not None
    return console.shown.query_one("#keys", TextLine).line


def check_snapshot(name: str, text: str) -> None:
    """Compare with the stored text, or store it."""
    shown = re.sub(r"/\S*/ponder\.db|/\S*/runs/", lambda m: "/home/ada/ponder.db" if "db" in m[0] else "/runs/", text)
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("PONDER_UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(shown + "\n", encoding="utf-8")
    assert path.exists(), f"no snapshot `{name}`; PONDER_UPDATE_SNAPSHOTS=1 writes it"
    assert shown + "\n" == path.read_text(encoding="utf-8")
