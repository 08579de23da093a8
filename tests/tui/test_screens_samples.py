"""The samples screen finds an answer among all of a run, reads it, and leads to its group."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any  # Any: a stand-in that passes on whatever is asked

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot

from daemon.covers import covered_reply
from ponder import wire
from ponder.events import Finish, Rollout
from ponder.hidden import View
from store.writer import Writer
from tests.store.records import as_records, fill_store, step_events
from tests.tui.reader_client import ReaderClient
from tests.tui.screens import MIDDLE, go_to, key_line, play, screen_text, settled, until
from tui.app import Console
from tui.screens.sample_rows import said_cell
from tui.screens.samples import SampleLine, SampleList, SamplesScreen
from tui.widgets import LineView
from tui.window import KEPT, PAGE


@pytest.fixture(scope="module")
def long_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with more answers than the screen holds."""
    path = tmp_path_factory.mktemp("store") / "ponder.db"
    fill_store(path, runs=1, steps=90, groups=4, group_size=8)
    return path


async def type_line(pilot: Pilot[int], console: Console, key: str, text: str) -> None:
    """Open the line, write into it, send it."""
    await pilot.press(key)
    line = console.screen.query_one("#sample-line-value", SampleLine)
    await until(pilot, lambda: line.has_focus)
    line.value = text
    await pilot.press("enter")


def listed(console: Console) -> SampleList:
    return console.screen.query_one("#samples", SampleList)


def test_what_was_looked_for_is_marked_in_the_answer(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "samples")
        await type_line(pilot, console, "slash", "WAIT")
        await pilot.press("enter")
        view = console.screen.query_one("#answer", LineView)
        await until(pilot, lambda: "wait" in "\n".join(view.lines))
        await settled(pilot, console)
        spans = [(block.text, span) for block in view._blocks for span in block.spans if span.style == "search"]
        marked = {text[span.start : span.end] for text, span in spans}
        assert marked == {"wait"}

    play(store, script)


def test_a_filter_is_typed_checked_and_shows_what_fits(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "samples")
        await type_line(pilot, console, "slash", "rewrad>0.5")
        await until(pilot, lambda: "did you mean `reward`" in key_line(console))
        assert "no `rewrad` to filter by" in screen_text(console)
        line = console.screen.query_one("#sample-line-value", SampleLine)
        line.value = "rescued step:10..20"
        await pilot.press("enter")
        await until(pilot, lambda: "filter: rescued step:10..20" in screen_text(console))
        asked = [request for request in client.asked if isinstance(request, wire.GetSamples)][-1]
        assert (asked.outcome, asked.min_step, asked.max_step) == ("rescued", 10, 20)
        fits = listed(console).row_count
        assert fits and f"row 1 of {fits} that fit" in screen_text(console)
        await type_line(pilot, console, "slash", "step:7..8 nowhere")
        await until(pilot, lambda: "no answer fits" in screen_text(console))
        await type_line(pilot, console, "slash", "")
        await until(pilot, lambda: "row 1 of 960" in screen_text(console))
        await pilot.press("slash", "x", "escape")
        await until(pilot, lambda: not console.screen.has_class("-typing"))
        assert "row 1 of 960" in screen_text(console)

    play(store, script)


