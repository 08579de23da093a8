"""A search finds every answer that holds a text, however far the index goes, and nothing else."""

from __future__ import annotations

import string
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ponder.events import Finish, GroupScored, Rollout
from store.reader import Reader
from store.schema import open_for_reading
from store.search import MOST_PIECES
from store.writer import Writer
from tests.store.contents import contents
from tests.store.records import Clock, as_records, recipe_text, run_records, started

ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
TEXTS = (
    'wait, 3 * (4 + 5) = 27 "no wait" \\boxed{27}',
    "WAIT AND waiting: 100% of a_b",
    "Straße, ΣΊΣΥΦΟΣ, İstanbul, 漢字かな",
    "-- ; DROP TABLE rollouts; NEAR(a b) OR NOT text:* ^x",
    "aaaaaaaa",
    "\x1b[31mred\u202e",
    "",
)
ANY_TEXT = st.text(alphabet=st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)
"""SQLite's LIKE takes a NUL for a text's end."""


def group(step: int, texts: list[str]) -> GroupScored:
    rollouts = [Rollout(index, text, 1, Finish.END, 0.0) for index, text in enumerate(texts)]
    return GroupScored(step, 0, 0, "p", "problem", "", rollouts)


def holds(text: str, sought: str) -> bool:
    return sought.translate(ASCII_LOWER) in text.translate(ASCII_LOWER)


def some_of(texts: tuple[str, ...]) -> st.SearchStrategy[str]:
    """Pieces of these texts, in either case."""

    def cut(text: str, start: int, length: int, is_upper: bool) -> str:
        piece = text[start : start + length]
        return piece.upper() if is_upper and piece.isascii() else piece

    return st.builds(cut, st.sampled_from(texts), st.integers(0, 40), st.integers(1, 20), st.booleans())


