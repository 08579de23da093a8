"""The verb `label`: a person names turns without seeing the detector's words, and hears how far all agree."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ponder import wire
from ponder.agreement import cohen_kappa
from ponder.events import Finish, Mark, Outcome, Rollout
from ponder.turn_labels import NO_TURN, WORDS, Turn, TurnLabel, agreement, confusion, meaning, standing
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
    return wire.StoredRollout(number, RUN, 7, 9, number, f"make {number}", "", 40, rollout)


def turn_of(stored: wire.StoredRollout) -> Turn:
    mark = stored.rollout.marks[0]
    return Turn(stored.step, stored.group, 0, mark.start, mark.end, mark.word, mark.outcome)


ANSWERS = [turning(number, OUTCOMES[number % len(OUTCOMES)]) for number in range(1, 13)]
DRAWN = [wire.DrawnTurn(stored.id, turn_of(stored)) for stored in ANSWERS]


def label(number: int, said: str, detector: str, annotator: str = "ada") -> TurnLabel:
    return TurnLabel(f"{annotator} {number}", Turn(number, 0, 0, 1, 5, "wait", detector), said, annotator, 1)


@pytest.fixture
def kept() -> list[TurnLabel]:
    """What the daemon has been told."""
    return []


@pytest.fixture
def say(serve: Serve, ponder: Command, monkeypatch: pytest.MonkeyPatch, kept: list[TurnLabel]) -> Say:
    """Run `ponder label` with these letters typed."""

    def page(request: wire.Request) -> wire.Samples:
        assert isinstance(request, wire.GetSamples) and request.before_id is not None
        return wire.Samples([ANSWERS[request.before_id - 2]], len(ANSWERS))

    def keep(request: wire.Request) -> wire.Accepted:
        assert isinstance(request, wire.LabelTurn)
        kept.append(TurnLabel(str(len(kept)), request.turn, request.said, request.annotator, 1))
        return wire.Accepted("x", RUN)

    daemon = serve()
    daemon.replies[wire.GetSamples] = page
    daemon.replies[wire.LabelTurn] = keep
    daemon.replies[wire.GetTurns] = lambda _: wire.Turns(RUN, DRAWN, standing(kept))

    def run(letters: str, *words: str) -> Said:
        monkeypatch.setattr("sys.stdin", io.StringIO(letters))
        return ponder("label", RUN, *words)

    return run


def test_what_a_person_says_is_kept_and_the_detectors_word_is_not_shown(say: Say, kept: list[TurnLabel]) -> None:
    said = say("r\nx\nn\n\nq\n", "--as", "ada")
    assert [(one.turn, one.said, one.annotator) for one in kept] == [
        (DRAWN[0].turn, "rescued", "ada"),
        (DRAWN[1].turn, NO_TURN, "ada"),
    ]
    asked = said.err.partition("q ends")[2]
    assert asked.count(">>wait<<") == asked.count("  verdict   right") == 4 and "\x1b" not in asked
    assert not any(str(outcome) in asked for outcome in Outcome)
    assert "2 labels" in said.out


def test_who_comes_back_goes_on_and_somebody_else_is_asked_the_same(say: Say, kept: list[TurnLabel]) -> None:
    say("r\nr\nq\n", "--as", "ada")
    say("s\n", "--as", "ada")
    say("m\n", "--as", "bob", "-n", "1")
    by_ada = [one.turn for one in kept if one.annotator == "ada"]
    by_bob = [one.turn for one in kept if one.annotator == "bob"]
    assert len(set(by_ada)) == 3 and by_bob == by_ada[:1]


def test_labels_can_be_carried_away_as_lines(say: Say, kept: list[TurnLabel], tmp_path: Path) -> None:
    say("r\nm\nq\n")
    out = tmp_path / "labels.jsonl"
    assert say("", "--out", str(out)).code == 0
    assert [msgspec.json.decode(line, type=TurnLabel) for line in out.read_bytes().splitlines()] == kept
    assert say("", "--out", str(tmp_path)).code == 2


def test_agreement_is_that_of_known_labels(say: Say, kept: list[TurnLabel]) -> None:
    names = [("rescued", "rescued")] * 6 + [("stuck", "stuck")] * 3 + [(NO_TURN, "stuck")]
    labels = [label(number, said, detector) for number, (said, detector) in enumerate(names)]
    found = agreement(labels)
    assert found is not None and found.share == 0.9 and found.low < 0.9 < found.high
    assert confusion(found) == (["rescued", "stuck", NO_TURN], [["rescued", "6", "0", "0"], ["stuck", "0", "3", "1"]])
    assert found.kappa is not None and found.kappa.value == pytest.approx((0.9 - 0.48) / (1 - 0.48))  # by hand
    assert not found.pairs and [person.annotator for person in found.people] == ["ada"]
    kept += labels
    told = say("", "--agreement")
    assert "10 labels, 90.0%" in told.out and "kappa 0.81" in told.out


def test_people_are_compared_where_both_named_the_same_turn(say: Say, kept: list[TurnLabel]) -> None:
    kept += [label(number, "moved" if number % 2 else "stuck", "moved") for number in range(8)]
    kept += [label(number, "moved" if number % 4 else "stuck", "moved", "bob") for number in range(2, 12)]
    found = say("", "--agreement", "--json").json()
    (pair,) = found["pairs"]
    assert (pair["one"], pair["other"], pair["same"], pair["shared"]) == ("ada", "bob", 4, 6)
    assert pair["kappa"]["value"] == pytest.approx((4 / 6 - 0.5) / 0.5)  # by hand: ada half and half
    assert [(person["annotator"], person["labels"]) for person in found["people"]] == [("ada", 8), ("bob", 10)]
    assert "ada and bob: 4 of 6 the same" in say("", "--agreement").out


def test_kappas_interval_holds_the_true_one_about_as_often_as_it_says() -> None:
    chance, words, true = random.Random(1), ("a", "b", "c"), 0.6
    held = 0
    for _ in range(400):
        pairs = []
        for _ in range(80):
            first = chance.choice(words)
            pairs.append((first, first if chance.random() < true else chance.choice(words)))
        found = cohen_kappa(pairs)
        assert found is not None
        held += found.low <= true <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_the_newest_word_of_a_person_stands_and_an_empty_one_takes_it_back() -> None:
    said = [label(1, "moved", "moved"), label(2, "stuck", "moved"), label(1, "stuck", "moved"), label(2, "", "moved")]
    assert standing(said) == [said[2]]


def test_each_word_has_a_letter_of_its_own() -> None:
    assert [meaning(word[0]) for word in WORDS] == list(WORDS)
