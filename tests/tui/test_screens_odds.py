"""The page of an answer's odds: it fills while checkpoints are weighed, says why it cannot, and lets go when closed."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot

from ponder import wire
from ponder.events import Finish, GroupScored, Rollout, TrainerEvent
from store.writer import Writer
from tests.store.records import as_records, recipe_text, started
from tests.tui.reader_client import ReaderClient
from tests.tui.screens import LARGE, SMALL, check_snapshot, go_to, play, screen_text, settled, until
from tui.app import Console
from tui.odds_strips import Line, head_line, strip_line
from tui.screens.odds import OddsPage

PIECES = [" 8", " *", " 9", " =", " 72", " -", " 5", " =", " 67", ""]
STEPS = [0, 20, 40, 60, 80]


def chance(step: int, place: int) -> float:
    """Of a token, by a checkpoint that learns."""
    return min(0.999, (0.02 + step / 80) * (0.9 if place % 3 else 0.4) + 0.05)


def row(step: int, pieces: list[str] = PIECES) -> wire.CheckpointOdds:
    tokens = [wire.TokenOdds(text, math.log(chance(step, place))) for place, text in enumerate(pieces)]
    return wire.CheckpointOdds(step, math.fsum(token.logp or 0.0 for token in tokens), tokens)


def odds(*steps: int, doing: str = "") -> wire.Odds:
    return wire.Odds("c-1", STEPS, [row(step) for step in steps], [], doing, not doing)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One answer, as it was drawn after step 30."""
    path = tmp_path_factory.mktemp("store") / "ponder.db"
    writer = Writer(path)
    run = writer.submit_run("c", recipe_text(), "", "")
    text = "".join(PIECES).lstrip()
    widths = [1, *map(len, PIECES[1:])]  # the first space is left out of the text
    rollout = Rollout(
        0, text, len(PIECES), Finish.END, 1.0, 0.5, is_correct=True,
        token_ids=struct.pack(f"<{len(PIECES)}I", *range(len(PIECES))), widths=bytes(widths),
        logps=struct.pack(f"<{len(PIECES)}e", *[-0.5] * len(PIECES)),
    )  # fmt: skip
    scored = GroupScored(31, 0, 62, "p", "solve 8 9 5 -> 67 :", "8 * 9 - 5", [rollout, replace(rollout, index=1)])
    events: list[TrainerEvent] = [started(0, 80), scored]
    writer.commit_records(run, as_records(events))
    writer.close()
    return path


async def opened(pilot: Pilot[int], console: Console, screen: str = "tokens") -> OddsPage:
    await go_to(pilot, console, screen)
    await pilot.press("o")
    await until(pilot, lambda: isinstance(console.screen, OddsPage))
    page = console.screen
    assert isinstance(page, OddsPage)
    return page


@pytest.mark.parametrize(("name", "size"), [("80x24", SMALL), ("200x60", LARGE)])
def test_it_fills_as_checkpoints_are_weighed(store: Path, name: str, size: tuple[int, int]) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        client.odds = [odds(doing="loading the code")]
        await opened(pilot, console)
        await until(pilot, lambda: "loading the code, 1 of 5" in screen_text(console))
        client.odds = [odds(0, 20, doing="step 40")]
        await until(pilot, lambda: "step 40, 3 of 5" in screen_text(console))
        client.odds = [odds(40, 60, 80)]
        await until(pilot, lambda: "5 checkpoints" in screen_text(console))
        known = [request.known for request in client.asked if isinstance(request, wire.GetOdds)]
        assert known[0] == [] and known[-1] == [0, 20]
        await pilot.press("l", "l")
        await settled(pilot, console)
        shown = screen_text(console)
        check_snapshot(f"odds-{name}", shown)
        strips = [line[31:] for line in shown.splitlines() if line.split()[:1] in (["0"], ["drawn"])][-2:]
        assert [place for place, cell in enumerate(strips[0]) if cell != " "] == [
            place for place, cell in enumerate(strips[1]) if cell != " "
        ]
        lines = [line.split() for line in shown.splitlines()]
        firsts = [words[0] for words in lines if words and words[0] in ("0", "20", "drawn", "40", "60", "80")]
        assert firsts[-6:] == ["0", "20", "drawn", "40", "60", "80"]
        assert ("log chance of the whole answer" in shown) == (size == LARGE)
        assert f"{chance(0, 2):.1%} -> {chance(80, 2):.0%}" in shown
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(console.screen, OddsPage))
        await pilot.pause()
        assert not [one for one in client.asked if isinstance(one, wire.GetOdds) and not one.is_wanted]

    play(store, script, size)


