"""Old answers lie in files of their own, and nobody who asks can tell; whatever breaks, nothing is lost unnoticed."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlite_utils import Database

from ponder import wire
from ponder.client import child_environment
from ponder.errors import StoreError
from ponder.events import Finish, GroupScored, Record, Rollout, RunStarted
from ponder.paths import find_paths
from ponder.ranking import Verdict
from store import cold
from store.candidates import texts_of
from store.reader import Reader
from store.schema import open_for_reading
from store.writer import Writer
from tests.store.records import fill_store

if TYPE_CHECKING:
    from sqlite3 import Connection

RUNS = ("countdown-zero-1", "countdown-zero-2")


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Writer, Reader, Reader]]:
    """A store whose old answers can be moved, its reader, and a reader of the same store as it was."""
    monkeypatch.setattr(cold, "NEWEST_HOT", 100)
    monkeypatch.setattr(cold, "FRAME_BYTES", 4000)
    monkeypatch.setattr(cold, "SEGMENT_BYTES", 6000)
    for name in ("as-it-was.db", "ponder.db"):
        fill_store(tmp_path / name, steps=12)
    writer = Writer(tmp_path / "ponder.db")
    while writer.index_texts(1 << 20):
        pass
    reader, before = Reader(tmp_path / "ponder.db"), Reader(tmp_path / "as-it-was.db")
    yield writer, reader, before
    for opened in (writer, reader, before):
        opened.close()


def cool(writer: Writer) -> int:
    """Move all that moves; returns how many answers did."""
    moved = 0
    while some := writer.cool_some():
        moved += some
    return moved


def folder(writer: Writer) -> Path:
    return cold.folder_of(writer._connection)


def hot_and_cold(writer: Writer) -> tuple[int, int]:
    hot, moved = writer._connection.execute(
        "SELECT sum(frame IS NULL), sum(frame IS NOT NULL) FROM rollouts"
    ).fetchone()
    return int(hot), int(moved)


def test_every_answer_is_read_as_it_was(stores: tuple[Writer, Reader, Reader]) -> None:
    writer, reader, before = stores
    moved = cool(writer)
    assert hot_and_cold(writer) == (100, moved) and moved > 500
    assert len(list(folder(writer).iterdir())) > 2, "several segments"
    for run in RUNS:
        pages = [one.samples(run).samples for one in (reader, before)]
        assert pages[0] == pages[1] and pages[0][0].rollout.text
        for stored in pages[1][::37]:
            assert reader.sample(stored.id) == before.sample(stored.id)
            assert reader.group(stored.group_id) == before.group(stored.group_id)
        assert reader.aha(run) == before.aha(run)
        for order in ("reward", "length"):
            assert reader.samples(run, order=order, limit=40) == before.samples(run, order=order, limit=40)
    assert any(reader.sample(stored.id).sample.rollout.logps for stored in pages[0][-40:])


@pytest.mark.parametrize("text", ["wait", "WAIT", "no", "= 7", "nowhere at all", "100%"])
@pytest.mark.parametrize("limit", [7, -1])
def test_a_search_finds_what_it_found(stores: tuple[Writer, Reader, Reader], text: str, limit: int) -> None:
    writer, reader, before = stores
    cool(writer)
    for run in RUNS:
        found = reader.samples(run, text=text, limit=limit)
        assert found == before.samples(run, text=text, limit=limit)
        assert reader.samples(run, text=text, excerpt=12) == before.samples(run, text=text, excerpt=12)


def test_the_store_holds_less_and_gives_the_room_to_what_comes(stores: tuple[Writer, Reader, Reader]) -> None:
    writer, _, _ = stores
    before = writer.hot_bytes()
    cool(writer)
    packed = sum(path.stat().st_size for path in folder(writer).iterdir())
    assert writer.hot_bytes() < before and packed > 0
    (texts, tokens) = writer._connection.execute(
        """SELECT sum(length(text)), (SELECT count(*) FROM rollout_tokens JOIN rollouts ON id = rollout_id
           WHERE frame IS NOT NULL) FROM rollouts WHERE frame IS NOT NULL"""
    ).fetchone()
    assert (texts, tokens) == (0, 0)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (folder(writer), *folder(writer).iterdir()))


def test_a_hot_answer_is_read_without_opening_a_file(
    stores: tuple[Writer, Reader, Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader, before = stores
    cool(writer)
    monkeypatch.setattr(cold, "folder_of", lambda _: pytest.fail("a file was looked for"))
    newest = reader.samples(RUNS[1], limit=50)
    assert newest == before.samples(RUNS[1], limit=50)
    assert reader.sample(newest.samples[0].id) == before.sample(newest.samples[0].id)


def test_a_step_that_is_done_again_is_found_by_its_new_words_alone(
    stores: tuple[Writer, Reader, Reader],
) -> None:
    writer, reader, _ = stores
    cool(writer)
    connection = writer._connection
    old = reader.samples(RUNS[0], step=1).samples[-1]
    group = reader.group(old.group_id)
    seq = writer.last_seq(RUNS[0])
    again = [Rollout(place, f"quite other words {place}", 3, Finish.END, 0.5) for place in range(len(group.rollouts))]
    scored = GroupScored(1, group.rollouts[0].group, 1, "p", "problem", "", again)
    back = RunStarted(0, 12, "rl", "m", 1, "cpu", 1, resumed_from=0)
    writer.commit_records(RUNS[0], [Record(seq + 1, 2, 1, back), Record(seq + 2, 2, 1, scored)])
    found = reader.samples(RUNS[0], text="quite other words").samples
    assert {stored.id for stored in found} == {stored.id for stored in group.rollouts}
    row = connection.execute("SELECT frame, text FROM rollouts WHERE id = ?", (old.id,)).fetchone()
    assert row == (None, f"quite other words {old.rollout.index}")
    pieces = connection.execute("SELECT count(*) FROM rollout_texts WHERE rollout_texts MATCH ?", ('"oth"',)).fetchone()
    assert pieces == (len(again),)
    connection.execute("INSERT INTO rollout_texts (rollout_texts) VALUES ('integrity-check')")
    assert cold.find_problems(connection) == []


class Dies(Exception):
    """Stands for a death between the segment and the transaction."""


def test_a_death_before_the_commit_loses_nothing_and_leaves_nothing(
    stores: tuple[Writer, Reader, Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader, before = stores
    writer.cool_some()
    append = cold._append

    def die(connection: Connection, packed: bytes) -> cold.Place:
        append(connection, packed)
        raise Dies

    monkeypatch.setattr(cold, "_append", die)
    with pytest.raises(Dies):
        writer.cool_some()
    monkeypatch.setattr(cold, "_append", append)
    assert reader.samples(RUNS[0]) == before.samples(RUNS[0])
    cool(writer)
    assert reader.samples(RUNS[0]) == before.samples(RUNS[0])
    sizes = dict(
        writer._connection.execute("SELECT segment, max(start_byte + size_bytes) FROM cold_frames GROUP BY segment")
    )
    assert {path.name: path.stat().st_size for path in folder(writer).iterdir()} == sizes, "what was torn is cut"


MOVER = """
import sys
from pathlib import Path
from store import cold
from store.writer import Writer
cold.NEWEST_HOT, cold.FRAME_BYTES, cold.SEGMENT_BYTES = 100, 400, 3000
writer = Writer(Path(sys.argv[1]))
while writer.cool_some():
    print("moved", flush=True)
