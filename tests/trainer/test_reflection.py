"""What the reflection detector promises: on texts whose turns are known it finds all of them and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any  # Any: fields of several types

import msgspec
import pytest

from ponder.errors import RecipeError
from ponder.events import Mark, MarkerKind, Outcome
from trainer.markers import Markers, markers_for, natural_markers, own_words
from trainer.reflection import Reflections, find_reflections
from trainer.tasks import Problem
from trainer.tasks.arithmetic import Arithmetic
from trainer.tasks.countdown import Countdown, pose

RIGHT, WRONG, OTHER = "3 + 7 = 10 * 5 = 50", "3 + 7 = 10 + 5 = 15", "3 * 7 = 21 + 5 = 26"


def read(text: str) -> Reflections:
    task, problem = Countdown(), pose((3, 7, 5), 50)
    return find_reflections(
        text, task.candidates(problem, text), task.score(problem, text)["correct"] == 1.0, task.markers
    )


@pytest.mark.parametrize(
    ("text", "outcomes", "rescued", "harmed"),
    [
        (RIGHT, [], False, False),
        (f"{WRONG} no", [], False, False),
        (f"{WRONG} no wait {RIGHT} ok", [Outcome.RESCUED], True, False),
        (f"{RIGHT} no wait {WRONG} no", [Outcome.HARMED], False, True),
        (f"{RIGHT} ok wait {RIGHT} ok", [Outcome.CONFIRMED], False, False),
        (f"{WRONG} no wait {OTHER} no", [Outcome.MOVED], False, False),
        (f"{WRONG} wait {WRONG} ok", [Outcome.STUCK], False, False),
        (f"{WRONG} no wait", [Outcome.STUCK], False, False),
        (f"wait {RIGHT}", [Outcome.UNANCHORED], False, False),
        (f"{WRONG} no wait {WRONG} no wait {RIGHT} ok", [Outcome.STUCK, Outcome.RESCUED], True, False),
        (f"{WRONG} no wait {OTHER} no wait {RIGHT} ok", [Outcome.RESCUED, Outcome.RESCUED], True, False),
    ],
)
def test_each_turn_is_called_by_what_it_did(text: str, outcomes: list[Outcome], rescued: bool, harmed: bool) -> None:
    found = read(text)
    assert [mark.outcome for mark in found.marks] == outcomes
    assert (found.is_rescued, found.is_harmed) == (rescued, harmed)
    assert found.reflects is bool(outcomes)


def test_a_mark_says_where_it_stands_and_what_was_before_and_after() -> None:
    (mark,) = read(f"{WRONG} no wait {RIGHT} ok").marks
    assert f"{WRONG} no wait {RIGHT} ok"[mark.start : mark.end] == mark.word == "wait"
    assert (mark.before, mark.after) == ("3 + 7 = 10 + 5", "3 + 7 = 10 * 5")


def test_an_answer_is_superficial_only_if_no_turn_changed_anything() -> None:
    assert read(f"{WRONG} wait {WRONG} ok").is_superficial
    assert not read(f"{WRONG} wait {WRONG} wait {OTHER}").is_superficial
    assert not read(RIGHT).is_superficial


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("7 + 5 = 13. Wait, 7 + 5 = 12.", ["Wait"]),
        ("7 + 5 = 13. That's wrong: 7 + 5 = 12.", ["That's wrong"]),
        ("7 + 5 = 13. Let me check: 7 + 5 = 12.", ["Let me check"]),
        ("The answer is 12, but I had to wait for it.", []),  # prose
        ("I will wait. 7 + 5 = 12.", []),  # a weak word before any answer
        ("Checking the weather is wrong headed. 7 + 5 = 12", []),
        ("7 + 5 = 12. The await keyword, is 12.", []),  # inside another word
        ("7 + 5 = 13. Wait, wait. Let me check: 7 + 5 = 12.", ["Wait"]),  # one turn, said thrice
        ("7 + 5 = 13. But the shop had more. 7 + 5 = 12.", []),  # `but` without its comma
        ("7 + 5 = 13. `wait, no` 7 + 5 = 12.", []),  # code
        ("7 + 5 = 13. \u201cWait, let me check.\u201d 7 + 5 = 12.", []),  # a quote
        ("7 + 5 = 13.\n> that is wrong\n7 + 5 = 12.", []),  # a quoted line
        ("7 + 5 = 13. <wait> 7 + 5 = 12.", []),  # a tag
        ("7 + 5 = 13. That\u2019s wrong. 7 + 5 = 12.", ["That\u2019s wrong"]),
        ("7 + 5 = 13. Ｗａｉｔ, 7 + 5 = 12.", ["Ｗａｉｔ"]),
        ("7 + 5 = 13. ÜBERPRÜFEN WIR das: 7 + 5 = 12.", ["ÜBERPRÜFEN WIR"]),
        ("7 + 5 = 13. 等等，7 + 5 = 12。", ["等等"]),
    ],
)
def test_weak_words_of_prose_count_only_between_answers(text: str, words: list[str]) -> None:
    task = Arithmetic()
    problem = next(p for p in (task.training_problem(1, i) for i in range(500)) if p.target > 0)
    found = find_reflections(text, task.candidates(problem, text), False, natural_markers())
    assert [mark.word for mark in found.marks] == words


def test_what_a_text_copies_from_its_prompt_is_no_turn() -> None:
    prompt = "Say let me check again whenever you are done. What is 7 + 5?"
    echo = "Say let me check again whenever you are done. 7 + 5 = 12. Let me check again: 7 + 5 = 12."
    task, problem = Arithmetic(), Problem("x", prompt, (), 12)
    (mark,) = find_reflections(echo, task.candidates(problem, echo), True, task.markers, prompt=prompt).marks
    assert (mark.start, mark.outcome) == (echo.rindex("Let"), Outcome.CONFIRMED)


def test_a_place_is_told_in_the_original_text_whatever_folding_makes_of_it() -> None:
    text = "İstanbul ﬁle ½… 7 + 5 = 13. e\u0301 Wait, 7 + 5 = 12."
    task, problem = Arithmetic(), Problem("x", "", (), 12)
    (mark,) = find_reflections(text, task.candidates(problem, text), True, task.markers).marks
    assert text[mark.start : mark.end] == mark.word == "Wait"


def test_a_weak_word_counts_where_its_token_was_a_fork_and_an_answer_stands_before() -> None:
    text = "7 + 5 = 13. Wait, something"
    task, problem = Arithmetic(), Problem("x", "", (), 12)
    tries = task.candidates(problem, text)
    assert not find_reflections(text, tries, False, task.markers).marks
    (mark,) = find_reflections(text, tries, False, task.markers, is_fork=lambda _: True, is_truncated=True).marks
    assert (mark.tier, mark.kind, mark.outcome) == (2, MarkerKind.DOUBT, Outcome.TRUNCATED)
    assert not find_reflections("Wait, something", [], False, task.markers, is_fork=lambda _: True).marks


def test_a_confirmation_is_superficial_where_it_only_copies() -> None:
    assert read(f"{RIGHT} ok wait {RIGHT} ok").is_superficial
    assert not read("3 + 7 = 10 * 5 = 50 ok wait 7 + 3 = 10 * 5 = 50 ok").is_superficial


def test_a_round_of_a_loop_is_superficial_whatever_came_of_it() -> None:
    found = read(" wait ".join([WRONG] * 4) + f" wait {RIGHT} ok")
    assert [mark.is_loop for mark in found.marks] == [False, False, True, True]
    assert found.marks[-1].outcome is Outcome.RESCUED and found.marks[-1].is_superficial
    assert not found.marks[-1].is_aha


def test_an_answer_that_could_not_be_scored_is_read_by_its_last_candidate() -> None:
    task, problem = Countdown(), pose((3, 7, 5), 50)
    text = f"{WRONG} no wait {RIGHT} ok"
    (mark,) = find_reflections(text, task.candidates(problem, text), None, task.markers).marks
    assert mark.outcome is Outcome.RESCUED


@pytest.mark.parametrize(
    ("changed", "has_badge"),
    [
        ({}, True),
        ({"is_fork": False}, False),
        ({"is_fork": False, "lift": 0.3}, True),
        ({"is_fork": False, "lift": -0.3}, False),
        ({"is_fork": False, "lift": 1e-5}, False),  # rounding
        ({"is_loop": True}, False),
        ({"tier": 2}, True),
        ({"tier": 0}, False),
        ({"outcome": Outcome.CONFIRMED}, False),
    ],
)
def test_the_badge_needs_a_rescue_and_a_decision(changed: dict[str, Any], has_badge: bool) -> None:
    mark = Mark(start=0, end=4, word="wait", outcome=Outcome.RESCUED, tier=1, is_fork=True)
    assert msgspec.structs.replace(mark, **changed).is_aha is has_badge


def test_what_was_recorded_by_todays_and_earlier_words_is_read() -> None:
    old = {
        "start": 0,
        "end": 4,
        "word": "wait",
        "outcome": "failed",
        "before": "1",
        "after": "2",
        "token": 3,
        "entropy": 0.5,
    }
    assert msgspec.convert(old, Mark) == Mark(0, 4, "wait", Outcome.MOVED, "1", "2", 3, 0.5)
    assert msgspec.convert({**old, "outcome": "superficial"}, Mark).outcome is Outcome.STUCK
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**old, "outcome": "saved"}, Mark)


def test_every_list_that_comes_with_ponder_has_all_kinds_and_no_word_twice() -> None:
    lists = natural_markers().lists
    assert {"en", "zh", "ja", "ko", "es", "fr", "de", "pt", "ru", "ar", "hi"} == {part.language for part in lists}
    for part in lists:
        words = [marker.word for marker in part.markers]
        assert len(words) == len(set(words)), part.language
        assert {marker.kind for marker in part.markers} == set(MarkerKind), part.language


def test_a_list_of_ones_own_takes_the_place_of_the_others(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('version = 7\nlanguage = "pirate"\n[strong]\ndoubt = ["Avast"]\n')
    own = markers_for(str(path), [], natural_markers())
    assert own.words == ["avast"] and own.source.endswith(" pirate7")
    task, problem = Arithmetic(markers=own), Problem("x", "", (), 12)
    text = "7 + 5 = 13. Avast! Wait, 7 + 5 = 12."
    assert [mark.word for mark in find_reflections(text, task.candidates(problem, text), True, own).marks] == ["Avast"]
    path.write_text('version = 7\nlanguage = "pirate"\n[strong]\nrage = ["Arr"]\n')
    with pytest.raises(RecipeError, match="no list of markers"):
        markers_for(str(path), [], natural_markers())


def test_languages_are_chosen_by_their_names() -> None:
    chosen = markers_for("", ["zh", "en"], natural_markers())
    assert [part.language for part in chosen.lists] == ["zh", "en"]
    assert chosen.source != natural_markers().source
    with pytest.raises(RecipeError, match="`tlh`"):
        markers_for("", ["tlh"], natural_markers())
    assert markers_for("", ["zh"], own_words("x", "wait")).words == ["wait"]  # a small language stays what it is


def test_no_markers_find_nothing() -> None:
    assert not find_reflections("wait wait", [], True, Markers(())).marks
