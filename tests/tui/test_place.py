"""After a line that dropped or a kill the console is where it was; after `q` it begins anew."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from textual.pilot import Pilot

from ponder.client import child_environment
from ponder.paths import Paths
from tests.tui.reader_client import ReaderClient
from tests.tui.screens import RUN, go_to, make_store, play, screen_text, settled
from tests.tui.terminal import Terminal
from tui.app import Console
from tui.memory import Memory
from tui.place import NAME, Place


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path)


def cursor_line(text: str) -> str:
    """The row under the cursor."""
    return next((line.rstrip() for line in text.splitlines() if line.startswith(">")), "")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGHUP])
def test_killed_it_comes_back_to_screen_filter_and_row_and_after_q_it_does_not(
    store: Path, end: signal.Signals
) -> None:
    environ = child_environment(Paths(store.parent, store.parent))
    words = ("-m", "tests.tui.screens_console", str(store))
    memory = store.parent / "console.json"
    with Terminal(*words, environ=environ) as terminal:
        terminal.wait_for("[2")
        terminal.type("3")
        terminal.wait_for("[3")
        terminal.wait_for("960 answers")
        terminal.type("/")
        terminal.wait_for("Enter shows what fits")
        terminal.type("reward>0.5\r")
        terminal.wait_for("filter: reward>0.5")
        terminal.type("jjjjj")
        terminal.wait_for(lambda: f'"samples.row": "{row_id(store, 5)}"' in memory.read_text())
        terminal.wait_for(lambda: not terminal.read(0.3))  # what is kept may be a picture ahead of the screen
        row = cursor_line(terminal.text)
        terminal.process.send_signal(end)
        terminal.wait_end()
    with Terminal(*words, environ=environ) as terminal:
        terminal.wait_for("[3")
        terminal.wait_for("filter: reward>0.5")
        terminal.wait_for(lambda: cursor_line(terminal.text) == row)
        terminal.type("q")
        assert terminal.wait_end() == 0
    assert f'"{NAME}": {{}}' in memory.read_text()
    with Terminal(*words, environ=environ) as terminal:
        terminal.wait_for("[2")
        terminal.type("q")
        assert terminal.wait_end() == 0


def row_id(store: Path, place: int) -> int:
    """The rollout at a place among those with a reward above a half, newest first."""
    client = ReaderClient(store)
    try:
        found = client._reader.samples(RUN, min_reward=0.51, limit=place + 1)
    finally:
        client.close()
    return found.samples[place].id


def unscrolled(line: str) -> str:
    """A row without the scroll bar beside it."""
    return line.rstrip(" ▁▂▃▄▅▆▇█")


def test_every_screen_comes_back_to_its_row(store: Path) -> None:
    kept = Memory()
    seen: dict[str, tuple[dict[str, str], str]] = {}
    keys = {"runs": ["down"], "samples": ["down"] * 3, "group": ["p", "right"], "tokens": ["p"], "aha": ["down"] * 2,
            "knobs": ["down"] * 4, "checkpoints": ["down"]}  # fmt: skip

    async def go_about(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        for screen, pressed in keys.items():
            shown = await go_to(pilot, console, screen)
            for key in pressed:
                await pilot.press(key)
                await settled(pilot, console)
            await go_to(pilot, console, screen)
            seen[screen] = (shown.spot(), screen_text(console))
        kept.keep(NAME, console.memory.recall(NAME, {"": ""}))

    async def come_back(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        console.habits.memory = kept
        console.place = Place(kept)
        assert console.place.take()[0] == RUN
        for screen, (spot, text) in seen.items():
            shown = await go_to(pilot, console, screen)
            await settled(pilot, console)
            assert shown.spot() == spot, screen
            assert unscrolled(cursor_line(screen_text(console))) == unscrolled(cursor_line(text)), screen
            if screen in ("group", "tokens"):
                assert screen_text(console).splitlines()[2:-1] == text.splitlines()[2:-1]

    play(store, go_about)
    assert len({str(spot) for spot, _ in seen.values()}) == len(keys)
    play(store, come_back)


def test_only_the_first_console_of_a_home_keeps_a_place(tmp_path: Path) -> None:
    path, lock = tmp_path / "console.json", tmp_path / "console.lock"
    first, second = Place(Memory(path), lock), Place(Memory(path), lock)
    assert first.take() == second.take() == ("", "")
    second.keep("a", "live", {})
    assert Memory(path).recall(NAME, {"": ""}) == {"": ""}
    first.keep("a", "group", {"answer": "3"})
    third = Place(Memory(path))
    assert third.take() == ("a", "group") and third.spot_of("group") == {"answer": "3"}
    path.write_text('{"place": {"run": 3, "screen": []}}')
    assert Place(Memory(path)).take() == ("", "")
