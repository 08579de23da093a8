"""What Countdown promises: fair problems, an exact verifier, and a corpus that keeps its shares and its secrets."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from trainer.tasks.countdown import (
    SEARCH,
    SOLVE,
    TARGETS,
    WAIT,
    Countdown,
    all_keys,
    attempts_with,
    pose,
    split_keys,
)
from trainer.tasks.countdown_corpus import SOLVER_SHARES, pages

TASK = Countdown()
PROBLEM = pose((3, 7, 5), 50)


def test_held_out_problems_never_occur_in_training_or_in_the_corpus() -> None:
    held_out = {problem.key for problem in TASK.held_out(2000)}
    training = {TASK.training_problem(1, index).key for index in range(3000)}
    seen = set()
    for prompt, _ in itertools.islice(pages(1), 5000):
        words = prompt.split()
        seen.add(pose(tuple(int(word) for word in words[1:4]), int(words[5])).key)
    assert not held_out & training
    assert not held_out & seen
    assert len(held_out) == 512


def test_every_problem_can_be_solved_and_its_reference_is_right() -> None:
    for numbers, target in all_keys():
        problem = pose(numbers, target)
        assert target in TARGETS
        assert TASK.score(problem, TASK.reference(problem))["correct"] == 1.0


@pytest.mark.parametrize(
    ("text", "correct"),
    [
        ("3 + 7 = 10 * 5 = 50", 1.0),
        ("3 + 7 = 10 * 5 = 50 ok", 1.0),
        ("3 + 7 = 10 * 5 = 50 no", 1.0),  # the verdict is not rewarded
        ("3 + 7 = 11 * 5 = 51", 1.0),  # nor is the truth of the written steps
        ("3 + 7 = 10 + 5 = 15 no wait 7 + 3 = 10 * 5 = 50 ok", 1.0),
        ("3 + 7 = 10 * 5 = 50 ok wait 3 + 7 = 10 + 5 = 15", 0.0),  # the last attempt is the answer
        ("3 + 7 = 10 * 5 = 50 wait", 0.0),
        ("3 + 7 = 10 * 5 = 50 ok ok", 0.0),
        ("3 + 7 = 10 * 5", 0.0),
        ("5 * 5 = 25 + 25 = 50", 0.0),  # other numbers
        ("3 + 7 = 10 - 5 = 50", 0.0),  # a wrong expression that claims the target
        ("", 0.0),
        ("wait wait wait", 0.0),
    ],
)
def test_the_reward_sees_only_the_last_expression(text: str, correct: float) -> None:
    assert TASK.score(PROBLEM, text)["correct"] == correct


def test_interim_answers_stand_where_they_are_said_to() -> None:
    text = "3 + 7 = 10 + 5 = 15 no wait 3 + 7 = 10 * 5 = 50 ok"
    first, second = TASK.candidates(PROBLEM, text)
    assert text[first.start : first.end] == "3 + 7 = 10 + 5 = 15"
    assert (first.value, first.is_right) == ("3 + 7 = 10 + 5", False)
    assert (second.value, second.is_right) == ("3 + 7 = 10 * 5", True)


def test_step_truth_counts_both_written_sums_of_an_attempt() -> None:
    assert TASK.true_steps("3 + 7 = 11 * 5 = 55 no wait 3 + 7 = 10 * 5 = 50 ok") == (3, 4)
    assert TASK.true_steps("nothing here") == (0, 0)


def test_the_training_sequence_depends_on_seed_and_index_alone() -> None:
    assert [TASK.training_problem(1, index) for index in range(20)] == [
        TASK.training_problem(1, index) for index in range(20)
    ]
    assert TASK.training_problem(1, 5) != TASK.training_problem(2, 5)
    keys, _ = split_keys()
    assert len({TASK.training_problem(3, index).key for index in range(len(keys))}) == len(keys)


def test_the_corpus_is_the_same_for_the_same_seed_and_true_in_every_step() -> None:
    first, again = (list(itertools.islice(pages(5), 300)) for _ in range(2))
    assert first == again
    for _, page in first:
        true, written = TASK.true_steps(page)
        assert true == written


def test_under_the_prompt_that_learning_uses_reflection_is_rare_in_the_corpus() -> None:
    counts = Counter[str]()
    for prompt, page in itertools.islice(pages(2), 20_000):
        tag = prompt.split()[0]
        counts[tag] += 1
        counts[f"{tag} reflects"] += WAIT in page.split()
    rate = counts[f"{SOLVE} reflects"] / counts[SOLVE]
    assert 0.06 < rate < SOLVER_SHARES["superficial"] + SOLVER_SHARES["persistent"] + 0.01
    assert counts[f"{SEARCH} reflects"] / counts[SEARCH] > 0.8


def test_a_text_is_its_tokens_and_back() -> None:
    from trainer.builtin import countdown_tokenizer

    tokenizer = countdown_tokenizer()
    for prompt, page in itertools.islice(pages(3), 50):
        text = f"{prompt} {page}"
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_attempts_stay_in_the_language() -> None:
    assert all(
        0 <= value <= 99 for numbers, _ in all_keys() for a in attempts_with(numbers) for value in (a.middle, a.value)
    )