def test_s_sorts_by_reward_and_by_length(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        screen = await go_to(pilot, console, "samples")
        assert isinstance(screen, SamplesScreen)
        await pilot.press("s")
        await until(pilot, lambda: "highest reward first" in screen_text(console))
        await pilot.press("s")
        await until(pilot, lambda: "longest first" in screen_text(console))
        lengths = [stored.rollout.length_tokens for stored in screen._window.rows]
        assert lengths == sorted(lengths, reverse=True)
        await pilot.press("s")
        await until(pilot, lambda: "newest first" in screen_text(console))

    play(store, script)


def test_an_answer_is_read_with_its_prompt_and_leads_to_its_group(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "samples")
        await pilot.press("j", "j", "enter")
        await until(pilot, lambda: "step 30 answer 3.5" in screen_text(console) and "solve" in screen_text(console))
        await pilot.press("n")
        await until(pilot, lambda: "step 30 answer 3.4" in screen_text(console))
        await pilot.press("p", "p")
        await until(pilot, lambda: "step 30 answer 3.6" in screen_text(console))
        await pilot.press("4")
        await until(pilot, lambda: "step 30 group 3" in screen_text(console) and ">7/8" in screen_text(console))
        await pilot.press("3")
        await until(pilot, lambda: "step 30 answer 3.6" in screen_text(console))
        await pilot.press("escape")
        await until(pilot, lambda: "row 2 of 960" in screen_text(console))
        assert console.current_mode == "samples"

    play(store, script)


def test_the_ends_and_a_step_are_reached_at_once_and_all_rows_by_paging(long_store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        screen = await go_to(pilot, console, "samples")
        assert isinstance(screen, SamplesScreen)
        total = 90 * 4 * 8
        await until(pilot, lambda: f"row 1 of {total:,}" in screen_text(console))
        await pilot.press("G")
        await until(pilot, lambda: f"row {total:,} of {total:,}" in screen_text(console))
        assert screen._window.rows[-1].step == 1
        await pilot.press("g")
        await until(pilot, lambda: f"row 1 of {total:,}" in screen_text(console))
        seen: list[int] = []
        for _ in range(total):
            stored = screen._chosen()
            assert stored is not None
            if seen and stored.id == seen[-1]:
                break
            seen.append(stored.id)
            listed(console).move_to_index(listed(console).cursor_index + 40)
            await pilot.pause()
            await until(pilot, lambda: not screen._is_growing)
            assert len(screen._window.rows) <= KEPT
        place = {stored.id: at for at, stored in enumerate(client._reader.samples(console.run_name).samples)}
        assert [place[number] for number in seen[:-1]] == list(range(0, total - 1, 40))
        assert place[seen[-1]] == total - 1
        await type_line(pilot, console, "t", "45")
        await until(pilot, lambda: "step 45" in screen_text(console))
        first = screen._chosen()
        assert first is not None and first.step == 45
        for _ in range(2 * PAGE):
            await pilot.press("k")
        await until(pilot, lambda: (chosen := screen._chosen()) is not None and chosen.step > 45)

    play(long_store, script)


def test_a_step_before_the_first_shows_the_oldest_answers_and_says_so(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "samples")
        await type_line(pilot, console, "t", "0")
        await until(pilot, lambda: "no answer that fits is of step 0 or before it" in key_line(console))
        await until(pilot, lambda: "row 960 of 960" in screen_text(console))

    play(store, script)


@pytest.mark.parametrize("text", ["soon", "", "-3"])
def test_a_step_that_is_no_number_is_said_so(store: Path, text: str) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "samples")
        await type_line(pilot, console, "t", text)
        await until(pilot, lambda: "a step is a whole number" in key_line(console))
        await pilot.press("escape")
        await until(pilot, lambda: not console.screen.has_class("-typing"))

    play(store, script)


def test_the_row_under_the_cursor_stays_when_newer_answers_come(tmp_path: Path) -> None:
    path = tmp_path / "ponder.db"
    fill_store(path)

    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "samples")
        before = listed(console).cursor_key
        writer = Writer(path)
        run = console.run_name
        writer.commit_records(run, as_records(step_events(random.Random(1), 31, 60, 4, 8), writer.last_seq(run) + 1))
        writer.close()
        client.overrides.clear()
        client.ring()
        await until(pilot, lambda: "row 33 of 992" in screen_text(console))
        assert listed(console).cursor_key == before
        await until(pilot, lambda: "32 above, g for the first" in screen_text(console))
        await pilot.press("g")
        await until(pilot, lambda: "row 1 of 992" in screen_text(console))

    play(path, script, MIDDLE)


