"""What people say of turns is on disk once it is accepted; what they are asked about is balanced, and stays."""

from __future__ import annotations

import getpass
from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace

from daemon.turn_book import TurnBook, read_turn_labels
from ponder import wire
from ponder.errors import NotFound, Refused
from ponder.events import Outcome, RunState
from ponder.paths import Paths
from ponder.turn_labels import NO_TURN, Turn
from store.reader import Reader
from tests.daemon.conftest import Home
from tests.daemon.test_rebuild import rebuild
from tests.store.records import fill_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "ponder.db"
    fill_store(path, runs=1)
    return path


@pytest.fixture
def book(store: Path, tmp_path: Path) -> TurnBook:
    """Of a run with turns of three kinds."""
    return TurnBook(Paths(tmp_path, tmp_path), Reader(store))


def drawn(book: TurnBook, each: int = 5) -> list[wire.DrawnTurn]:
    return book.turns(wire.GetTurns("", each)).drawn


def say(book: TurnBook, one: wire.DrawnTurn, said: str, ask_id: str, annotator: str = "ada", by: str = "") -> str:
    return book.keep(ask_id, wire.LabelTurn("", one.turn, said, annotator), by).message


def test_each_outcome_is_asked_about_alike_and_so_are_places_that_are_no_turn(book: TurnBook) -> None:
    found = drawn(book, 6)
    kinds = Counter(one.turn.detector for one in found)
    assert set(kinds.values()) == {6} and {NO_TURN, Outcome.RESCUED, Outcome.MOVED} <= set(kinds)
    first = Counter(one.turn.detector for one in found[: 2 * len(kinds)])
    assert set(first.values()) == {2}, "balanced wherever somebody stops"
    assert found == drawn(book, 6)
    for one in found:
        stored = book._reader.sample(one.rollout_id).sample.rollout
        assert stored.text[one.turn.start : one.turn.end] == one.turn.word
        marks = {(mark.start, str(mark.outcome)) for mark in stored.marks}
        assert (one.turn.start, one.turn.detector) in marks or (one.turn.detector == NO_TURN and not marks)


def test_a_control_stands_beside_the_turns_of_its_prompt(book: TurnBook) -> None:
    found = drawn(book, 6)
    turning = {(one.turn.step, one.turn.group) for one in found if one.turn.detector != NO_TURN}
    controls = [(one.turn.step, one.turn.group) for one in found if one.turn.detector == NO_TURN]
    assert controls and set(controls) <= turning and len(set(controls)) == len(controls)


def test_what_somebody_named_comes_first_for_everybody_and_counts_as_one_of_its_kind(book: TurnBook) -> None:
    chosen = drawn(book, 9)[-3:]
    for number, one in enumerate(chosen):
        say(book, one, "stuck", f"label {number}")
    after = drawn(book, 5)
    assert after[:3] == chosen
    assert set(Counter(one.turn.detector for one in after).values()) == {5}


def test_a_label_is_kept_once_changed_by_a_newer_one_and_taken_back_by_an_empty_one(book: TurnBook) -> None:
    one, other = drawn(book)[:2]
    assert say(book, one, "rescued", "first") == ""
    assert say(book, one, "rescued", "first") == "it was kept before"
    say(book, other, "moved", "second")
    say(book, one, "harmed", "third")
    say(book, one, "stuck", "fourth", "bob")
    say(book, other, "", "fifth")
    labels = book.turns(wire.GetTurns("")).labels
    assert [(label.annotator, label.said) for label in labels] == [("ada", "harmed"), ("bob", "stuck")]
    assert say(book, one, "moved", "first") == "it was kept before"


def test_a_torn_label_is_no_label_and_the_next_one_is_whole(book: TurnBook, tmp_path: Path) -> None:
    one, other = drawn(book)[:2]
    say(book, one, "rescued", "first")
    path = Paths(tmp_path, tmp_path).turn_labels(book._reader.resolve(""))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[-40:-9])
    say(book, other, "moved", "second")
    assert [label.id for label in read_turn_labels(path)] == ["first", "second"]


def test_what_is_no_label_is_refused(book: TurnBook) -> None:
    one = drawn(book)[0]
    with pytest.raises(Refused, match="says nothing of a turn"):
        say(book, one, "wonderful", "x")
    with pytest.raises(NotFound, match="no answer"):
        book.keep("y", wire.LabelTurn("", replace(one.turn, step=10_000), "moved", "ada"), "")
    say(book, one, "moved", "z", by="key of bob")
    with pytest.raises(Refused, match="not by this key"):
        say(book, one, "stuck", "w", by=f"{wire.SIGNED}eve")
    say(book, one, "stuck", "v", "eve", by=f"{wire.SIGNED}eve")


def test_an_accepted_label_survives_the_kill_of_the_daemon_and_the_loss_of_the_store(served: Home) -> None:
    run = served.submit(steps=4)
    served.wait_state(run, RunState.FINISHED)
    turn = Turn(2, 0, 1, 0, 4, "wait", NO_TURN)
    request = wire.LabelTurn(run, turn, "moved")
    served.client.command(request, "one")
    served.kill_daemon()
    served.paths.store.write_bytes(b"broken" * 1000)
    for part in ("-wal", "-shm"):
        served.paths.store.with_name(served.paths.store.name + part).unlink(missing_ok=True)
    assert rebuild(served.paths).returncode == 0
    served.start()
    served.client.command(request, "one")
    again = served.client.ask(wire.GetTurns(run), wire.Turns)
    assert [(label.id, label.said, label.annotator) for label in again.labels] == [("one", "moved", getpass.getuser())]
    assert [one.turn for one in again.drawn] == [turn]
