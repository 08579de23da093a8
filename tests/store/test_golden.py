"""A store of every released version loads for ever.

Each was made with `fill_store(path, runs=2, steps=12, groups=2, group_size=4)` and then `VACUUM`: `v0001.db` before the
watchdog's firings, `v0002.db` before the index of texts, `v0003.db` before forks, `v0004.db` before pages of
answers, `v0006.db` before rankings, `v0009.db` before imported ones and what is known of turns, `v0014.db` before
scores. A new migration adds a file made by the version before it; none is ever made again.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from ponder.events import Outcome, RunState
from ponder.wire import Order
from store.reader import Reader
from store.schema import open_for_reading
from store.writer import Writer
from tests.store.records import as_records, recipe_text, step_events

STORES = sorted((Path(__file__).parent.parent / "golden" / "stores").glob("v*.db"))


@pytest.fixture(params=STORES, ids=lambda path: path.stem)
def old_store(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "ponder.db"
    shutil.copy(request.param, path)
    return path


def test_there_is_an_old_store_to_load() -> None:
    assert STORES


def test_an_old_store_is_read_after_it_was_opened_by_the_writer(old_store: Path) -> None:
    Writer(old_store).close()
    reader = Reader(old_store)
    first, second = (row.name for row in reversed(reader.runs().runs))
    assert (first, second) == ("countdown-zero-1", "countdown-zero-2")
    assert [reader.run(name).row.state for name in (first, second)] == [RunState.FINISHED, RunState.RUNNING]
    assert reader.samples(first).total == 12 * 2 * 4
    assert len(reader.events(0).events) == reader.events(0).head
    assert [len(curve) for curve in reader.metrics(first, ["reward/mean", "eval/accuracy"]).curves.values()] == [12, 4]
    assert reader.metrics(first).marks == [(4, "optim.lr 0.0003 -> 0.0001"), (10, "resumed from step 10")]
    assert reader.aha(first).counts
    detail = reader.group(1)
    whole = reader.sample(detail.rollouts[0].id).sample.rollout
    assert len(whole.token_ids) == 4 * whole.length_tokens
    assert reader.checkpoints(first).checkpoints[0].step == 12
    assert reader.knobs(second).changes[0].name == "sampling.temperature"
    assert reader.command("lr-0").step == 4
    reader.close()


@pytest.mark.parametrize("old_store", [path for path in STORES if path.stem < "v0012"], indirect=True)
def test_what_an_old_store_calls_its_turns_is_read_by_todays_words(old_store: Path) -> None:
    Writer(old_store).close()
    reader = Reader(old_store)
    found = reader.aha("1")
    assert set(found.counts) <= {str(outcome) for outcome in Outcome} and not found.badges
    assert found.counts[Outcome.MOVED] and found.counts[Outcome.STUCK]
    for outcome in (Outcome.RESCUED, Outcome.MOVED, Outcome.STUCK):
        traces = reader.aha("1", outcome).traces
        assert len(traces) == found.counts[outcome]
        assert {trace.rollout.outcome for trace in traces} == {outcome}
        assert [one.id for one in reader.samples("1", outcome=outcome).samples] == [trace.id for trace in traces]
    reader.close()


def test_an_old_store_goes_on(old_store: Path) -> None:
    writer = Writer(old_store)
    run = "countdown-zero-2"
    assert [type(order) for order in writer.pending_orders(run)] == [Order]
    last = writer.last_seq(run)
    events = step_events(random.Random(1), 13, 24, 2, 4)
    assert writer.commit_records(run, as_records(events, last + 1)) == last + len(events)
    assert writer.submit_run("another", recipe_text(), "", "") == "countdown-zero-3"
    writer.close()


def test_an_old_store_that_was_brought_up_to_date_looks_like_a_new_one(old_store: Path, tmp_path: Path) -> None:
    new_store = tmp_path / "new.db"
    for path in (old_store, new_store):
        Writer(path).close()
    assert schema_of(old_store) == schema_of(new_store)


def schema_of(path: Path) -> list[tuple[str, str, str]]:
    connection = open_for_reading(path)
    found: list[tuple[str, str, str]] = connection.execute(
        "SELECT type, name, sql FROM sqlite_master ORDER BY type, name"
    ).fetchall()
    connection.close()
    return found


def test_texts_of_an_old_store_are_found_before_they_are_indexed_and_after(old_store: Path) -> None:
    writer, reader = Writer(old_store), Reader(old_store)
    found = [stored.id for stored in reader.samples("1", text="no wait").samples]
    assert found and writer.count_unindexed() > len(found)
    while writer.index_texts(500):
        assert [stored.id for stored in reader.samples("1", text="no wait").samples] == found
    assert writer.count_unindexed() == 0
    assert reader.aha("1", order="best").traces
    reader.close()
    writer.close()
