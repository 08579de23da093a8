"""Runs are found by words, marked, laid side by side and over each other, and all of it without leaving the list."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from ponder.compare import compare, request
from tests.tui.reader_client import ReaderClient
from tests.tui.screens import (
    check_snapshot,
    go_to,
    key_line,
    make_client,
    play,
    screen_text,
    settled,
    until,
)
from tui.app import Console
from tui.screens.compare import ComparePage, compare_page
from tui.screens.runs import fits
from tui.screens.text_line import TextLine


def test_two_marked_runs_are_laid_side_by_side_and_over_each_other(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "runs")
        await pilot.press("m", "m")
        await until(pilot, lambda: screen_text(console).count(" x ") == 2)
        await settled(pilot, console)
        check_snapshot("runs-marked-120x40", screen_text(console))
        await pilot.press("v")
        await until(pilot, lambda: isinstance(console.screen, ComparePage))
        await settled(pilot, console)
        check_snapshot("compare-120x40", screen_text(console))
        assert "stage.steps" in screen_text(console)
        assert "= ponder compare countdown-zero-2 countdown-zero-1" in screen_text(console)
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(console.screen, ComparePage))
        await pilot.press("v")
        await until(pilot, lambda: isinstance(console.screen, ComparePage))
        await pilot.press("o")
        await until(pilot, lambda: console.current_mode == "curves")
        await until(pilot, lambda: "b countdown-zero-1" in console.shown.query_one("#curves-head", TextLine).line)  # type: ignore[union-attr]  # it is shown
        assert not client.acted

    play(store, script, (120, 40))


def test_one_run_is_compared_with_the_watched_one_and_alone_it_needs_another(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "runs")
        await pilot.press("v")
        await until(pilot, lambda: "two are needed" in key_line(console))
        await pilot.press("G", "v")
        await until(pilot, lambda: isinstance(console.screen, ComparePage))
        assert "2 runs side by side" in screen_text(console)

    play(store, script)


def test_marks_are_taken_away_and_curves_of_the_run_under_the_cursor_are_drawn(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "runs")
        await pilot.press("m", "k", "m")
        await until(pilot, lambda: " x " not in screen_text(console))
        await pilot.press("G", "m", "escape")
        assert console.current_mode == "runs", "Esc takes the marks first"
        await pilot.press("o")
        await until(pilot, lambda: console.current_mode == "curves" and "b countdown-zero-1" in screen_text(console))

    play(store, script)


def test_words_filter_the_list_are_kept_and_escape_shows_all(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "runs")
        await pilot.press("slash", *"finished", "enter")
        await until(pilot, lambda: "1 of 2 runs fit" in screen_text(console))
        assert console.memory.recall("runs.filter", "") == "finished"
        await pilot.press("enter")
        await until(pilot, lambda: console.current_mode == "live" and console.run_name == "countdown-zero-1")
        await pilot.press("1")
        await until(pilot, lambda: "1 of 2 runs fit" in screen_text(console))
        await pilot.press("escape")
        await until(pilot, lambda: "runs fit" not in screen_text(console))
        await pilot.press("slash", *"zz")
        await until(pilot, lambda: "no run has these words; Esc shows all" in screen_text(console))
        await pilot.press("down", "slash", "escape")
        await until(pilot, lambda: "runs fit" not in screen_text(console))
        assert console.memory.recall("runs.filter", "x") == ""
        assert console.current_mode == "runs"

    play(store, script)


def test_every_word_must_be_in_what_the_list_says(store: Path) -> None:
    client = make_client(store)
    running, finished = client.rows()
    assert fits(finished, "ZERO fin")
    assert fits(finished, "")
    assert not fits(running, "zero fin")
    client.close()


@pytest.mark.parametrize("width", [56, 76, 116, 196])
def test_a_comparison_is_never_broader_than_its_page(store: Path, width: int) -> None:
    client = make_client(store)
    reader = client._reader
    rows = client.rows() * 4
    details = [reader.run(row.name) for row in rows]
    curves = [reader.metrics(request(row).run, request(row).names) for row in rows]
    page = compare_page(compare(details, curves), width)
    assert max(len(line) for paragraph in page for line in paragraph.text.text.split("\n")) <= width
    assert sum(paragraph.text.text.count("countdown-zero-2") for paragraph in page) >= 4
    client.close()
