"""The diary and the log: what happened comes in its order, what went wrong stands out, only news is asked for."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from textual.pilot import Pilot

from ponder import events, wire
from ponder.events import RunState, StoredEvent
from store.writer import Writer
from tests.tui.reader_client import ReaderClient
from tests.tui.screens import LARGE, RUN, SMALL, go_to, play, screen_text, settled, until
from tui.app import Console
from tui.screens.log import entry, is_routine, weight
from tui.widgets import LineView


def test_the_diary_tells_what_happened_without_groups_and_steps(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "log")
        shown = screen_text(console)
        assert "submitted as" in shown and "what happened in" in shown and "following" in shown
        told = "".join(console.screen.query_one("#diary", LineView).lines)
        assert "answers, " not in told and "step 30: reward" not in told

    play(store, script, LARGE)


def test_what_is_new_comes_and_nothing_is_asked_twice(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "log")
        before = console.screen.query_one("#diary", LineView).lines
        with closing(Writer(store)) as writer:
            writer.set_state(RUN, RunState.PAUSED, "somebody wanted to look")
            head = writer.head()
        client.ring()
        await until(pilot, lambda: "somebody wanted to look" in screen_text(console))
        after = console.screen.query_one("#diary", LineView).lines
        assert after[: len(before)] == before and len(after) == len(before) + 1
        client.ring()
        await until(pilot, lambda: wire.GetEvents(head, RUN, 200, only_notable=True) in client.asked)
        await settled(pilot, console)
        assert console.screen.query_one("#diary", LineView).lines == after

    play(store, script, SMALL)


def test_tab_moves_between_the_halves_and_f_holds_the_one_in_focus(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "log")
        diary, log = (console.screen.query_one(name, LineView) for name in ("#diary", "#log"))
        assert console.screen.focused is diary
        await pilot.press("f")
        assert not diary.following and log.following
        await pilot.press("tab", "f")
        assert console.screen.focused is log and not log.following

    play(store, script, SMALL)


def test_what_went_wrong_has_a_sign_and_what_went_well_none() -> None:
    ended = events.AttemptEnded(1, None, 9, "killed by SIGKILL")
    assert weight(ended) == ("bad", "!")
    assert weight(events.AttemptEnded(1, 0, None, "finished")) == ("plain", "")
    assert weight(events.RunBroke(3, "learn", "no memory"))[1] == "!"
    assert weight(events.StateChanged(RunState.RUNNING, RunState.FAILED)) == ("bad", "!")
    assert weight(events.StateChanged(RunState.RUNNING, RunState.PAUSED)) == ("plain", "")
    assert "run-1  trainer ended" in entry(StoredEvent(1, "run-1", 0, ended), with_run=True).text.text


def test_what_comes_with_every_ranking_is_no_part_of_the_diary() -> None:
    assert is_routine(events.CommandApplied("c", 4, events.REWARD_MODEL_VERB, "version", 3, 4))
    assert not is_routine(events.CommandApplied("c", 4, "set", "optim.lr", 0.1, 0.2))
