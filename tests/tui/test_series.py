"""A console asks for each number once, for no more than it has columns, and draws what the store has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import asdict, replace

from ponder import wire
from ponder.events import Record, RunStarted, RunState, StepDone
from store.reader import Reader
from store.writer import Writer
from tests.store.records import FIRST_US, fill_store, recipe_text
from tui.series import RunSeries, Window, part_window, whole_window

RUN = "countdown-zero-2"
NAMES = ["reward/mean", "eval/accuracy"]
WHOLE = Window(0, None, 1)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    fill_store(tmp_path / "ponder.db")
    opened = Reader(tmp_path / "ponder.db")
    yield opened
    opened.close()


def pull(reader: Reader, series: RunSeries, row: wire.RunRow, names: list[str], window: Window) -> int:
    """Ask as the screen does; how many points came."""
    count = 0
    for request in series.requests(row, names, window):
        found = reader.metrics(**asdict(request))
        series.take(request, found)
        count += sum(map(len, found.curves.values()))
    series.caught_up(row)
    return count


def points(series: RunSeries, name: str) -> list[tuple[float, float]]:
    return list(series.curve(name, smoothing=0.0, scale=1.0, is_time=False, sign="").points)


def test_what_is_drawn_is_what_the_store_has(reader: Reader) -> None:
    series, row = RunSeries(), reader.run(RUN).row
    pull(reader, series, row, NAMES, WHOLE)
    for name in NAMES:
        assert points(series, name) == reader.metrics(RUN, [name]).curves[name]
        assert series.value_at(name, 12) == dict(reader.metrics(RUN, [name]).curves[name])[12 if "r" in name[0] else 10]
    assert series.value_at("reward/mean", -1) is None


def test_a_second_pull_brings_the_newest_step_and_nothing_else(reader: Reader) -> None:
    series, row = RunSeries(), reader.run(RUN).row
    assert pull(reader, series, row, NAMES, WHOLE) == 37
    assert pull(reader, series, row, NAMES, WHOLE) == 2
    assert pull(reader, series, row, [*NAMES, "length/mean"], WHOLE) == 32


def test_a_run_that_is_over_is_asked_once(reader: Reader) -> None:
    series, row = RunSeries(), reader.run("countdown-zero-1").row
    pull(reader, series, row, NAMES, WHOLE)
    assert series.requests(row, NAMES, WHOLE) == []
    assert len(series.requests(row, NAMES, Window(8, 16, 1))) == 1


def test_another_attempt_or_an_earlier_step_begins_anew(reader: Reader) -> None:
    series, row = RunSeries(), reader.run(RUN).row
    pull(reader, series, row, NAMES, WHOLE)
    assert [request.after_step for request in series.requests(replace(row, attempt=9), NAMES, WHOLE)] == [-1]
    pull(reader, series, row, NAMES, WHOLE)
    assert [request.after_step for request in series.requests(replace(row, step=20), NAMES, WHOLE)] == [-1]


def test_growing_point_by_point_ends_where_one_pull_of_all_does(tmp_path: Path) -> None:
    path = tmp_path / "ponder.db"
    writer = Writer(path, lambda: FIRST_US)
    run = writer.submit_run("c", recipe_text(), "", "ada")
    writer.set_state(run, RunState.STARTING)
    writer.start_attempt(run, 1, 1, 1, "boot")
    writer.set_state(run, RunState.RUNNING)
    writer.commit_records(run, [Record(1, FIRST_US, 1, RunStarted(0, 600, "rl", "m", 1, "cpu", 1))])
    reader = Reader(path)
    growing = RunSeries()
    for step in range(1, 301):
        done = StepDone(step, step, {"reward/mean": step % 7 / 7})
        writer.commit_records(run, [Record(step + 1, FIRST_US + step * 1_000_000, 1, done)])
        if step % 3 == 0:
            pull(reader, growing, reader.run(run).row, ["reward/mean"], Window(0, None, 8))
    at_once = RunSeries()
    pull(reader, at_once, reader.run(run).row, ["reward/mean"], Window(0, None, 8))
    shapes = [
        series.curve("reward/mean", smoothing=0.9, scale=1.0, is_time=True, sign="") for series in (growing, at_once)
    ]
    assert shapes[0] == shapes[1]
    assert len(shapes[0].points) == len(shapes[0].bands) == 38
    assert shapes[0].smoothing == 0.9**8
    assert growing.seconds_at(300) == 299.0
    assert growing.step_at(100.0) in range(90, 102)
    reader.close()
    writer.close()


@pytest.mark.parametrize("steps", [1, 100, 5_000, 100_000, 10_000_000])
def test_no_window_has_many_more_points_than_the_screen_has_columns(steps: int) -> None:
    whole = whole_window(steps, 160)
    assert steps / whole.span <= 320
    part = part_window(steps / 3, steps / 2, 160)
    assert part.last is not None
    assert part.first <= steps / 3
    assert part.last >= steps / 2
    assert (part.last - part.first) / part.span <= 5 * 320 + 4
