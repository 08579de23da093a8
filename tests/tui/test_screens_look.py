"""Each screen looks as it did when somebody last looked at it, on a small and on a large terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from ponder.events import Preview, PreviewAnswer
from ponder.wire import Live
from tests.tui.reader_client import ReaderClient
from tests.tui.screens import (
    LARGE,
    MIDDLE,
    RUN,
    SMALL,
    check_snapshot,
    go_to,
    play,
    screen_text,
    settled,
    until,
)
from tui.actions import SCREENS
from tui.app import Console

SIZES = {"80x24": SMALL, "120x40": MIDDLE, "200x60": LARGE}

pytestmark = pytest.mark.usefixtures("utc")


@pytest.mark.parametrize("size", SIZES)
def test_every_screen_looks_as_it_did(store: Path, size: str) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        for name in SCREENS:
            await go_to(pilot, console, name)
            check_snapshot(f"{name}-{size}", screen_text(console))
        await pilot.press("f1")
        await settled(pilot, console)
        check_snapshot(f"help-{size}", screen_text(console))
        await pilot.press("escape")
        await go_to(pilot, console, "live")
        answers = [
            PreviewAnswer(0, 0, 0, "8 + 9 = 17 + 5 = 22 no wait 8 * 5", "solve 8 9 5 -> 67 :"),
            PreviewAnswer(0, 1, 0, "8 * 9 = 72 - 5 = 67 ok", "solve 8 9 5 -> 67 :", is_done=True),
        ]
        client.say(Live(RUN, Preview(31, answers)))
        await until(pilot, lambda: "being written" in screen_text(console))
        await settled(pilot, console)
        check_snapshot(f"writing-{size}", screen_text(console))

    play(store, script, SIZES[size])


@pytest.mark.parametrize("size", SIZES)
def test_a_group_is_explained(store: Path, size: str) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "group")
        await pilot.press("e")
        await until(pilot, lambda: "Gather" in screen_text(console))
        await settled(pilot, console)
        check_snapshot(f"explained-{size}", screen_text(console))
        await pilot.press("G")
        await settled(pilot, console)
        check_snapshot(f"explained-end-{size}", screen_text(console))

    play(store, script, SIZES[size])


def test_a_trace_is_read_with_its_tries_before_and_after(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "aha")
        await pilot.press("o")
        await until(pilot, lambda: "rescued turns" in screen_text(console))
        await pilot.press("enter")
        await settled(pilot, console)
        check_snapshot("trace-80x24", screen_text(console))
        await pilot.press("escape")
        await until(pilot, lambda: "rescued turns" in screen_text(console))

    play(store, script)


def test_a_terminal_that_is_too_small_gets_one_clear_line(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        for width, height in ((40, 10), (59, 24), (80, 14), (12, 3)):
            await pilot.resize_terminal(width, height)
            for name in SCREENS:
                await console.show_screen(name)
                await settled(pilot, console)
                first, *others = screen_text(console).split("\n")
                assert first.strip()
                assert not any(line.strip() for line in others)
                assert width < 40 or ("60x15" in first and "running" in first)

    play(store, script, (40, 10))


def test_no_line_of_any_screen_is_wider_than_the_terminal(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        for width, height in ((60, 15), (99, 35), (160, 36)):
            await pilot.resize_terminal(width, height)
            for name in SCREENS:
                await console.show_screen(name)
                await settled(pilot, console)
                lines = screen_text(console).split("\n")
                assert len(lines) == height
                assert all(len(line) <= width for line in lines)
                assert "F1 help" in lines[-1]
                assert "q leave" in lines[-1]

    play(store, script)


@pytest.mark.parametrize("name", ["aha", "label"])
def test_what_the_words_of_turns_mean_is_the_first_thing_that_their_help_says(store: Path, name: str) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, name)
        await pilot.press("f1")
        await until(pilot, lambda: "Esc closes" in screen_text(console))
        await until(pilot, lambda: "the try before was right, the final answer is wrong" in screen_text(console))

    play(store, script)
