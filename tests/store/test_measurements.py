"""What was measured of a checkpoint is kept once for its settings and seed, and stands on the curves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any  # Any: fields of a measurement

import pytest
from msgspec.structs import replace

from ponder.errors import NotFound, Refused
from ponder.events import CheckpointMeasured
from ponder.measured import Measured, Way
from ponder.wire import TellMeasured
from store.reader import Reader
from store.writer import Writer
from tests.store.records import fill_store

MEASURED = Measured(
    Way.PLAIN, 0, 3, 4, 1.0, 80, 1, 31.5, 30.5, 0.0,
    {"pass@1": (0.34, 0.31, 0.37), "pass@4": (0.6, 0.5, 0.7), "cons@4": (0.5, 0.44, 0.56)}, [0.25, None, 1.0],
)  # fmt: skip


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    path = tmp_path / "ponder.db"
    fill_store(path, steps=12)
    opened = Writer(path)
    yield opened
    opened.close()


@pytest.fixture
def reader(writer: Writer) -> Iterator[Reader]:
    opened = Reader(writer.path)
    yield opened
    opened.close()


@pytest.fixture
def run(reader: Reader) -> str:
    return reader.runs().runs[0].name


def told(run: str, step: int = 10, /, **changed: Any) -> TellMeasured:
    return TellMeasured(run, step, replace(MEASURED, **changed))


def test_what_was_measured_is_kept_as_it_was_told(writer: Writer, reader: Reader, run: str) -> None:
    assert writer.keep_measured(run, told(run), "ann")
    (row,) = reader.measured(run, with_rates=True).rows
    assert (row.step, row.measured, row.by) == (10, MEASURED, "ann")
    (row,) = reader.measured(run, 10).rows
    assert row.measured == replace(MEASURED, rates=[])
    assert reader.measured(run, 9).rows == []
    assert reader.events(0, run).events[-1].event == CheckpointMeasured(10, replace(MEASURED, rates=[]), "ann")


def test_the_same_again_is_no_news_and_another_outcome_replaces_it(writer: Writer, reader: Reader, run: str) -> None:
    writer.keep_measured(run, told(run), "ann")
    head = reader.events(0).head
    assert not writer.keep_measured(run, told(run), "ben")
    assert reader.events(0).head == head
    assert writer.keep_measured(run, told(run, figures={"pass@1": (0.4, 0.3, 0.5)}), "ben")
    (row,) = reader.measured(run).rows
    assert row.measured.figures == {"pass@1": (0.4, 0.3, 0.5)} and row.by == "ben"


def test_other_settings_and_seeds_stand_beside_each_other_in_order(writer: Writer, reader: Reader, run: str) -> None:
    changes: list[dict[str, Any]] = [
        {"way": Way.WAIT, "amount": 2}, {"way": Way.BUDGET, "amount": 32}, {"way": Way.BUDGET, "amount": 8}, {},
        {"seed": 2}, {"temperature": 0.5},
    ]  # fmt: skip
    for change in changes:
        assert writer.keep_measured(run, told(run, **change), "ann")
    rows = [row.measured for row in reader.measured(run).rows]
    assert [(row.way, row.amount) for row in rows] == [
        *[(Way.PLAIN, 0)] * 3, (Way.BUDGET, 8), (Way.BUDGET, 32), (Way.WAIT, 2),
    ]  # fmt: skip


def test_plain_figures_of_several_answers_stand_on_the_curves_and_forced_ones_do_not(
    writer: Writer, reader: Reader, run: str
) -> None:
    before = reader.metrics(run, ["eval/accuracy"]).curves
    writer.keep_measured(run, told(run, way=Way.WAIT, amount=1, figures={"pass@4": (0.9, 0.8, 1.0)}), "ann")
    writer.keep_measured(run, told(run), "ann")
    writer.keep_measured(run, told(run, 4, figures={"pass@4": (0.3, 0.2, 0.4)}), "ann")
    curves = reader.metrics(run, ["eval/pass@4", "eval/cons@4", "eval/pass@1"]).curves
    assert curves == {"eval/pass@4": [(4, 0.3), (10, 0.6)], "eval/cons@4": [(10, 0.5)], "eval/pass@1": []}
    assert reader.metrics(run, ["eval/accuracy"]).curves == before
    assert reader.run(run).newest["eval/pass@4"] == 0.6


@pytest.mark.parametrize(
    ("step", "change", "why"),
    [
        (13, {}, "has made 12 steps"),
        (10, {"tokens": float("nan")}, "not finite"),
        (10, {"figures": {"pass@4": (0.1, float("-inf"), 0.2)}}, "not finite"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    writer: Writer, reader: Reader, run: str, step: int, change: dict[str, Any], why: str
) -> None:
    head = reader.events(0).head
    with pytest.raises(Refused, match=why):
        writer.keep_measured(run, told(run, step, **change), "ann")
    with pytest.raises(NotFound):
        writer.keep_measured("no-such-1", told(run), "ann")
    assert reader.events(0).head == head and reader.measured(run).rows == []
