"""A person names the turn on the screen, and no other; what they said is kept, and the detector's word hidden."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from daemon.turn_book import read_turn_labels
from ponder import wire
from ponder.errors import NoDaemon
from ponder.paths import Paths
from ponder.turn_labels import WORDS, Turn, TurnLabel, standing
from tests.tui.reader_client import ReaderClient
from tests.tui.screens import (
    LARGE,
    MIDDLE,
    RUN,
    SMALL,
    check_snapshot,
    go_to,
    make_store,
    play,
    screen_text,
    settled,
    until,
)
from tui.app import Console
from tui.outbox import Outbox
from tui.screens.help import HelpScreen
from tui.screens.label import LabelScreen

pytestmark = pytest.mark.usefixtures("utc")
SIZES = {"80x24": SMALL, "120x40": MIDDLE, "200x60": LARGE}
ALL = "".join(str(number) for number in range(1, len(WORDS) + 1))


@pytest.fixture
def own_store(tmp_path: Path) -> Path:
    return make_store(tmp_path)


def kept(store: Path) -> list[TurnLabel]:
    """Everything that was ever said, oldest first."""
    return list(read_turn_labels(Paths(store.parent, store.parent).turn_labels(RUN)))


async def open_label(pilot: Pilot[int], console: Console) -> LabelScreen:
    """By its key on the Aha screen, as a person does."""
    await go_to(pilot, console, "aha")
    await pilot.press("l")
    await until(pilot, lambda: isinstance(console.shown, LabelScreen))
    return await shown(pilot, console)


async def shown(pilot: Pilot[int], console: Console) -> LabelScreen:
    """Wait until a turn can be named."""
    screen = console.shown
    assert isinstance(screen, LabelScreen)
    await until(pilot, lambda: screen.labelling.is_shown and screen.labelling.telling is None)
    return screen


def test_a_digit_is_the_word_for_the_turn_on_the_screen_which_the_detector_does_not_tell(own_store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        screen = await open_label(pilot, console)
        named: list[tuple[Turn, str]] = []
        for number in ALL:
            here, answer = screen.labelling.here, screen.labelling.answer
            assert here is not None and answer is not None
            text = screen_text(console)
            assert f">>{here.turn.word}<<" in text and f"{len(named)} of " in text
            named.append((here.turn, WORDS[int(number) - 1]))
            await pilot.press(number)
            await shown(pilot, console)
            assert "detector" not in screen_text(console)
        assert [(label.turn, label.said, label.annotator) for label in kept(own_store)] == [
            (turn, word, "ada") for turn, word in named
        ]
        assert len({turn.detector for turn, _ in named}) >= 3, "no run of one kind"

    play(own_store, script)


def test_what_was_said_can_be_taken_back_until_the_detectors_words_were_seen(own_store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        screen = await open_label(pilot, console)
        first = screen.labelling.here
        await pilot.press("5")
        await shown(pilot, console)
        await pilot.press("s")
        await shown(pilot, console)
        third = screen.labelling.here
        await pilot.press("u")
        await until(pilot, lambda: screen.labelling.here not in (first, third))
        await shown(pilot, console)
        await pilot.press("u")
        await until(pilot, lambda: screen.labelling.here == first)
        await shown(pilot, console)
        assert standing(kept(own_store)) == [] and len(kept(own_store)) == 2
        await pilot.press("8")
        await shown(pilot, console)
        await pilot.press("m")
        await until(pilot, lambda: "the detector says" in screen_text(console))
        await pilot.press("1")
        await pilot.press("m")
        await until(pilot, lambda: ">>" in screen_text(console))
        await pilot.press("u")
        await until(pilot, lambda: "nothing of what was named here" in screen_text(console))
        assert [label.said for label in standing(kept(own_store))] == ["none"]

    play(own_store, script)


def test_a_key_that_comes_before_the_next_turn_is_shown_names_nothing(own_store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        screen = await open_label(pilot, console)
        screen.action_label_say("1")
        screen.action_label_say("2")
        screen.action_label_skip()
        await until(pilot, lambda: screen.labelling.named == 1)
        await shown(pilot, console)
        assert [label.said for label in kept(own_store)] == ["rescued"] and not screen.labelling.skipped

    play(own_store, script)


def test_without_a_daemon_a_label_waits_on_disk_and_is_kept_once(own_store: Path, tmp_path: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        outbox = Outbox(tmp_path / "out")
        console.habits.outbox = outbox
        screen = await open_label(pilot, console)
        client.is_away = True
        await pilot.press("3")
        await until(pilot, lambda: "this label waits here" in screen_text(console))
        ((ask_id, request),) = outbox.waiting()
        assert isinstance(request, wire.LabelTurn) and request.said == "confirmed"
        await pilot.press("4")
        with pytest.raises(NoDaemon):
            await client.ask(request, wire.Accepted, ask_id=ask_id)
        client.is_away = False
        await until(pilot, lambda: screen.labelling.named == 1)
        assert (await client.ask(request, wire.Accepted, ask_id=ask_id)).message == "it was kept before"
        assert [label.id for label in kept(own_store)] == [ask_id] and not outbox.waiting()

    play(own_store, script)


def test_a_look_at_the_help_page_takes_nothing_away(own_store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        screen = await open_label(pilot, console)
        first = screen.labelling.here
        await pilot.press("2")
        await shown(pilot, console)
        await pilot.press("f1")
        await until(pilot, lambda: isinstance(console.screen, HelpScreen))
        await pilot.press("escape")
        await until(pilot, lambda: console.screen is screen)
        await pilot.press("u")
        await until(pilot, lambda: screen.labelling.here == first)
        assert screen.labelling.named == 0

    play(own_store, script)


def test_who_only_reads_names_nothing(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await open_label(pilot, console)
        await pilot.press("1", "u", "s")
        assert not client.acted
        await pilot.press("escape")
        await until(pilot, lambda: console.current_mode == "aha")

    play(store, script, is_readonly=True)


@pytest.mark.parametrize("size", SIZES)
def test_the_agreement_looks_as_it_did(own_store: Path, size: str) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        turns = await client.ask(wire.GetTurns(RUN, 4), wire.Turns)
        for place, one in enumerate(turns.drawn[:12]):
            for annotator, is_alike in (("ada", place % 4), ("bob", place % 3)):
                said = one.turn.detector if is_alike else "stuck"
                request = wire.LabelTurn(RUN, one.turn, said, annotator)
                await client.ask(request, wire.Accepted, ask_id=f"{annotator} {place}")
        await open_label(pilot, console)
        await pilot.press("m")
        await until(pilot, lambda: "ada and bob" in screen_text(console))
        await settled(pilot, console)
        check_snapshot(f"agreement-{size}", screen_text(console))

    play(own_store, script, SIZES[size])