@pytest.mark.parametrize("screen", ["samples", "group", "tokens"])
def test_the_answer_under_the_cursor_is_weighed_and_let_go_when_the_page_is_closed(store: Path, screen: str) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        client.odds = [odds(0, doing="step 20")]
        await go_to(pilot, console, screen)
        if screen == "group":
            await pilot.press("l")
        await opened(pilot, console, screen)
        await until(pilot, lambda: any(isinstance(one, wire.GetOdds) for one in client.asked))
        await until(pilot, lambda: "step 20, 2 of 5" in screen_text(console))
        asked = [one for one in client.asked if isinstance(one, wire.GetOdds)]
        assert {one.rollout_id for one in asked} == {2 if screen in ("group", "samples") else asked[0].rollout_id}
        await pilot.press("escape")

        def is_let_go() -> bool:
            return any(isinstance(one, wire.GetOdds) and not one.is_wanted for one in client.asked)

        await until(pilot, is_let_go)
        assert console.current_mode == screen

    play(store, script)


def test_why_it_cannot_be_weighed_stands_there(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        why = "no checkpoint of `c-1` weighs it: step 0: a\x1b[31m model"
        client.odds = [odds(0, doing="step 20"), wire.Refusal("not_found", why, "`ponder checkpoints c-1` lists them")]
        await opened(pilot, console)
        await until(pilot, lambda: "cannot be weighed" in screen_text(console))
        shown = screen_text(console)
        assert "! no checkpoint of `c-1` weighs it: step 0: a␛[31m model" in shown
        assert "`ponder checkpoints c-1` lists them" in shown
        assert any(line.split()[:1] == ["0"] for line in shown.splitlines())  # what was said before stays
        await pilot.press("q")
        await until(pilot, lambda: not isinstance(console.screen, OddsPage))

    play(store, script)


def test_what_is_missing_is_said_and_a_daemon_that_is_away_is_asked_again(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        client.odds = [odds(0, doing="step 20")]
        await opened(pilot, console)
        await until(pilot, lambda: "step 20, 2 of 5" in screen_text(console))
        client.is_away = True
        await until(pilot, lambda: "no daemon answers; asked again" in screen_text(console))
        client.odds = [replace(odds(0), steps=[0], left_out=[(40, "it cannot be read")])]
        client.is_away = False
        await until(pilot, lambda: "1 checkpoint " in screen_text(console))
        assert "step 40 is left out: it cannot be read" in screen_text(console)
        assert "no checkpoint is on disk" in screen_text(console)

    play(store, script)


def test_a_long_answer_is_a_cell_a_token_and_then_those_around_the_cursor() -> None:
    pieces = [f" w{number:02}" for number in range(100)]
    line = Line("1,000", row(40, pieces))
    whole = strip_line(line, 0, 31 + 400).text.text
    assert len(whole) == 31 + 400
    dense = strip_line(line, 0, 131).text.text
    assert len(dense) == 131 and dense[31:].isdigit()
    near = strip_line(line, 99, 71)
    assert near.text.text[31:] == dense[91:]
    assert [span.style for span in near.spans][-1] == "search" and near.spans[-1].end == 71
    assert head_line(line.odds.tokens, 99, 71).text.text[31:] == " " * 40


def test_a_token_that_a_world_said_has_no_chance() -> None:
    told = wire.CheckpointOdds(2, -0.1, [wire.TokenOdds("a", -0.1), wire.TokenOdds(" reply", None)])
    line = strip_line(Line("2", told), 1, 80).text.text
    assert line.split() == ["2", "0.9", "90%", "-", "9", "-"]
