"""What the reflection detector promises: on texts whose turns are known it finds all of them and nothing else."""

from __future__ import annotations

import pytest

from ponder.events import Outcome
from trainer.reflection import ENGLISH, Markers, Reflections, find_reflections
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
        (f"{WRONG} no wait {OTHER} no", [Outcome.FAILED], False, False),
        (f"{WRONG} wait {WRONG} ok", [Outcome.SUPERFICIAL], False, False),
        (f"{WRONG} no wait", [Outcome.SUPERFICIAL], False, False),
        (f"wait {RIGHT}", [Outcome.SUPERFICIAL], False, False),
        (f"{WRONG} no wait {WRONG} no wait {RIGHT} ok", [Outcome.SUPERFICIAL, Outcome.RESCUED], True, False),
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
    ],
)
def test_weak_words_of_prose_count_only_between_answers(text: str, words: list[str]) -> None:
    task = Arithmetic()
    problem = next(p for p in (task.training_problem(1, i) for i in range(500)) if p.target > 0)
    found = find_reflections(text, task.candidates(problem, text), False, ENGLISH)
    assert [mark.word for mark in found.marks] == words


def test_no_markers_find_nothing() -> None:
    assert not find_reflections("wait wait", [], True, Markers((), ())).marks
