"""Answers are weighed one after the other, as long as somebody asks; who asks hears what is known, or why not."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from daemon import weighing
from daemon.rights import admit, needed_role
from daemon.weighing import GRACE_S, MOST_WEIGHINGS, PATIENCE_S, PROGRAM, Question, Weighings, find_question
from ponder import wire
from ponder.client import child_environment
from ponder.errors import NotFound, PonderError, Refused
from ponder.hidden import View
from ponder.keys import Allowed, Role
from ponder.odds import Gathered
from ponder.paths import Paths
from store.reader import Reader
from tests.daemon.conftest import Network, wait_for
from tests.store.records import fill_store

RUN = "countdown-zero-2"


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    store = tmp_path / "ponder.db"
    fill_store(store)
    reader = Reader(store)
    yield reader
    reader.close()


@pytest.fixture
def weighings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Weighings]:
    monkeypatch.setattr(weighing, "PROGRAM", "tests.peers.fake_odds")
    found = Weighings(Paths(tmp_path, tmp_path))
    yield found
    found.close()
    wait_for(lambda: True if not child_of(found) else None, "the end of the children")


def child_of(weighings: Weighings) -> subprocess.Popen[bytes] | None:
    """The child that lives now."""
    return next((one.process for one in weighings._all.values() if one.process is not None), None)


def asked(prompt: str, answer: str = "a b c") -> wire.GetOdds:
    return wire.GetOdds(RUN, prompt, answer)


def until(weighings: Weighings, reader: Reader, request: wire.GetOdds, rows: int) -> Gathered:
    """What is known once so many rows are."""
    found = Gathered()

    def look() -> Gathered | None:
        found.take(weighings.odds(found.asked(request), reader))
        return found if len(found.rows) >= rows else None

    return wait_for(look, f"{rows} rows")


def end(weighings: Weighings, reader: Reader, request: wire.GetOdds) -> wire.Odds:
    def look() -> wire.Odds | None:
        return found if (found := weighings.odds(request, reader)).is_done else None

    return wait_for(look, "the end")


def test_rows_come_as_they_are_weighed_and_none_that_is_known_comes_again(weighings: Weighings, reader: Reader) -> None:
    assert weighings.odds(asked("hold"), reader).rows == []
    found = until(weighings, reader, asked("hold"), 1)
    assert (found.run, found.steps, found.doing, found.is_done) == (RUN, [0, 2], "step 0", False)
    assert found.progress() == "step 0, 2 of 2"
    again = weighings.odds(found.asked(asked("hold")), reader)
    assert again.rows == [] and again.steps == [0, 2]
    assert [row.step for row in weighings.odds(asked("hold"), reader).rows] == [0]


def test_all_that_was_said_is_there_in_the_end_rubbish_or_not(weighings: Weighings, reader: Reader) -> None:
    for prompt in ("x", "rubbish"):
        found = end(weighings, reader, asked(prompt, "a b"))
        assert [(row.step, row.logp, len(row.tokens)) for row in found.rows] == [(0, -1.0, 2), (2, -3.0, 2)]
        assert found.doing == ""


def test_who_asks_the_same_shares_one_child_and_another_question_waits_its_turn(
    weighings: Weighings, reader: Reader
) -> None:
    until(weighings, reader, asked("hold"), 1)
    first = child_of(weighings)
    until(weighings, reader, asked("hold"), 1)
    assert child_of(weighings) is first
    assert weighings.odds(asked("x"), reader).doing == "waits for what others have weighed"
    weighings.odds(msgspec.structs.replace(asked("hold"), is_wanted=False), reader)
    weighings.look(time.monotonic() + GRACE_S / 2)
    assert child_of(weighings) is first  # somebody else may still ask
    weighings.odds(asked("x"), reader)
    weighings.look(time.monotonic() + GRACE_S + 0.1)
    assert first is not None and first.wait(10) < 0
    assert [row.step for row in end(weighings, reader, asked("x")).rows] == [0, 2]


def test_what_nobody_asks_for_any_more_ends(weighings: Weighings, reader: Reader) -> None:
    until(weighings, reader, asked("hold"), 1)
    child = child_of(weighings)
    weighings.look(time.monotonic() + PATIENCE_S - 1)
    assert child is not None and child.poll() is None
    weighings.look(time.monotonic() + PATIENCE_S + 1)
    assert child.wait(10) < 0
    assert not weighings._all
    gone = weighings.odds(msgspec.structs.replace(asked("hold"), is_wanted=False), reader)
    assert gone.is_done and child_of(weighings) is None  # nothing begins because somebody wants no more


@pytest.mark.parametrize(
    ("prompt", "error", "words"),
    [("crash", PonderError, "ended with 3"), ("nothing", NotFound, r"weighs it: step 2: a reward model's, too")],
)
def test_why_nothing_can_be_said_is_said(
    weighings: Weighings, reader: Reader, prompt: str, error: type[PonderError], words: str
) -> None:
    with pytest.raises(error, match=words):
        end(weighings, reader, asked(prompt))


def test_too_many_questions_are_refused(weighings: Weighings, reader: Reader) -> None:
    until(weighings, reader, asked("hold"), 1)
    for number in range(MOST_WEIGHINGS - 1):
        weighings.odds(asked("x", str(number)), reader)
    with pytest.raises(Refused, match="wait to be weighed already"):
        weighings.odds(asked("x", "one more"), reader)
    weighings.odds(asked("x", "0"), reader)


def test_a_child_ends_with_its_daemon(tmp_path: Path) -> None:
    """Its stdin ends however the daemon does; the real program, which has not yet loaded anything."""
    paths = Paths(tmp_path, tmp_path)
    reads = f"from {PROGRAM} import read_question; import time"
    acts = "print(read_question().run, flush=True); time.sleep(99)"
    with subprocess.Popen(
        [sys.executable, "-P", "-c", f"{reads}; {acts}"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=child_environment(paths),
    ) as child:  # fmt: skip
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(msgspec.json.encode(Question("demo-1", "a", "b")) + b"\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"demo-1\n"
        child.stdin.close()
        assert child.wait(20) == 0


def test_an_answer_of_the_store_is_asked_for_by_its_tokens_and_by_its_text_where_none_were_kept(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = reader.sample(1).sample

    def known_by(**tokens: bytes) -> Question:
        told = wire.Sample(msgspec.structs.replace(stored, rollout=msgspec.structs.replace(stored.rollout, **tokens)))
        monkeypatch.setattr(Reader, "sample", lambda *_: told)
        return find_question(reader, wire.GetOdds(rollout_id=1))

    found = known_by(token_ids=b"\5\0\0\0\1\1\0\0", own=b"\1\0")
    assert (found.token_ids, found.own, found.is_drawn) == ([5, 257], [True, False], True)
    assert (found.prompt, found.answer) == (stored.prompt, stored.rollout.text)
    assert known_by(token_ids=b"").token_ids == []


def test_weighing_takes_who_may_operate_and_sees_texts(network: Network) -> None:
    request = wire.GetOdds(rollout_id=1)
    assert needed_role(request) is Role.OPERATE
    for role in (Role.OBSERVE, Role.RATE):
        with network.enter(role) as client, pytest.raises(Refused, match=f"may {role}, not operate"):
            client.ask(request, wire.Odds)
    with network.enter(Role.OPERATE) as client, pytest.raises(NotFound, match="no sample 1"):
        client.ask(request, wire.Odds)
    half = Allowed("half", Role.OPERATE, "k" * 40, 1, View.SUMMARY)  # a file that somebody wrote by hand
    with pytest.raises(Refused, match="may not ask `get_odds`"):
        admit(half, request)
