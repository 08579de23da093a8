"""What a step's answers say in numbers, on a batch that can be counted by hand."""

from __future__ import annotations

import random

import pytest

from ponder import metrics
from ponder.events import Finish
from tests.trainer.test_learning import answer_of
from trainer.answers import step_figures
from trainer.sampler import Sampled


def test_lengths_and_advantages_of_ten_answers() -> None:
    answers = [
        answer_of(
            Sampled([5] * length, [-1.0] * length, [0.5] * length, Finish.TRUNCATED if length == 10 else Finish.END),
            prompt=[1] * (3 if length <= 5 else 5), group=(length - 1) // 5, advantage=length - 5.5,
        )
        for length in range(1, 11)
    ]  # fmt: skip
    figures = step_figures(answers, 5)
    assert [figures[name] for name in (metrics.LENGTH_MIN, metrics.LENGTH_P10)] == [1, 1]
    assert [figures[name] for name in (metrics.LENGTH_P90, metrics.LENGTH_MAX)] == [9, 10]
    assert figures[metrics.LENGTH_TERMINATED] == pytest.approx(5.0)
    assert figures[metrics.LENGTH_PROMPT] == 4.0
    assert (figures[metrics.ADVANTAGE_MIN], figures[metrics.ADVANTAGE_MAX]) == (-4.5, 4.5)


def test_the_entropy_is_of_each_sampled_token_once_in_whatever_order_the_answers_come() -> None:
    """Trap 23: the mean over tokens, of the answers' own entropies; a long answer counts as often as it is long."""
    entropies = [[1.0], [0.2, 0.4, 0.6], [2.0, 0.0]]
    answers = [
        answer_of(Sampled([5] * len(own), [-1.0] * len(own), own, Finish.END), prompt=[1] * 9, group=0, advantage=0.0)
        for own in entropies
    ]
    for seed in range(4):
        random.Random(seed).shuffle(answers)
        assert step_figures(answers, 3)[metrics.ENTROPY] == pytest.approx(4.2 / 6)
