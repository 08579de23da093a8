"""No text of a model, a recipe or a log reaches the terminal as anything but text, on any screen."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from textual.pilot import Pilot

from ponder.events import (
    Evaluated,
    Finish,
    GroupScored,
    Mark,
    Outcome,
    Preview,
    PreviewAnswer,
    Record,
    Rollout,
    RunStarted,
    RunState,
    StepDone,
    TrainerEvent,
    WatchdogFired,
)
from ponder.wire import Live
from store.writer import Writer
from tests.store.records import FIRST_US, recipe_text
from tests.tui.reader_client import ReaderClient
from tests.tui.screens import LARGE, SMALL, go_to, play, screen_text, settled, until
from tests.tui.terminal import Terminal
from tui.actions import BY_ID, SCREENS, TABS
from tui.app import Console
from tui.screens.chooser import Chooser
from tui.screens.curves import CurvesScreen
from tui.screens.palette import Palette

HOSTILE = (
    "\x1b]52;c;cm0gLXJmIH4=\x07\x1b[2J\x1b[?1049l\x1bc\x9b6n\x9d0;owned\x07\u202eevil\u202c\u200b\r\x08\x7f\x00"
    "[/] [/foo] [b [@click=app.app_leave]CLICK[/] [link=file:///etc/passwd]x[/] </think> reward 1.0 \U000e0041"
)
HOSTILE_METRIC = f"part/{HOSTILE}"
KNOWN = re.compile(
    rb"\x1b\[\d*(?:;\d+)*[Hm]"  # where to write, and in which style
    rb"|\x1b\[\?[\d;]+[hl]|\x1b\[\?\d+\$p|\x1b\[[<>]?\d*u|\x1b\[6n"  # modes, and questions of the driver
)


def hostile_store(folder: Path) -> Path:
    """A run in which every free text is an attack."""
    store = folder / "ponder.db"
    writer = Writer(store, lambda: FIRST_US)
    title = HOSTILE.replace("\x00", "")[:150]
    escaped = "".join(f"\\u{ord(c):04X}" if ord(c) < 0x10000 else f"\\U{ord(c):08X}" for c in title)
    recipe = recipe_text().replace("R1-Zero in miniature: three numbers, one target", escaped)
    run = writer.submit_run("one", recipe, HOSTILE, "ada")
    writer.set_state(run, RunState.STARTING)
    writer.start_attempt(run, 1, 4000, 1, "boot")
    writer.set_state(run, RunState.RUNNING)
    mark = Mark(0, 6, HOSTILE[:6], Outcome.RESCUED, before=HOSTILE, after=HOSTILE)
    rollouts = [
        Rollout(
            index,
            f"{HOSTILE * 3}{index}",
            9,
            Finish.END,
            1.0,
            0.5,
            {HOSTILE[:20]: 1.0},
            True,
            HOSTILE,
            8,
            [mark],
            HOSTILE,
        )
        for index in range(4)
    ]
    events: list[TrainerEvent] = [
        RunStarted(0, 30, "rl", HOSTILE, 1, HOSTILE, 1),
        GroupScored(1, 0, 0, "p", HOSTILE, HOSTILE, rollouts),
        StepDone(1, 1, {"reward/mean": 0.5, HOSTILE_METRIC: 0.5}),
        WatchdogFired(1, HOSTILE, "warn", {}, HOSTILE),
        Evaluated(1, {"eval/accuracy": 0.2}),
    ]
    writer.commit_records(run, [Record(n + 1, FIRST_US, 1, event) for n, event in enumerate(events)])
    writer.accept_command("c", run, "set", "optim.lr", 0.1, HOSTILE[:40])
    writer.refuse_command("c", 1, HOSTILE, HOSTILE)
    writer.close()
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_store(tmp_path_factory.mktemp("store"))


def dangers(text: str) -> set[str]:
    """Characters of a screen that are no text."""
    return {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")}


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_hostile_text_is_shown_as_text_on_every_screen(store: Path, size: tuple[int, int]) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        client._log = (HOSTILE * 50).encode()
        for name in SCREENS:
            await go_to(pilot, console, name)
            if name == "live":
                # An escape sequence that is cut in two by the stream is no safer than a whole one.
                client.say(Live(console.run_name, Preview(2, [PreviewAnswer(0, 0, 0, "a\x1b", HOSTILE)])))
                client.say(Live(console.run_name, Preview(2, [PreviewAnswer(0, 0, 2, "]52;c;x\x07" + HOSTILE)])))
                await until(pilot, lambda: "being written" in screen_text(console))
                await settled(pilot, console)
            if name in ("aha", "samples"):
                await pilot.press("enter")
                await settled(pilot, console)
            if name == "group":
                await pilot.press("e")
                await until(pilot, lambda: "Gather" in screen_text(console))
                assert not dangers(screen_text(console))
                await pilot.press("e")
                await settled(pilot, console)
            if name == "curves":
                await pilot.press("p", "m")
                await until(pilot, lambda: isinstance(console.screen, Chooser) and "]52" in screen_text(console))
                assert not dangers(screen_text(console))
                await pilot.press("escape")
                assert isinstance(console.shown, CurvesScreen)
                console.shown.show_metric(HOSTILE_METRIC)
                await until(pilot, lambda: "owned" in screen_text(console))
            assert not dangers(screen_text(console)), name
            text = screen_text(console)
            assert "owned" in text or "␛]52" in text or name == "knobs", name  # a line may be cut before the word
        await pilot.press("colon")
        await until(pilot, lambda: isinstance(console.screen, Palette) and "countdown" in screen_text(console))
        assert not dangers(screen_text(console))
        await pilot.press("escape")
        console.say(HOSTILE)
        await settled(pilot, console)
        assert not dangers(screen_text(console))

    play(store, script, size)


def test_a_click_on_hostile_text_does_nothing(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        for name in ("live", "samples", "group", "tokens", "aha", "curves"):
            await go_to(pilot, console, name)
            for y in (3, 7, 11, 14):
                for x in (12, 52):
                    await pilot.click(offset=(x, y))
            assert console.return_value is None

    play(store, script)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_the_terminal_gets_only_known_sequences_from_any_screen(store: Path, size: tuple[int, int]) -> None:
    width, height = size
    with Terminal("-m", "tests.tui.screens_console", str(store), width=width, height=height) as terminal:
        terminal.wait_for("[2")
        for name in TABS:
            key = BY_ID[f"screen.{name}"].key
            if key == "0":
                terminal.type("\x1b")  # digits are places on the screen Rank
                terminal.wait_for(lambda: "[2 Live]" in terminal.text or "[2Live]" in terminal.text)
            terminal.type(key)
            terminal.wait_for(f"[{key}")
            terminal.read(0.3)
        terminal.type("q")
        assert terminal.wait_end() == 0
        rest = KNOWN.sub(b"", bytes(terminal.received)).decode()
        assert not dangers(rest.replace("\r", ""))
