"""Runs are compared by means of as many steps and by held-out problems, and every figure says of how many."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import asdict, replace

from ponder.compare import STEPS, compare, figure_words, request, tables
from store.reader import Reader
from tests.store.records import fill_store

RUNS = ["countdown-zero-1", "countdown-zero-2"]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    path = tmp_path_factory.mktemp("compare") / "ponder.db"
    fill_store(path, steps=50)
    opened = Reader(path)
    yield opened
    opened.close()


def test_final_and_best_are_what_the_store_holds(reader: Reader) -> None:
    details = [reader.run(name) for name in RUNS]
    curves = [reader.metrics(**asdict(request(detail.row))) for detail in details]
    comparison = compare(details, curves)
    assert comparison.runs == RUNS
    assert comparison.settings == [("stage.steps", ["50", "100"])]
    assert [mark for mark in comparison.turned[0] if "optim.lr" in mark[1]] == [(16, "optim.lr 0.0003 -> 0.0001")]
    rows = {row.name: row for row in comparison.metrics}
    for number, name in enumerate(RUNS):
        rewards = [value for _, value in reader.metrics(name, ["reward/mean"]).curves["reward/mean"]]
        means = [sum(rewards[end - STEPS : end]) / STEPS for end in range(STEPS, len(rewards) + 1)]
        final, best = rows["reward/mean"].finals[number], rows["reward/mean"].bests[number]
        assert final is not None
        assert best is not None
        assert final.value == pytest.approx(means[-1])
        assert (final.step, final.count) == (50, STEPS)
        assert best.value == pytest.approx(max(means))
        assert best.step == STEPS + means.index(max(means))
        measured = rows["eval/accuracy"].finals[number]
        assert measured is not None
        step, values = details[number].evaluations[-1]
        assert (measured.step, measured.value) == (step, values["eval/accuracy"])
        assert measured.count == values["eval/problems"]
        assert measured.low is not None
        assert measured.low < measured.value
    assert rows["length/mean"].bests == [], "no length is better than another"
    assert "n 20" in figure_words("reward/mean", rows["reward/mean"].finals[0], with_step=True)


def test_a_run_without_a_figure_has_a_dash_and_a_metric_of_nobody_is_left_out(reader: Reader) -> None:
    details = [reader.run(name) for name in RUNS]
    curves = [reader.metrics(**asdict(request(detail.row))) for detail in details]
    bare = [replace(details[0], evaluations=[]), details[1]]
    comparison = compare(bare, curves, ["eval/accuracy", "no/such"])
    (row,) = comparison.metrics
    assert row.finals[0] is None
    figures = dict(tables(comparison))["figures"]
    assert figures[1][1] == "-"


def test_a_long_run_is_asked_for_thinned(reader: Reader) -> None:
    row = reader.run(RUNS[0]).row
    assert request(row).span == 1
    assert request(replace(row, step=100_000)).span == 5