def test_the_whole_answer_is_asked_for_only_where_it_is_shown(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "samples")
        await pilot.press("j", "j")
        await settled(pilot, console)
        assert not any(isinstance(request, wire.GetSample) for request in client.asked)
        pages = [ask for ask in client.asked if isinstance(ask, wire.GetSamples) and ask.limit == PAGE]
        assert pages and all(page.excerpt for page in pages)
        await pilot.resize_terminal(*MIDDLE)
        await until(pilot, lambda: "step 30 answer 3.5" in screen_text(console))

    play(store, script)


def test_an_answer_is_starred_flagged_and_noted_from_its_row(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        screen = await go_to(pilot, console, "samples")
        assert isinstance(screen, SamplesScreen)
        await pilot.press("j", "asterisk")
        await until(pilot, lambda: len(client.acted) == 1)
        stored = screen._chosen()
        assert stored is not None
        assert client.acted[0] == wire.Annotate(stored.id, is_starred=True, by=console.by)
        await pilot.press("exclamation_mark")
        await until(pilot, lambda: len(client.acted) == 2)
        await type_line(pilot, console, "i", "look at the sum")
        await until(pilot, lambda: len(client.acted) == 3)
        await until(pilot, lambda: "*!n" in screen_text(console))
        assert client.acted[2] == wire.Annotate(stored.id, note="look at the sum", by=console.by)
        await pilot.press("asterisk")
        await until(pilot, lambda: client.acted[-1] == wire.Annotate(stored.id, is_starred=False, by=console.by))
        await pilot.press("enter")
        await until(pilot, lambda: "answer 3.6" in screen_text(console))

    play(store, script, MIDDLE)


def test_what_is_said_of_an_answer_and_found_in_it_has_a_sign_each() -> None:
    rollout = Rollout(0, "x", 1, Finish.END, 1.0, parts={"correct": 1.0, "monitor/hacks": 2.0})
    plain = wire.StoredRollout(1, "run", 2, 3, 4, "a prompt", "", 5, replace(rollout, parts={"monitor/hacks": 0.0}))
    assert said_cell(plain) == ""
    assert said_cell(replace(plain, rollout=rollout, is_flagged=True)) == "!m"


def test_an_answer_of_which_only_a_part_may_be_seen_says_so(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = ReaderClient._answer

    def shield(self: ReaderClient, request: wire.Request, ask_id: str) -> wire.Reply:
        return covered_reply(answer(self, request, ask_id), View.SUMMARY)

    monkeypatch.setattr(ReaderClient, "_answer", shield)

    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "samples")
        await pilot.press("enter")
        await until(pilot, lambda: "its summary alone" in screen_text(console))
        await until(pilot, lambda: "answers `" in screen_text(console))
        await go_to(pilot, console, "tokens")
        await until(pilot, lambda: "answers `" in screen_text(console))

    play(store, script, MIDDLE)


def test_a_console_that_only_reads_says_nothing_of_an_answer(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "samples")
        for key in ("asterisk", "exclamation_mark", "i"):
            await pilot.press(key)
            await until(pilot, lambda: "only reads" in key_line(console))
            console.notice = None
        assert not client.acted
        assert not console.screen.has_class("-typing")

    play(store, script, is_readonly=True)


@pytest.mark.parametrize("name", ["group", "samples", "tokens"])
def test_what_has_not_come_yet_is_not_said_to_be_nothing(
    store: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        gate, ask = asyncio.Event(), client.ask

        async def held(request: wire.Request, *rest: Any) -> Any:
            if isinstance(request, wire.GetGroups | wire.GetGroup | wire.GetSamples | wire.GetSample):
                await gate.wait()
            return await ask(request, *rest)

        monkeypatch.setattr(client, "ask", held)
        await console.show_screen(name)
        await until(pilot, lambda: console.current_mode == name and "asking the daemon" in screen_text(console))
        assert "scored yet" not in screen_text(console)
        gate.set()
        await until(pilot, lambda: "asking the daemon" not in screen_text(console))

    play(store, script)