"""


def test_whoever_moves_is_killed_at_any_moment_and_nothing_is_lost(stores: tuple[Writer, Reader, Reader]) -> None:
    writer, reader, before = stores
    rng = random.Random(1)
    for _ in range(5):
        command = [sys.executable, "-c", MOVER, str(writer.path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=child_environment(find_paths())) as mover:
            assert mover.stdout is not None
            for _ in range(rng.randrange(1, 12)):
                mover.stdout.readline()
            mover.kill()
        assert cold.find_problems(reader._connection) == []
        for run in RUNS:
            assert reader.samples(run) == before.samples(run)
    killed = hot_and_cold(writer)[1]
    cool(writer)
    assert 5 < killed < hot_and_cold(writer)[1]
    assert cold.find_problems(reader._connection) == [] and reader.samples(RUNS[0]) == before.samples(RUNS[0])


def test_a_frame_is_on_the_disk_before_its_rows_are_emptied(
    stores: tuple[Writer, Reader, Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, _, _ = stores
    order: list[str] = []
    monkeypatch.setattr("store.cold.os.fsync", lambda _: order.append("sync"))
    writer._connection.set_trace_callback(
        lambda sql: order.append(sql.split()[0]) if sql.startswith(("UPDATE rollouts", "DELETE", "COMMIT")) else None
    )
    writer.cool_some()
    writer._connection.set_trace_callback(None)
    assert order[0] == "sync" and "UPDATE" in order and order[-1] == "COMMIT"
    assert order.count("sync") == len(order[: order.index("UPDATE")]), "and no sync comes later"


def test_a_broken_or_missing_file_is_said_and_the_rest_is_read(stores: tuple[Writer, Reader, Reader]) -> None:
    writer, reader, before = stores
    cool(writer)
    assert cold.find_problems(reader._connection) == []
    first, second, *_ = sorted(folder(writer).iterdir())
    data = bytearray(first.read_bytes())
    data[len(data) // 3] ^= 0xFF
    first.write_bytes(data)
    second.unlink()
    problems = cold.find_problems(reader._connection)
    assert any(first.name in problem for problem in problems) and any(second.name in problem for problem in problems)
    oldest = before.samples(RUNS[0]).samples[-60:]
    with pytest.raises(StoreError, match="old answers cannot be read"):
        for stored in oldest:
            reader.sample(stored.id)
    assert reader.samples(RUNS[1], limit=50) == before.samples(RUNS[1], limit=50)


def test_a_full_disk_moves_nothing_and_says_so(
    stores: tuple[Writer, Reader, Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader, before = stores

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("store.cold.os.pwrite", full)
    with pytest.raises(StoreError, match="cannot be moved") as refused:
        writer.cool_some()
    assert refused.value.code == "disk_full" and "cannot be moved" in writer.health()
    monkeypatch.undo()
    assert reader.samples(RUNS[0]) == before.samples(RUNS[0])


def test_texts_that_are_not_indexed_and_the_newest_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_store(tmp_path / "ponder.db", steps=12)
    writer = Writer(tmp_path / "ponder.db")
    assert writer.cool_some() == 0
    while writer.index_texts(1 << 20):
        pass
    assert writer.cool_some() == 0, f"fewer than {cold.NEWEST_HOT}"
    monkeypatch.setattr(cold, "NEWEST_HOT", 0)
    assert writer.cool_some() > 0
    writer.close()


def test_others_tools_open_a_store_with_cold_answers(stores: tuple[Writer, Reader, Reader]) -> None:
    writer, _, _ = stores
    cool(writer)
    db = Database(writer.path)
    for name in db.table_names() + db.view_names():
        list(db.query(f"SELECT * FROM [{name}] LIMIT 5"))
    db.close()
    connection = open_for_reading(writer.path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_rankings_of_old_answers_are_as_they_were(stores: tuple[Writer, Reader, Reader]) -> None:
    writer, reader, before = stores
    cool(writer)
    group = before.group(before.groups(RUNS[1], limit=-1).groups[-1].id)
    with reader.asking(RUNS[1]) as (connection, _, _):
        texts = texts_of(connection, [stored.id for stored in group.rollouts])
    assert [texts[stored.id].text for stored in group.rollouts] == [stored.rollout.text for stored in group.rollouts]
    (prompt_id,) = writer._connection.execute(
        "SELECT prompt_id FROM groups WHERE id = ?", (group.rollouts[0].group_id,)
    ).fetchone()
    shown = [stored.id for stored in group.rollouts[:2]]
    said = wire.RankAnswers(RUNS[1], prompt_id, shown, [1, 2], Verdict.RANKED, annotator="ada")
    writer.keep_ranking("r1", RUNS[1], said, "ada")
    (row,) = reader.rankings(RUNS[1]).rows
    assert [answer.text for answer in row.answers] == [stored.rollout.text for stored in group.rollouts[:2]]
    assert not any(answer.is_rewritten for answer in row.answers)
