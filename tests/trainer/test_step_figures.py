"""What a step's answers say in numbers, on a batch that can be counted by hand."""

from __future__ import annotations

import math
import random
import statistics
import struct

import pytest
import torch

from ponder import metrics
from ponder.events import Finish
from tests.trainer.test_learning import answer_of
from trainer.answers import step_figures
from trainer.memory import peak_bytes
from trainer.mismatch import Mismatch
from trainer.rewards import Scored
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
    assert (figures[metrics.LENGTH_TERMINATED_MIN], figures[metrics.LENGTH_TERMINATED_MAX]) == (1, 9)
    assert (figures[metrics.ADVANTAGE_MIN], figures[metrics.ADVANTAGE_MAX]) == (-4.5, 4.5)
    assert figures[metrics.ADVANTAGE_MEAN] == 0.0


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


def test_every_part_is_told_with_mean_and_deviation_over_the_answers_that_have_it() -> None:
    answers = [answer_of(Sampled([5], [-1.0], [0.5], Finish.END), prompt=[1], group=0, advantage=0.0) for _ in range(3)]
    for answer, parts in zip(answers, ({"mine/tone": 1.0, "length": 0.5}, {"mine/tone": 4.0}, {}), strict=True):
        answer.scored = Scored(sum(parts.values()), dict(parts), "")
    figures = step_figures(answers, 3)
    assert figures["part/mine/tone"] == 2.5 and figures["part_std/mine/tone"] == 1.5
    assert (figures["part/length"], figures["part_std/length"]) == (0.5, 0.0)
    assert (figures[metrics.REWARD_MIN], figures[metrics.REWARD_MAX]) == (0.0, 4.0)
    assert all(metrics.find_metric(name) for name in figures)
    mine = metrics.find_metric("part/mine/tone")
    assert mine is not None and (mine.name, mine.label) == ("part/mine/tone", "mine/tone")


def test_the_mismatch_of_three_tokens_is_the_one_computed_by_hand() -> None:
    mismatch = Mismatch()
    learnt, sampled = [-1.0, -2.0, -0.5], [-1.2, -1.7, -0.5]
    mismatch.count(torch.tensor(learnt[:2], dtype=torch.float64), torch.tensor(sampled[:2], dtype=torch.float64))
    mismatch.count(torch.tensor(learnt[2:], dtype=torch.float64), torch.tensor(sampled[2:], dtype=torch.float64))
    away = [0.2, -0.3, 0.0]
    ratio = [math.exp(d) for d in away]
    k3 = [r - 1 - d for r, d in zip(ratio, away, strict=True)]
    assert mismatch.figures() == pytest.approx(
        {
            metrics.MISMATCH: 0.5 / 3,
            metrics.MISMATCH_MAX: 0.3,
            metrics.MISMATCH_K3: sum(k3) / 3,
            metrics.MISMATCH_K3_STD: statistics.pstdev(k3),
            metrics.MISMATCH_K3_MAX: max(k3),
            metrics.MISMATCH_RATIO_MEAN: sum(ratio) / 3,
            metrics.MISMATCH_RATIO_MIN: min(ratio),
            metrics.MISMATCH_RATIO_MAX: max(ratio),
            metrics.MISMATCH_ESS: sum(ratio) ** 2 / (3 * sum(r * r for r in ratio)),
            metrics.MISMATCH_CHI2: sum(r * r for r in ratio) / 3 - 1,
            metrics.MISMATCH_PPL: math.exp(0.1 / 3),
        }
    )
    assert Mismatch().figures() == {}


def test_peak_memory_never_falls_and_holds_what_was_taken() -> None:
    before = peak_bytes(torch.device("cpu"))
    taken = torch.ones(50_000_000)
    during = peak_bytes(torch.device("cpu"))
    assert during >= before and during > taken.nbytes
    del taken
    assert peak_bytes(torch.device("cpu")) >= during


def test_what_is_known_of_each_token_is_told_with_the_answer() -> None:
    answer = answer_of(Sampled([5, 6, 7], [-1.0, -0.5, 0.0], [0.5] * 3, Finish.END), prompt=[1], group=0, advantage=0.0)
    plain = answer.to_rollout()
    assert (plain.widths, plain.values, plain.alternatives, plain.alternative_logps) == (b"", b"", [], b"")
    answer.widths, answer.values = [1, 2, 300], [0.25, 1e9, -0.5, 0.0]
    answer.sampled.alternative_ids.extend([[5], [8], [7]])
    answer.sampled.alternative_logps.extend([[-1.0], [-0.25], [0.0]])
    answer.alternatives = ["a", "b", "c"]
    told = answer.to_rollout()
    assert struct.unpack("<3H", told.widths) == (1, 2, 300)
    assert struct.unpack("<3e", told.values) == (0.25, 65504.0, -0.5)
    assert struct.unpack("<3e", told.alternative_logps) == (-1.0, -0.25, 0.0)
    answer.widths = [1, 2, 0]
    assert answer.to_rollout().widths == b"\1\2\0"
