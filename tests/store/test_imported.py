"""Rankings of other programs are kept once beside a run's own, are learnt from, and are in no statistics."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ponder import wire
from ponder.errors import Refused
from ponder.preference_formats.incoming import DIALOGUES, TWICE, incoming
from ponder.preference_formats.ranked import UNDECIDED, Answer, Notes, Ranked, from_wire
from ponder.ranking import Stream, Verdict
from store.rankings import count_imported, judgements
from store.reader import Reader
from store.writer import Writer
from tests.store.test_rankings import reader, run, said_of_group

__all__ = ["reader", "run"]
GIVEN = [
    Ranked("2 + 2", [Answer("4", 1), Answer("5", 2), Answer("four", 1, has_ended=False), Answer("6")]),
    Ranked((("user", "3 + 3"),), [Answer("6", 1), Answer("9", 2, is_flagged=True)]),
    Ranked("none", [Answer("a"), Answer("b")], Verdict.ALL_BAD),
]


def rows_of(run: str, name: str = "hh") -> list[wire.ImportedRanking]:
    return incoming(GIVEN, run, name, Notes())


def test_what_is_imported_is_told_as_it_was_and_the_same_again_changes_nothing(
    writer: Writer, reader: Reader, run: str
) -> None:
    own, _ = writer.keep_ranking("r1", run, said_of_group(reader, run), "ada")
    for expected in (True, False):
        assert [writer.keep_ranking(row.ranking, run, row, "cli")[1] for row in rows_of(run)] == [expected] * 3
    first, *imported = reader.rankings(run).rows
    assert first.ranking == own.ranking and first.stream is Stream.RANDOM
    for row, asked, given in zip(imported, rows_of(run), GIVEN, strict=True):
        assert (row.ranking, row.annotator, row.prompt) == (asked.ranking, "imported:hh", asked.prompt)
        assert (row.stream, row.verdict, row.by) == (Stream.IMPORTED, given.verdict, "cli")
        assert [(a.text, a.rank, a.is_flagged, not a.is_truncated) for a in row.answers] == [
            (a.text, a.rank, a.is_flagged, a.has_ended) for a in given.answers
        ]
        assert [(a.rollout_id, a.place, a.index) for a in row.answers] == [(0, n, n) for n in range(len(row.answers))]
        assert [answer.text for answer in from_wire(row).answers] == [answer.text for answer in given.answers]
    assert imported[1].prompt == "3 + 3", "a message of a user is a text"
    told = [event.event for event in reader.events(0, run).events][-3:]
    assert [getattr(event, "stream", None) for event in told] == [Stream.IMPORTED] * 3


def test_no_statistics_are_made_of_them(writer: Writer, reader: Reader, run: str) -> None:
    writer.keep_ranking("r1", run, said_of_group(reader, run), "ada")
    for row in rows_of(run):
        writer.keep_ranking(row.ranking, run, row, "cli")
    with reader.asking(run) as (connection, run_id, _):
        assert [judged.annotator for judged in judgements(connection, run_id)] == ["ada"]
        assert count_imported(connection, run_id) == 3


def test_one_is_taken_back_and_stays_so_when_it_is_imported_again(writer: Writer, reader: Reader, run: str) -> None:
    rows = rows_of(run)
    for row in rows:
        writer.keep_ranking(row.ranking, run, row, "cli")
    gone = wire.UndoRanking(run, rows[1].annotator, rows[1].ranking)
    writer.undo_ranking("u1", run, gone, "cli")
    assert not writer.keep_ranking(rows[1].ranking, run, rows[1], "cli")[1]
    assert [row.ranking for row in reader.rankings(run).rows] == [rows[0].ranking, rows[2].ranking]
    with pytest.raises(Refused, match="imported:hh"):
        writer.undo_ranking("u2", run, replace(gone, annotator="ada", ranking=rows[0].ranking), "ada")


def test_what_is_no_imported_ranking_is_refused(writer: Writer, reader: Reader, run: str) -> None:
    (row, *_) = rows_of(run)
    writer.keep_ranking("r1", run, said_of_group(reader, run), "ada")
    for wrong, said in (
        (replace(row, annotator="ada-who-is-no-file"), "does not begin"),
        (replace(row, ranking="r1"), "already says something else"),
        (replace(row, answers=[replace(answer, rank=-1) for answer in row.answers]), "rank"),
    ):
        with pytest.raises(Refused, match=said):
            writer.keep_ranking(wrong.ranking, run, wrong, "cli")
    assert len(reader.rankings(run).rows) == 1


def test_another_run_or_name_or_word_is_another_ranking_and_what_says_nothing_is_left_out() -> None:
    ids = {row.ranking for run in ("a-1", "a-2") for name in ("x", "y") for row in rows_of(run, name)}
    assert len(ids) == 12 and all(len(ranking) <= 64 for ranking in ids)
    notes = Notes()
    odd = [
        GIVEN[0], GIVEN[0], Ranked("tied", [Answer("a", 1), Answer("b", 1)]), Ranked("one", [Answer("a", 1)]),
        Ranked((("user", "a"), ("assistant", "b"), ("user", "c")), GIVEN[0].answers),
        replace(GIVEN[1], is_undone=True),
    ]  # fmt: skip
    assert len(incoming(odd, "a-1", "x", notes)) == 1
    assert notes.counts == {TWICE: 1, UNDECIDED: 2, DIALOGUES: 1}


def test_a_lost_store_gets_them_back(writer: Writer, reader: Reader, run: str) -> None:
    for row in rows_of(run):
        writer.keep_ranking(row.ranking, run, row, "cli")
    before = reader.rankings(run).rows
    writer._connection.execute("DELETE FROM rankings")
    assert reader.rankings(run).rows == []
    assert [writer.restore_ranking(run, row) for row in before] == [True] * 3
    assert [replace(row, id=0) for row in reader.rankings(run).rows] == [replace(row, id=0) for row in before]
    assert not writer.restore_ranking(run, before[0])
