"""The verb `label`: a person names turns without seeing the detector's words, and hears how far both agree."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ponder import wire
from ponder.events import Finish, Mark, Outcome, Rollout
from ponder.turn_labels import NO_TURN, WORDS, Label, agreement, draw, meaning, read_labels
from tests.ponder.conftest import Command, Said
from tests.ponder.scripted_daemon import HOSTILE, ScriptedDaemon

Serve = Callable[..., ScriptedDaemon]
Say = Callable[..., Said]
RUN = "countdown-zero-3"
OUTCOMES = (Outcome.RESCUED, Outcome.STUCK, Outcome.CONFIRMED, Outcome.HARMED)


def turning(number: int, outcome: Outcome) -> wire.StoredRollout:
    text = f"{HOSTILE} 1 + {number} = 3 no wait 1 * {number} = 2 ok"
    start = text.rindex("wait")
    rollout = Rollout(0, text, 14, Finish.END, 1.0, is_correct=True, marks=[Mark(start, start + 4, "wait", outcome)])
    return wire.StoredRollout(number, RUN, 7, 9, 2, f"make {number}", "", 40, rollout)


ANSWERS = [turning(number, OUTCOMES[number % len(OUTCOMES)]) for number in range(1, 13)]


@pytest.fixture
def say(serve: Serve, ponder: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Say:
    """Run `ponder label` with these letters typed."""

    def page(request: wire.Request) -> wire.Samples:
        assert isinstance(request, wire.GetSamples) and request.only_reflecting
        return wire.Samples([] if request.before_id else ANSWERS, len(ANSWERS))

    serve().replies[wire.GetSamples] = page

    def run(letters: str, *words: str) -> Said:
        monkeypatch.setattr("sys.stdin", io.StringIO(letters))
        return ponder("label", RUN, "--out", str(tmp_path / "labels.jsonl"), *words)

    return run


def test_what_a_person_says_is_kept_beside_the_detectors_word_which_they_do_not_see(say: Say, tmp_path: Path) -> None:
    said = say("r\nx\nn\n\nq\n", "--as", "ada")
    one, other = read_labels(tmp_path / "labels.jsonl")
    drawn = draw(ANSWERS, 20)
    assert [(one.said, one.by), (other.said, other.by)] == [("rescued", "ada"), (NO_TURN, "ada")]
    assert [(label.sample, label.detector) for label in (one, other)] == [
        (stored.id, mark.outcome) for stored, mark in drawn[:2]
    ]
    asked = said.err.partition("q ends")[2]
    assert asked.count(">>wait<<") == asked.count("  verdict   right") == 4 and "\x1b" not in asked
    assert not any(str(outcome) in asked for outcome in Outcome)
    assert "2 labels" in said.out


def test_who_comes_back_goes_on_and_somebody_else_is_asked_the_same(say: Say, tmp_path: Path) -> None:
    say("r\nr\nq\n", "--as", "ada")
    say("s\n", "--as", "ada")
    say("m\n", "--as", "bob", "-n", "1")
    by_ada = [label.sample for label in read_labels(tmp_path / "labels.jsonl") if label.by == "ada"]
    by_bob = [label.sample for label in read_labels(tmp_path / "labels.jsonl") if label.by == "bob"]
    assert len(set(by_ada)) == 3 and by_bob == by_ada[:1]


def test_agreement_is_that_of_known_labels(say: Say, tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    names = [("rescued", Outcome.RESCUED)] * 6 + [("stuck", Outcome.STUCK)] * 3 + [("none", Outcome.STUCK)]
    labels = [Label(RUN, n, 1, 5, "wait", said, detector, "ada", 1) for n, (said, detector) in enumerate(names)]
    path.write_bytes(b"".join(msgspec.json.encode(label) + b"\n" for label in labels))
    found = agreement(labels)
    assert found is not None and found.share == 0.9 and found.low < 0.9 < found.high
    assert found.counts == {"rescued": {"rescued": 6}, "stuck": {"stuck": 3, "none": 1}}
    assert found.alpha == pytest.approx(1 - 19 * 2 / (400 - 12**2 - 7**2 - 1))  # by hand: twelve, seven, one
    told = say("", "--agreement")
    assert "10 labels, 90.0%" in told.out


def test_a_file_of_something_else_is_refused(say: Say, tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text("not a label\n")
    told = say("r\n")
    assert told.code == 2 and "line 1" in told.err


def test_each_word_has_a_letter_of_its_own() -> None:
    assert [meaning(word[0]) for word in WORDS] == list(WORDS)


def test_fewer_turns_are_the_first_of_more() -> None:
    many = [stored.id for stored, _ in draw(ANSWERS, 12)]
    assert [stored.id for stored, _ in draw(reversed(ANSWERS), 5)] == many[:5]
    assert many != sorted(many)
