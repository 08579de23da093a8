"""The tutorial leads through all its stations by the keys that it names, waits where it must, and is resumed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.cells import cell_len
from textual.pilot import Pilot

from ponder import wire
from ponder.events import Preview, PreviewAnswer, RunState
from ponder.wire import Live
from tests.tui.reader_client import ReaderClient
from tests.tui.screens import (
    LARGE,
    MIDDLE,
    NOW_US,
    RUN,
    SMALL,
    StillConsole,
    check_snapshot,
    make_client,
    screen_text,
    settled,
    until,
)
from tui.actions import BY_ID, SCREENS, WIDGET_KEYS
from tui.app import Console
from tui.habits import Habits
from tui.keys import Keys
from tui.memory import Memory
from tui.screens.guide import Guide
from tui.stations import STATIONS, Move, Need
from tui.tutor import Tutor, spelled
from tui.tutorial import as_text
from tui.widgets.wrapping import wrap_from

Script = Callable[[Pilot[int], Console, ReaderClient, Tutor], Awaitable[None]]
SIZES = {"80x24": SMALL, "120x40": MIDDLE, "200x60": LARGE}
ID = re.compile(r"\[([a-z]+\.[a-z_]+)\]")
MOVES = [pytest.param(move, id=f"{station.name}-{move.action}") for station in STATIONS for move in station.moves]


def walk(
    store: Path, script: Script, size: tuple[int, int] = SMALL, *, memory: Memory | None = None,
    keys: Keys | None = None,
) -> None:  # fmt: skip
    """Run a console with a tutorial over the store, and the script in it."""

    async def whole() -> None:
        client = make_client(store)
        habits = Habits(keys=keys or Keys(), memory=memory or Memory())
        console = StillConsole(client, RUN, is_ascii=False, habits=habits, screen="live")
        tutor = console.tutor = Tutor(habits.memory)
        try:
            async with console.run_test(size=size) as pilot:
                await until(pilot, lambda: console.shown is not None and console.feed.pulled_s is not None)
                await script(pilot, console, client, tutor)
        finally:
            client.close()

    asyncio.run(whole())


def write_something(client: ReaderClient) -> None:
    answers = [
        PreviewAnswer(0, 0, 0, "8 + 9 = 17 + 5 = 22 no wait 8 * 5", "solve 8 9 5 -> 67 :"),
        PreviewAnswer(0, 1, 0, "8 * 9 = 72 - 5 = 67 ok", "solve 8 9 5 -> 67 :", is_done=True),
    ]
    client.say(Live(RUN, Preview(31, answers)))


def put(client: ReaderClient, run: str, **facts: object) -> None:
    """Make something true of a run."""
    row = client.overrides.get(run) or next(row for row in client.rows() if row.name == run)
    client.overrides[run] = replace(row, **facts)
    client.ring()


AFTER = {"knobs.more": ["enter"], "checkpoints.fork": ["enter"], "screen.checkpoints": [], "rank.commit": []}
"""Keys that a form takes after the one that the tutorial names."""
BEFORE = {"rank.commit": ["1", "2", "3"]}


async def make_true(client: ReaderClient, need: Need) -> None:
    """What the store alone does not have."""
    if need is Need.WRITING:
        write_something(client)
    elif need is Need.APPLIED:
        client.settle(wire.CommandState.APPLIED, 31)
    elif need is Need.PAUSED:
        put(client, RUN, state=RunState.PAUSED)
    elif need is Need.FORKED:
        other = next(row.name for row in client.rows() if row.name != RUN)
        put(client, other, forked_from=RUN, forked_at=2)


def is_at(tutor: Tutor, move: Move) -> bool:
    return tutor.move is move


def is_past(tutor: Tutor, move: Move) -> bool:
    return tutor.move is not move


def says(tutor: Tutor, console: Console, move: Move) -> bool:
    return tutor.words(console) == (move.words, move.more)


def guide_lines(console: Console) -> list[str]:
    """The rows of the tutorial as they stand on the screen."""
    region = console.screen.query_one(Guide).region
    return screen_text(console).split("\n")[region.y : region.bottom]


async def do(pilot: Pilot[int], move: Move) -> None:
    await pilot.press(*BEFORE.get(move.action, []))
    await pilot.press(BY_ID[move.action].key.split(",")[0])
    for key in AFTER.get(move.action, []):
        await pilot.pause()
        await pilot.press(key)


@pytest.mark.parametrize("size", SIZES)
def test_all_stations_in_a_row_by_the_keys_that_they_name(store: Path, size: str) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient, tutor: Tutor) -> None:
        said = []
        for station in STATIONS:
            for move in station.moves:
                await until(pilot, partial(is_at, tutor, move))
                await make_true(client, move.need)
                await until(pilot, partial(says, tutor, console, move))
                await settled(pilot, console)
                said += [*guide_lines(console), ""]
                await do(pilot, move)
                await until(pilot, partial(is_past, tutor, move))
        await until(pilot, lambda: tutor.station is None)
        await pilot.press("escape")  # out of the comparison
        await settled(pilot, console)
        check_snapshot(f"tutorial-{size}", "\n".join([*said, *guide_lines(console)]))
        await pilot.press("X")
        await until(pilot, lambda: not console.screen.query_one(Guide).display)
        assert {wire.SetKnob, wire.SaveRun, wire.PauseRun, wire.ResumeRun, wire.RankAnswers, wire.ForkRun} == {
            type(request) for request in client.acted
        }

    walk(store, script, SIZES[size])


def test_there_are_ten_stations_each_of_an_idea() -> None:
    assert len(STATIONS) == 10
    assert len({station.name for station in STATIONS}) == 10
    assert all(station.idea and station.title and station.commands for station in STATIONS)


@pytest.mark.parametrize("move", MOVES)
def test_a_text_names_its_own_key_and_only_keys_that_exist(move: Move) -> None:
    assert {move.action, *move.also} <= {*ID.findall(move.words)}
    for text in (move.words, move.more, move.meanwhile):
        assert set(ID.findall(text)) <= {*BY_ID, *WIDGET_KEYS}
        assert not re.search(r"[Pp]ress `?\w\b", text), "a key is named by its action"


@pytest.mark.parametrize("move", MOVES)
def test_a_text_fits_where_it_stands(move: Move) -> None:
    keys = Keys()
    for text in (move.words, move.meanwhile.format(step="1,200", every=20)):
        shown = spelled(text, keys)
        assert cell_len(shown) == len(shown), "no wide characters"
        assert len(wrap_from(shown, 0, 78)) <= 2, shown
    for width, rows in ((78, 5), (158, 3)):
        both = [wrap_from(spelled(text, keys), 0, width) for text in (move.words, move.more) if text]
        assert sum(map(len, both)) <= rows


def test_it_waits_for_what_is_not_there_yet_and_says_so(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient, tutor: Tutor) -> None:
        first = STATIONS[0].moves[0]
        await until(pilot, lambda: "being loaded" in screen_text(console))
        await pilot.press("n")  # works as ever, and is not what is waited for
        await pilot.pause()
        assert tutor.move is first
        write_something(client)
        await until(pilot, lambda: "watch it choose" in screen_text(console))
        await pilot.press("n")
        await until(pilot, lambda: tutor.station is STATIONS[1])

    walk(store, script)


def test_a_run_that_is_over_is_said_where_a_living_one_is_needed(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient, tutor: Tutor) -> None:
        put(client, RUN, state=RunState.FINISHED, ended_us=NOW_US)
        await until(pilot, lambda: "This run is over" in screen_text(console))
        await pilot.press("greater_than_sign")
        await until(pilot, lambda: "The policy gives" in screen_text(console))
        assert tutor.station is STATIONS[1]

    walk(store, script)


def test_a_paused_run_is_said_to_be_one_where_something_has_to_come_of_it(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient, tutor: Tutor) -> None:
        del tutor
        put(client, RUN, state=RunState.PAUSED)
        await until(pilot, lambda: "space lets it go on" in screen_text(console))

    walk(store, script)


def test_it_says_the_way_back_to_the_screen_where_it_goes_on(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient, tutor: Tutor) -> None:
        while tutor.station is not STATIONS[3]:
            tutor.skip()
        await pilot.press("9")
        await until(pilot, lambda: "leads out of the ranking" in screen_text(console))
        await pilot.press("escape")
        await until(pilot, lambda: "goes on at the Group screen: 4 leads there" in screen_text(console))
        await pilot.press("4", "e")
        await until(pilot, lambda: "work out another" in screen_text(console))

    walk(store, script)


def test_keys_of_a_persons_own_are_named_and_heard(store: Path) -> None:
    keys = Keys({"screen.tokens": "ctrl+t", "tutorial.skip": "ctrl+n"})

    async def script(pilot: Pilot[int], console: Console, _: ReaderClient, tutor: Tutor) -> None:
        await pilot.press("ctrl+n")
        await until(pilot, lambda: "Press Ctrl-T to see one" in screen_text(console))
        assert "Ctrl-N skip" in screen_text(console)
        assert "Press Ctrl-T to see one token by token." in " ".join(" ".join(guide_lines(console)).split())
        await pilot.press("ctrl+t")
        await until(pilot, lambda: tutor.move is STATIONS[1].moves[1])

    walk(store, script, keys=keys)


def test_it_goes_on_where_it_was_left_and_begins_anew_after_its_end(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "console.json"

    async def leave_at_the_third(pilot: Pilot[int], console: Console, _: ReaderClient, tutor: Tutor) -> None:
        await pilot.press("greater_than_sign", "greater_than_sign")
        await until(pilot, lambda: tutor.station is STATIONS[2])
        await pilot.press("X")
        await until(pilot, lambda: "goes on where it was left" in screen_text(console))
        await pilot.press("greater_than_sign")
        await until(pilot, lambda: "no tutorial is on" in screen_text(console))

    walk(store, leave_at_the_third, memory=Memory(file))
    assert Tutor(Memory(file)).station is STATIONS[2]
    assert Tutor(Memory(file), is_again=True).station is STATIONS[0]
    tutor = Tutor(Memory(file))
    while tutor.station is not None:
        tutor.skip()
    assert tutor.heading == "The end of the tutorial"
    assert Tutor(Memory(file)).station is STATIONS[0]


@pytest.mark.parametrize("size", [(80, 20), SMALL, (99, 35), (160, 36), LARGE])
def test_the_guide_covers_nothing_and_pushes_nothing_off_the_screen(store: Path, size: tuple[int, int]) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient, tutor: Tutor) -> None:
        del tutor
        for name in SCREENS:
            await console.show_screen(name)
            console.want()
            await settled(pilot, console)
            lines = screen_text(console).split("\n")
            assert len(lines) == size[1] and all(len(line) <= size[0] for line in lines)
            assert "F1 help" in lines[-1]
            said = guide_lines(console)
            assert lines[-1 - len(said) : -1] == said, "right above the key line"
            assert "1/10 An answer is written" in said[0], name
            assert said[1].strip()

    walk(store, script, size)


def test_where_there_is_no_room_it_says_so_and_stays_away(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient, tutor: Tutor) -> None:
        del tutor
        for name in SCREENS:
            await console.show_screen(name)
            console.want()
            await settled(pilot, console)
            assert not console.screen.query_one(Guide).display
        await until(pilot, lambda: "the tutorial needs 20 rows" in screen_text(console).split("\n")[-1])

    walk(store, script, (60, 15))


def test_as_text_it_names_ten_stations_with_their_commands() -> None:
    text = "\n".join(as_text(Keys()))
    for number, station in enumerate(STATIONS, start=1):
        assert f"\n{number}. {station.title}\n" in text
    assert text.count("   $ ponder ") >= 20
    assert "[" not in text.replace("[--", "") and "{" not in text
