"""Texts become quick to search while nobody waits, and soon enough while everybody does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.chores import BUSY_CHARACTERS, ENOUGH, LATEST_S, TOO_MANY, Chores
from ponder import wire
from ponder.events import Finish, GroupScored, Record, Rollout, RunState
from store import cold
from store.reader import Reader
from store.writer import Writer
from tests.daemon.conftest import Home, wait_for
from tests.store.records import recipe_text, started


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    opened = Writer(tmp_path / "ponder.db")
    opened.commit_records(opened.submit_run("submit", recipe_text(), "", ""), [Record(1, 1, 1, started(0, 9))])
    yield opened
    opened.close()


def tell(writer: Writer, answers: int, characters: int = 10) -> None:
    """Store a group of so many answers."""
    seq = writer.last_seq("countdown-zero-1") + 1
    rollouts = [Rollout(index, f"{index} ".ljust(characters, "x"), 1, Finish.END, 0.0) for index in range(answers)]
    group = GroupScored(seq, 0, 0, "p", "problem", "", rollouts)
    writer.commit_records("countdown-zero-1", [Record(seq, 1, 1, group)])


def test_a_few_texts_wait_for_more_but_not_for_ever(writer: Writer) -> None:
    chores = Chores(writer)
    assert not chores.work(1.0, is_busy=False)
    tell(writer, 8)
    assert not chores.work(1.1, is_busy=False)
    assert writer.count_unindexed() == 8
    assert chores.work(1.1 + LATEST_S, is_busy=False)
    assert writer.count_unindexed() == 0
    assert not chores.work(1.2 + LATEST_S, is_busy=False)


def test_enough_texts_are_indexed_in_short_slices_of_quiet_turns(writer: Writer) -> None:
    chores = Chores(writer)
    chores.work(1.0, is_busy=False)
    tell(writer, ENOUGH, characters=300)
    turns = 0
    while chores.work(1.1, is_busy=False):
        chores.work(1.1, is_busy=True)  # which leaves it alone
        turns += 1
    assert turns > 2
    assert writer.count_unindexed() == 0


@pytest.mark.parametrize("characters", [20, 1000])
def test_too_many_texts_are_indexed_in_busy_turns_too(writer: Writer, characters: int) -> None:
    chores, answers = Chores(writer), 1500
    for turn in range(8):
        tell(writer, answers, characters)
        chores.work(1.0 + turn, is_busy=True)
        assert writer.count_unindexed() <= TOO_MANY
    assert writer.count_unindexed() > 0


def test_an_old_stores_many_texts_never_make_a_busy_turn_long(writer: Writer) -> None:
    tell(writer, 2 * TOO_MANY, 200)
    chores = Chores(writer)
    waiting = writer.count_unindexed()
    for turn in range(4):
        chores.work(1.0 + turn, is_busy=True)
        done, waiting = waiting - writer.count_unindexed(), writer.count_unindexed()
        assert 0 < done <= BUSY_CHARACTERS // 200 + 1  # with a store of a million it would be a minute


def test_a_store_that_fails_lets_chores_rest_and_everything_else_go_on(writer: Writer) -> None:
    chores = Chores(writer)
    chores.work(1.0, is_busy=False)
    tell(writer, ENOUGH)
    pages = writer._connection.execute("PRAGMA page_count").fetchone()[0]
    writer._connection.execute(f"PRAGMA max_page_count = {pages}")
    assert not chores.work(2.0, is_busy=False)
    assert "the disk is full" in writer.health()
    writer._connection.execute("PRAGMA max_page_count = 1000000")
    assert not chores.work(3.0, is_busy=False)
    assert chores.work(20.0, is_busy=False)
    assert writer.count_unindexed() == 0


def test_old_answers_move_while_the_store_is_too_large_and_not_before_they_are_indexed(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cold, "NEWEST_HOT", 50)
    chores = Chores(writer, 1_000_000)
    for turn in range(8):
        tell(writer, 20, 50_000)
        chores.work(10.0 * turn, is_busy=True)
    assert writer.hot_bytes() > 8_000_000
    assert moved(writer) == 0, "nothing is indexed yet"
    now, before = 100.0, writer.hot_bytes()
    while chores.work(now, is_busy=False):
        now += 0.01
    assert writer.count_unindexed() == 0
    assert moved(writer) == 8 * 20 - 50 and writer.hot_bytes() < before - 100 * 50_000
    never, before = Chores(writer), moved(writer)
    tell(writer, 300, 1000)
    while never.work(now + 40, is_busy=False):
        now += 0.01
    assert moved(writer) == before


def moved(writer: Writer) -> int:
    (count,) = writer._connection.execute("SELECT count(*) FROM rollouts WHERE frame IS NOT NULL").fetchone()
    return int(count)


def test_a_far_too_large_store_is_relieved_in_busy_turns_too(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold, "NEWEST_HOT", 0)
    chores = Chores(writer, 100_000)
    tell(writer, 1000, 1000)
    while writer.index_texts(1 << 20):
        pass
    chores.work(10.0, is_busy=True)
    assert 0 < moved(writer) < 300, "a frame"


def test_a_daemon_indexes_what_a_run_told(served: Home) -> None:
    run = served.submit(steps=5)
    served.wait_state(run, RunState.FINISHED)
    reader = Reader(served.paths.store)

    def indexed() -> bool | None:
        (indexed_to,) = reader._connection.execute("SELECT indexed_to FROM text_index").fetchone()
        return True if indexed_to == 10 else None

    wait_for(indexed, "the index")
    reader.close()
    found = served.client.ask(wire.GetSamples(run, text="of STEP 3"), wire.Samples).samples
    assert [stored.rollout.text for stored in found] == ["answer 1 of step 3", "answer 0 of step 3"]
