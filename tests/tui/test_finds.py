"""A winning move that nobody expected is told below its game, as a turn is below its answer."""

from __future__ import annotations

from pathlib import Path

from textual.pilot import Pilot

from ponder.events import Find, Finish, Rollout
from ponder.wire import GetSamples, StoredRollout
from store.writer import Writer
from tests.store.records import as_records, recipe_text, started
from tests.store.test_games import game, no_game
from tests.tui.reader_client import ReaderClient
from tests.tui.screens import go_to, play, screen_text, settled, until
from tui.app import Console
from tui.screens.samples import answer_document


def test_a_game_is_read_with_its_finds() -> None:
    text = "a3 c4 2 2 2 : b1 a2 0 1 2 : c1"
    rollout = Rollout(0, text, 14, Finish.END, 1.0, is_correct=True, finds=[Find(0, 2, "a3", "5 2 6", 0.0012, 0.25, 0)])
    stored = StoredRollout(1, "selfplay-1", 612, 2, 3, "nim 5 2 6 :", "a1", 5, rollout)
    shown = [paragraph.text.text for paragraph in answer_document(stored, GetSamples("selfplay-1"))]
    assert text in shown
    assert "find:  a3 at 5 2 6   (0.12% when the stage began, 25.0% when it was made)" in shown


def test_finds_are_listed_behind_the_outcomes_of_turns(tmp_path: Path) -> None:
    store = tmp_path / "games.db"
    writer = Writer(store)
    run = writer.submit_run("submit", recipe_text(), "zero.toml", "ada")
    writer.commit_records(run, as_records([started(0, 30), game(1), no_game(2), game(3)]))
    writer.close()

    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "aha")
        await pilot.press(*["o"] * 8)
        await until(pilot, lambda: "moves that nobody expected" in screen_text(console))
        await settled(pilot, console)
        rows = [line.split() for line in screen_text(console).splitlines() if " F " in line]
        assert [row[-8:] for row in rows] == [[step, "F", "a2", "2", "1", "2", "0.00%", "50.0%"] for step in "31"]
        await pilot.press("enter")
        await until(pilot, lambda: "find:  a3 at 5 2 6" in screen_text(console))
        await pilot.press("escape", "o")
        await until(pilot, lambda: "all turns" in screen_text(console))

    play(store, script)
