"""The screen of the machine: asked only while it is shown, the longest phase named, bars as long as steps took."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from ponder import wire
from ponder.phases import StepTime, advice, bar, bottleneck, step_times
from tests.tui.reader_client import ReaderClient
from tests.tui.screens import RUN, check_snapshot, go_to, play, screen_text, until
from tui.app import Console
from tui.screens.system import step_lines


def looks(client: ReaderClient) -> int:
    return sum(isinstance(request, wire.GetSystem) for request in client.asked)


def test_the_machine_is_asked_about_only_while_it_is_shown(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        assert looks(client) == 0
        await pilot.press("0")
        await until(pilot, lambda: "the daemon's machine" in screen_text(console) and looks(client) > 0)
        await go_to(pilot, console, "runs")
        before = looks(client)
        client.ring()
        await until(pilot, lambda: isinstance(client.asked[-1], wire.GetRun | wire.ListRuns))
        assert looks(client) == before

    play(store, script)


def test_it_names_what_a_step_waits_for_and_shows_each_step(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "system")
        text = screen_text(console)
        assert "takes" in text and "% of a step" in text
        assert "s sampling" in text and "l learning" in text
        assert "62 % of 2 cores" in text and "full in 5 h" in text
        check_snapshot("system-120x40", text)

    play(store, script, (120, 40))


def test_it_says_who_draws_for_the_run_and_when_they_were_heard(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "system")
        await until(pilot, lambda: "tokens/s" in screen_text(console))
        assert "connected" not in screen_text(console), "this run's trainer tells nothing of workers"
        step = client.detail(RUN).row.step
        client.curves = {
            "workers/count": [(step, 2.0)], "workers/answers": [(step, 0.5)],
            "workers/lag": [(step, 1.5)], "workers/lag_max": [(step, 3.0)],
        }  # fmt: skip
        client.ring()
        await until(pilot, lambda: "2 connected" in screen_text(console))
        text = screen_text(console)
        assert f"workers        2 connected, heard at step {step}, " in text and " ago" in text
        assert "their answers  drew 50.0% of the newest step, lag 1.5" in text

    play(store, script, (180, 40))


def test_the_parts_of_a_step_are_its_whole() -> None:
    curves = {
        "time/step": [(1, 4.0), (2, 2.0), (3, float("nan"))],
        "time/sample": [(1, 3.0), (2, 1.0)],
        "time/learn": [(1, 0.5), (2, 0.75)],
        "time/save": [(2, 1.0)],
    }
    times = step_times(curves)
    assert [time.step for time in times] == [1, 2]
    assert times[0].total_s == pytest.approx(4.0)
    assert times[1].total_s == pytest.approx(3.0)  # saving stands between two steps
    assert bottleneck(times) == "sampling takes 57 % of a step, learning 18 %"
    assert "max_new_tokens" in advice(times)
    assert bottleneck([]) == advice([]) == ""


def test_a_bar_is_as_long_as_its_step_took() -> None:
    half = StepTime(1, {"s": 1.0, "l": 1.0})
    assert len(bar(half, 4.0, 40)) == 20
    assert bar(half, 4.0, 40).count("s") == 10
    assert bar(half, 0.0, 40) == bar(half, 4.0, 0) == ""
    (line,) = step_lines([half], 50)
    assert line.text.text.endswith("2.00 s")
    assert [span.end - span.start for span in line.spans] == [bar(half, 2.0, 30).count("s")] * 2
