"""Any metric of any run can be looked at closely, beside others, and every mark says what it is."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace
from textual.pilot import Pilot

from ponder import wire
from tests.tui.reader_client import ReaderClient
from tests.tui.screens import check_snapshot, go_to, key_line, play, screen_text, settled, until
from tui.app import Console
from tui.grid import grid_columns
from tui.screens.chooser import Chooser
from tui.screens.curves import MOST_CHARTS, CurvesScreen
from tui.screens.text_line import TextLine
from tui.widgets.curve_chart import CurveChart


def head(console: Console) -> str:
    assert console.shown is not None
    return console.shown.query_one("#curves-head", TextLine).line


def foot(console: Console) -> str:
    assert console.shown is not None
    return console.shown.query_one("#curves-foot", TextLine).line


async def open_curves(pilot: Pilot[int], console: Console) -> CurvesScreen:
    screen = await go_to(pilot, console, "curves")
    assert isinstance(screen, CurvesScreen)
    return screen


def test_it_looks_as_it_did(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        screen = await open_curves(pilot, console)
        check_snapshot("curves-120x40", screen_text(console))
        screen.overlay(["countdown-zero-1"])
        await until(pilot, lambda: "b countdown-zero-1" in head(console))
        await pilot.press("p", "x")
        await until(pilot, lambda: "x: time" in head(console))
        await settled(pilot, console)
        check_snapshot("curves-overlaid-120x40", screen_text(console))
        await pilot.press("m")
        await until(pilot, lambda: isinstance(console.screen, Chooser))
        await pilot.press("k", "l")
        await settled(pilot, console)
        check_snapshot("chooser-120x40", screen_text(console))

    play(store, script, (120, 40))


def test_metrics_are_chosen_by_letters_or_an_expression_and_kept(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await open_curves(pilot, console)
        await pilot.press("m")
        await until(pilot, lambda: isinstance(console.screen, Chooser))
        await pilot.press("enter", "enter", "down", "up")  # given back, and taken again
        await pilot.press(*"gradnorm", "enter", "escape")
        await until(pilot, lambda: "grad norm" in screen_text(console))
        assert console.memory.recall("curves.metrics", list[str]())[-1] == "optim/grad_norm"
        await pilot.press("m", "slash", *"^time", "ctrl+a", "escape")
        await until(pilot, lambda: len(console.memory.recall("curves.metrics", list[str]())) == 8)
        asked = [request for request in client.asked if isinstance(request, wire.GetMetrics)]
        assert asked[-1].names == ["time/sample", "time/learn", "time/step"]

    play(store, script, (200, 60))


def test_a_chooser_shows_nothing_for_an_expression_that_is_none(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await open_curves(pilot, console)
        await pilot.press("m", "slash", "left_parenthesis")
        await until(pilot, lambda: "nothing fits" in screen_text(console))
        await pilot.press("enter", "ctrl+a", "escape")
        await until(pilot, lambda: "held-out accuracy" in screen_text(console))

    play(store, script)


def test_smoothing_axis_and_logarithm_turn_and_are_kept(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await open_curves(pilot, console)
        for words in ("smoothing 0.9 ", "smoothing 0.99", "not smoothed", "smoothing 0.6"):
            await pilot.press("s")
            await until(pilot, lambda words=words: words in head(console))  # type: ignore[misc]  # bound at once
        await pilot.press("x")
        await until(pilot, lambda: "x: time" in head(console) and "0 s  " in screen_text(console))
        await pilot.press("x", "tab", "tab", "e")
        await until(pilot, lambda: "> length, tokens (log)" in screen_text(console))
        assert console.memory.recall("curves.log", list[str]()) == ["length/mean"]
        await pilot.press("e")
        await until(pilot, lambda: "(log)" not in screen_text(console))

    play(store, script)


def test_the_cursor_tells_the_values_there_and_the_mark(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await open_curves(pilot, console)
        assert "1 mark: k a knob was turned" in foot(console)
        await pilot.press("p")
        await until(pilot, lambda: "step 10" in foot(console) and "k optim.lr 0.0003 -> 0.0001" in foot(console))
        curves = client._reader.metrics("countdown-zero-2", ["eval/accuracy"]).curves["eval/accuracy"]
        assert f"{dict(curves)[10]:.1%}" in screen_text(console)
        await pilot.press("p")
        await until(pilot, lambda: "no mark before" in key_line(console))
        await pilot.press("l")
        await until(pilot, lambda: "step 11" in foot(console) and "no mark here" in foot(console))
        await pilot.press("n")
        await until(pilot, lambda: "no mark further on" in key_line(console))
        await pilot.press("h")
        await until(pilot, lambda: "step 10" in foot(console))
        await pilot.press("escape")
        await until(pilot, lambda: "1 mark" in foot(console))
        assert console.current_mode == "curves"
        await pilot.click("#curve-0", offset=(20, 3))
        await until(pilot, lambda: "step 13" in foot(console) or "step 14" in foot(console))

    play(store, script)


def test_zooming_keeps_the_cursor_in_view_and_moving_takes_the_view_along(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await open_curves(pilot, console)
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: "everything is in view" in key_line(console))
        await pilot.press("p", "z")
        await until(pilot, lambda: "steps 5 to 20" in head(console))
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: "steps 12 to 28" in head(console) or "steps 13 to 28" in head(console))
        await pilot.press("left_square_bracket", "left_square_bracket")
        await until(pilot, lambda: "steps 0 to 15" in head(console))
        for _ in range(40):
            await pilot.press("right")
        await until(pilot, lambda: "1 mark" in foot(console) and "to 30" in head(console))
        asked = [request for request in client.asked if isinstance(request, wire.GetMetrics)]
        assert asked[-1].span == 1
        await pilot.press("Z")
        await until(pilot, lambda: "steps" not in head(console))
        await pilot.press("z", "escape")
        await until(pilot, lambda: "steps" not in head(console))

    play(store, script)


def test_enter_makes_one_chart_large_and_pages_hold_the_rest(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await open_curves(pilot, console)
        await pilot.press("f")
        await until(pilot, lambda: "all chosen metrics are in view" in key_line(console))
        await pilot.press("tab", "enter")
        await until(pilot, lambda: "held-out accuracy" in screen_text(console) and "length" not in screen_text(console))
        await pilot.press("enter")
        await until(pilot, lambda: "length" in screen_text(console))
        await pilot.press("enter", "escape", "m", "ctrl+a", "escape")
        await until(pilot, lambda: "page 1/4" in head(console))
        await pilot.press("f")
        await until(pilot, lambda: "page 2/4" in head(console))

    play(store, script)


def test_runs_are_laid_over_each_other_with_letters(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await open_curves(pilot, console)
        await pilot.press("o")
        await until(pilot, lambda: isinstance(console.screen, Chooser))
        await pilot.press("enter", "escape")
        await until(pilot, lambda: "a countdown-zero-2" in head(console) and "b countdown-zero-1" in head(console))
        await until(pilot, lambda: "b 28.3%" in screen_text(console) or "b 2" in screen_text(console))
        await settled(pilot, console)
        client.asked.clear()
        client.ring()
        await until(pilot, lambda: any(isinstance(request, wire.GetMetrics) for request in client.asked))
        assert {request.run for request in client.asked if isinstance(request, wire.GetMetrics)} == {"countdown-zero-2"}

    play(store, script)


def test_another_run_is_seen_whole_and_a_firing_tells_what_was_found(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await open_curves(pilot, console)
        await pilot.press("p", "z")
        await until(pilot, lambda: "steps 5 to 20" in head(console))
        await console.watch_run("countdown-zero-1")
        await until(pilot, lambda: "countdown-zero-1" in head(console) and "steps" not in head(console))
        assert "2 marks" in foot(console)
        told = client._read

        def with_firing(request: wire.Request) -> wire.Reply:
            reply = told(request)
            if isinstance(reply, wire.Curves):
                return replace(reply, marks=[*reply.marks, (25, "watchdog: kl (warn)")])
            if isinstance(reply, wire.RunDetail):
                return replace(reply, firings=[(25, "kl: 0.9 nats are more than 0.5 (warn)")])
            return reply

        client._read = with_firing  # type: ignore[method-assign]  # a firing that the store does not have
        await console.watch_run("countdown-zero-2")
        await until(pilot, lambda: "w the watchdog fired" in foot(console))
        await pilot.press("p")
        await until(pilot, lambda: "w watchdog: kl: 0.9 nats are more" in foot(console))

    play(store, script, (120, 40))


def test_the_palette_leads_to_a_metric(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await pilot.press("colon", *"gradnorm")
        await pilot.press("enter")
        await until(pilot, lambda: console.current_mode == "curves" and "grad norm" in screen_text(console))
        assert "optim/grad_norm" in console.memory.recall("curves.metrics", list[str]())

    play(store, script)


def test_without_a_run_it_says_so(tmp_path: Path) -> None:
    from store.writer import Writer

    Writer(tmp_path / "ponder.db").close()

    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "curves")
        await pilot.press("m", "escape", "o", "p", "n", "h", "l", "z", "Z", "x", "e", "enter", "f", "s")
        await settled(pilot, console)
        assert "no data yet" in screen_text(console)

    play(tmp_path / "ponder.db", script)


def test_charts_stand_where_they_have_room() -> None:
    for count in range(1, MOST_CHARTS + 1):
        for width, height in ((60, 10), (80, 19), (120, 35), (200, 55)):
            columns = grid_columns(count, width, height)
            assert 1 <= columns <= max(1, min(count, width // 36))


def test_a_loss_has_the_line_that_it_is_read_against_in_its_chart(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        loss = {"loss/cross_entropy": [(step, 5.0 - step / 10) for step in range(31)]}
        client.curves = loss | {"loss/unigram": [(step, 3.4) for step in range(31)]}
        screen = await open_curves(pilot, console)
        screen.show_metric("loss/cross_entropy")
        await until(pilot, lambda: "cross-entropy, nats" in screen_text(console))
        await until(pilot, lambda: "u 3.4" in screen_text(console))
        chart = screen.query_one("#curve-0", CurveChart)
        assert [len(curve.points) for curve in chart._curves] == [31, 31]
        assert {y for _, y in chart._curves[1].points} == {3.4}
        asked = [request for request in client.asked if isinstance(request, wire.GetMetrics)]
        assert asked[-1].names == ["loss/cross_entropy", "loss/unigram"]
        client.curves = loss  # a run that learns responses alone
        await console.watch_run("countdown-zero-1")
        await until(pilot, lambda: "countdown-zero-1" in head(console) and len(chart._curves) == 1)

    play(store, script, (120, 40))