@pytest.mark.parametrize("indexed", [0, 40, 1000])
@settings(max_examples=60, deadline=None)
@given(sought=st.one_of(ANY_TEXT, some_of(TEXTS)).filter(bool))
@example(sought='"')
@example(sought='""" OR "')
@example(sought="a" * 200)
@example(sought="aaaaaaaa")
def test_a_search_finds_what_looking_at_every_text_finds(
    tmp_path_factory: pytest.TempPathFactory, indexed: int, sought: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"searched-{indexed}.db"
    if not path.exists():
        writer = Writer(path, Clock())
        run = writer.submit_run("submit", recipe_text(), "", "")
        writer.commit_records(run, as_records([started(0, 9), group(1, list(TEXTS)), group(2, [*TEXTS[::-1], "x"])]))
        while indexed and writer.index_texts(indexed) and indexed < 100 < writer.count_unindexed():
            pass
        writer.close()
    reader = Reader(path)
    every = reader.samples("").samples
    found = reader.samples("", text=sought).samples
    page = reader.samples("", text=sought, limit=2).samples
    reader.close()
    assert found == [stored for stored in every if holds(stored.rollout.text, sought)]
    assert page == found[:2]


@pytest.mark.parametrize("sought", ["\0", "abc\0def", "\0\0\0\0", "a\0b"])
def test_a_nul_in_a_search_is_no_error(writer: Writer, store_path: Path, sought: str) -> None:
    run = writer.submit_run("submit", recipe_text(), "", "")
    writer.commit_records(run, as_records([started(0, 9), group(1, ["abc\0def", "other"])]))
    writer.index_texts(1000)
    reader = Reader(store_path)
    assert len(reader.samples(run, text=sought).samples) <= 2
    reader.close()


def test_a_long_text_is_found_though_not_all_of_its_pieces_are_asked(writer: Writer, store_path: Path) -> None:
    long = " ".join(str(number) for number in range(100))
    run = writer.submit_run("submit", recipe_text(), "", "")
    writer.commit_records(run, as_records([started(0, 9), group(1, [long, long[:-1], long + "!"])]))
    writer.index_texts(10_000)
    reader = Reader(store_path)
    assert len(long[:200]) > MOST_PIECES
    assert [stored.rollout.index for stored in reader.samples(run, text=long[:200]).samples] == [2, 1, 0]
    assert [stored.rollout.index for stored in reader.samples(run, text=long[-100:]).samples] == [2, 0]
    reader.close()


def test_a_text_that_is_written_over_is_found_by_what_it_is_now(writer: Writer, store_path: Path) -> None:
    run = writer.submit_run("submit", recipe_text(), "", "")
    writer.commit_records(run, as_records([started(0, 9), group(1, ["before", "unchanged"]), group(2, ["lost"])]))
    assert writer.index_texts(1000) == 3
    again = as_records([started(0, 9), group(1, ["afterwards", "unchanged", "another"])], first_seq=4, attempt=2)
    writer.commit_records(run, again)
    for _ in range(2):  # with the new answer outside the index, then in it
        reader = Reader(store_path)
        found = {
            sought: [stored.rollout.text for stored in reader.samples(run, text=sought).samples]
            for sought in ("before", "afterwards", "unchanged", "lost", "another")
        }
        reader.close()
        assert found == {
            "before": [], "afterwards": ["afterwards"], "unchanged": ["unchanged"], "lost": [], "another": ["another"],
        }  # fmt: skip
        writer.index_texts(1000)
    check_index(writer)


def test_a_deleted_run_leaves_nothing_in_the_index(writer: Writer, store_path: Path) -> None:
    run = writer.submit_run("submit", recipe_text(), "", "")
    writer.commit_records(run, run_records(2, 2, 4))
    assert writer.index_texts(100_000) == 16
    with writer._transaction() as connection:
        connection.execute("DELETE FROM runs")
    check_index(writer)
    connection = open_for_reading(store_path)
    assert (
        connection.execute("SELECT rowid FROM rollout_texts WHERE rollout_texts MATCH 'wai OR \" = \"'").fetchall()
        == []
    )
    connection.close()


def check_index(writer: Writer) -> None:
    """Raises when the index is not what its texts make it."""
    writer.index_texts(1_000_000)
    with writer._transaction() as connection:
        connection.execute("INSERT INTO rollout_texts (rollout_texts, rank) VALUES ('integrity-check', 1)")


def test_slices_of_the_index_are_short_and_end(writer: Writer) -> None:
    run = writer.submit_run("submit", recipe_text(), "", "")
    assert writer.index_texts(1000) == 0
    writer.commit_records(run, run_records(3, 2, 4))
    slices = []
    while size := writer.index_texts(100):
        slices.append(size)
    assert sum(slices) == 24
    assert len(slices) > 5
    assert writer.count_unindexed() == 0


def test_the_index_changes_nothing_else(writer: Writer, store_path: Path) -> None:
    run = writer.submit_run("submit", recipe_text(), "", "")
    writer.commit_records(run, run_records(2, 2, 4))
    before = contents(store_path, without=INDEX)
    assert writer.index_texts(100_000)
    assert contents(store_path, without=INDEX) == before


INDEX = ("rollout_texts_data", "rollout_texts_idx", "rollout_texts_config", "text_index")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["index", "next", "again"]), max_size=12))
def test_an_index_that_grows_between_steps_and_restarts_stays_true(what: list[str]) -> None:
    with TemporaryDirectory() as folder:
        writer = Writer(Path(folder) / "ponder.db", Clock())
        run = writer.submit_run("submit", recipe_text(), "", "")
        seq, step, attempt = 1, 0, 1
        texts: dict[int, str] = {}
        writer.commit_records(run, as_records([started(0, 99)]))
        for word in what:
            if word == "index":
                writer.index_texts(1)
                continue
            events = []
            if word == "again":
                attempt, step = attempt + 1, max(0, step - 2)
                texts = {known: text for known, text in texts.items() if known <= step}
                events.append(started(step, 99))
            step += 1
            texts[step] = f"step {step} of attempt {attempt}"
            records = as_records([*events, group(step, [texts[step]])], seq + 1, attempt)
            seq += len(records)
            writer.commit_records(run, records)
        reader = Reader(Path(folder) / "ponder.db")
        for sought in ("step", *(f"attempt {number}" for number in range(1, attempt + 1))):
            found = [stored.rollout.text for stored in reader.samples(run, text=sought).samples]
            assert sorted(found) == sorted(text for text in texts.values() if sought in text)
        reader.close()
        check_index(writer)
        writer.close()


def test_a_text_of_any_size_fits_a_slice(writer: Writer) -> None:
    run = writer.submit_run("submit", recipe_text(), "", "")
    big = replace(group(1, ["x" * 100_000, "y"]), step=1)
    writer.commit_records(run, as_records([started(0, 9), big]))
    assert [writer.index_texts(10), writer.index_texts(10), writer.index_texts(10)] == [1, 1, 0]
