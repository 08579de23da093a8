"""A page of answers, whatever it is filtered and sorted by, is what sorting and filtering all of them would give."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any  # Any: what an order compares by

import pytest
from msgspec.structs import replace

from ponder import wire
from ponder.errors import NotFound, UsageError
from ponder.events import Finish
from ponder.sample_filter import read_filter
from ponder.wire import StoredRollout
from store import samples
from store.reader import Reader
from store.schema import open_for_reading
from store.writer import Writer
from tests.store.records import as_records, fill_store, make_group, recipe_text, started

RUN = "countdown-zero-1"
FILTERS: dict[str, Callable[[StoredRollout], bool | None]] = {
    "": lambda s: s.id > 0,
    "reward>0.5": lambda s: (s.rollout.reward or 0) > 0.5,
    "reward<=0": lambda s: (s.rollout.reward or 0) <= 0,
    "step:7": lambda s: s.step == 7,
    "step:20..24 right": lambda s: 20 <= s.step <= 24 and s.rollout.is_correct,
    "step>3 step<28": lambda s: 3 < s.step < 28,
    "wrong cut": lambda s: not s.rollout.is_correct and s.rollout.finish is Finish.TRUNCATED,
    "ended length>=20": lambda s: s.rollout.finish is Finish.END and s.rollout.length_tokens >= 20,
    "rescued length<40": lambda s: s.rollout.outcome == "rescued" and s.rollout.length_tokens < 40,
    "reflecting wrong": lambda s: s.rollout.outcome is not None and not s.rollout.is_correct,
    'prompt:"-> 40"': lambda s: "-> 40" in s.prompt,
    'prompt:"solve" right': lambda s: s.rollout.is_correct,
    "no wait": lambda s: "no wait" in s.rollout.text,
    '"no wait" right step>=10': lambda s: "no wait" in s.rollout.text and s.rollout.is_correct and s.step >= 10,
    "unscored": lambda s: s.rollout.reward is None,
    "scored": lambda s: s.rollout.reward is not None,
}
ORDERS: dict[str, Callable[[StoredRollout], Any]] = {
    "newest": lambda s: s.id,
    "reward": lambda s: (s.rollout.reward, s.id),
    "length": lambda s: (s.rollout.length_tokens, s.id),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "ponder.db"
    fill_store(path)
    return path


@pytest.fixture(scope="module")
def reader(path: Path) -> Iterator[Reader]:
    reader = Reader(path)
    yield reader
    reader.close()


def page(reader: Reader, line: str, **more: object) -> list[StoredRollout]:
    asked = read_filter(line, wire.GetSamples(RUN))
    fields = {name: getattr(asked, name) for name in asked.__struct_fields__ if name != "limit"}
    return reader.samples(**{**fields, **more}).samples


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("line", FILTERS)
def test_pages_from_either_end_join_into_what_fits_in_its_order(reader: Reader, line: str, order: str) -> None:
    fits = [stored for stored in reader.samples(RUN).samples if FILTERS[line](stored)]
    if order == "reward":
        fits = [stored for stored in fits if stored.rollout.reward is not None]
    fits.sort(key=ORDERS[order], reverse=True)
    downwards: list[StoredRollout] = []
    while found := page(reader, line, order=order, limit=37, before_id=downwards[-1].id if downwards else None):
        downwards += found
    assert [stored.id for stored in downwards] == [stored.id for stored in fits]
    upwards = page(reader, line, order=order, limit=41, from_end=True)
    while upwards and (found := page(reader, line, order=order, limit=41, after_id=upwards[0].id)):
        upwards = found + upwards
    assert upwards == downwards


def test_a_page_begins_at_a_step(reader: Reader) -> None:
    everything = reader.samples(RUN).samples
    for step in (1, 17, 30, 99):
        found = page(reader, "", from_step=step, limit=5)
        assert found == [stored for stored in everything if stored.step <= step][:5]
    assert page(reader, "", from_step=0) == []
    rescued = page(reader, "rescued", from_step=17, limit=3)
    assert rescued == [s for s in everything if s.step <= 17 and s.rollout.outcome == "rescued"][:3]


def test_an_answer_without_a_reward_is_found_as_such_and_left_out_of_the_order_by_reward(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "ponder.db")
    run = writer.submit_run("c", recipe_text(), "", "")
    group = make_group(random.Random(1), 1, 0, 4, 0.5)
    rollouts = [replace(group.rollouts[0], reward=None), *group.rollouts[1:]]
    writer.commit_records(run, as_records([started(0, 30), replace(group, rollouts=rollouts)]))
    writer.close()
    reader = Reader(tmp_path / "ponder.db")
    assert [s.rollout.index for s in page(reader, "unscored")] == [0]
    assert sorted(s.rollout.index for s in page(reader, "", order="reward")) == [1, 2, 3]
    reader.close()


MONITORED = """
[[monitors]]
name = "wait"
words = ["wait"]
in_reward = true
weight = -0.1
[[monitors]]
name = "sure"
pattern = "surely"
"""


def test_what_monitors_found_is_a_filter_and_one_in_the_reward_a_mark(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "ponder.db")
    run = writer.submit_run("c", recipe_text() + MONITORED, "", "")
    plain = writer.submit_run("d", recipe_text("plain"), "", "")
    group = make_group(random.Random(1), 1, 0, 4, 0.5)
    found: list[dict[str, float]] = [
        {"monitor/wait": 2.0}, {"monitor/wait": 0.0, "monitor/sure": 1.0}, {"monitor/wait": 0.0}, {},
    ]  # fmt: skip
    rollouts = [replace(one, parts={**one.parts, **more}) for one, more in zip(group.rollouts, found, strict=True)]
    writer.commit_records(run, as_records([started(0, 30), replace(group, rollouts=rollouts)]))
    writer.close()
    reader = Reader(tmp_path / "ponder.db")
    lines = {}
    for line in ("monitor:wait", "monitor:sure", "monitor:*", "monitor:other"):
        name = read_filter(line, wire.GetSamples(run)).monitor
        lines[line] = [stored.rollout.index for stored in reader.samples(run, monitor=name).samples]
    assert lines == {"monitor:wait": [0], "monitor:sure": [1], "monitor:*": [1, 0], "monitor:other": []}
    assert reader.metrics(run).marks == [(0, "monitor `wait` is in the reward")]
    assert reader.metrics(plain).marks == []
    reader.close()


def test_what_people_say_of_an_answer_is_kept_found_and_taken_back(tmp_path: Path) -> None:
    fill_store(tmp_path / "ponder.db", runs=1, steps=2)
    writer, reader = Writer(tmp_path / "ponder.db"), Reader(tmp_path / "ponder.db")
    assert writer.annotate(3, True, None, None, "ada") == RUN
    writer.annotate(3, None, None, "look at the sum", "grace")
    writer.annotate(5, None, True, "", "ada")
    said = {line: [stored.id for stored in page(reader, line)] for line in ("starred", "flagged", "noted")}
    assert said == {"starred": [3], "flagged": [5], "noted": [3]}
    kept = reader.sample(3).sample
    assert (kept.is_starred, kept.is_flagged, kept.note) == (True, False, "look at the sum")
    assert [stored.id for stored in page(reader, "starred noted")] == [3]
    assert page(reader, "starred flagged") == []
    assert [stored.id for stored in page(reader, "starred step:1", order="length")] == [3]
    writer.annotate(3, False, None, "", "ada")
    assert page(reader, "starred") == page(reader, "noted") == []
    with pytest.raises(NotFound):
        writer.annotate(10**6, True, None, None, "ada")
    reader.close()
    writer.close()


def test_an_excerpt_shows_what_was_looked_for(reader: Reader) -> None:
    for stored in page(reader, "wait", excerpt=24, limit=50):
        assert "wait" in stored.rollout.text
        assert len(stored.rollout.text) <= 25


@pytest.mark.parametrize(
    ("line", "index"),
    [
        ("", "rollouts_narrow"),
        ("reward>0.5 wrong cut length>9 rescued", "rollouts_narrow"),
    ],
)
@pytest.mark.parametrize("order", ORDERS)
def test_no_text_is_read_to_find_out_which_answers_fit(path: Path, line: str, index: str, order: str) -> None:
    """The planner finds a covering index for every page, so that a million texts are left alone."""
    connection = open_for_reading(path)
    asked = read_filter(line, wire.GetSamples(RUN, order=order))
    plans: list[str] = []
    connection.set_trace_callback(plans.append)
    samples.page_ids(connection, 1, asked)
    connection.set_trace_callback(None)
    query = next(text for text in plans if "FROM rollouts" in text)
    detail = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}"))
    wanted = index if line or order == "newest" else f"rollouts_by_{order}"
    assert f"rollouts USING COVERING INDEX {wanted}" in detail
    assert line or "TEMP B-TREE" not in detail
    connection.close()


# ---- the line


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("rewrad>0.5", "did you mean `reward`"),
        ("reward>much", "needs a number, not `much`"),
        ("step:1.5", "needs a whole number"),
        ("step:..", "names no number"),
        ('prompt:"solve', "no closing quote"),
        ("prompt:", "does not say what to look for"),
        ("prompt>3", "no `prompt` to filter by"),
        ("right wrong", "no answer is both"),
        ("rescued harmed", "no answer is both"),
        ("answer:42", "no `answer` to filter by"),
        (f"step:{1 << 80}", "needs a smaller number"),
        ("x" * 201, "200 characters"),
    ],
)
def test_a_line_that_makes_no_sense_names_what_is_wrong(line: str, word: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_filter(line, wire.GetSamples("demo"))
    assert word in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('"right"', "right"),
        ("text:right", "right"),
        ("two words", "two words"),
        (r'"a \"b\" c"', 'a "b" c'),
        ('no "wait  two"', "no wait  two"),
        ("[bold]", "[bold]"),
        ("8 * 5", "8 * 5"),
    ],
)
def test_words_that_mean_nothing_else_are_the_text(line: str, text: str) -> None:
    assert read_filter(line, wire.GetSamples("demo")).text == text


def test_two_bounds_of_one_number_both_hold() -> None:
    asked = read_filter("step>3 step>=7 step<=20 step<12", wire.GetSamples("demo"))
    assert (asked.min_step, asked.max_step) == (7, 11)
