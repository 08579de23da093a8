"""The miniature of a policy that cheats: its divergence is exact, its alarm is the brake's, and cheating is seen."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from bench import overoptimisation as toy


def test_the_divergence_is_the_sum_over_every_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy, "WORDS", 3)
    policy_LV = torch.tensor([[0.3, -1.0, 2.0], [0.0, 0.5, -0.5]])
    logp_LV = torch.log_softmax(policy_LV, 1)
    total = 0.0
    for answer in product(range(3), repeat=2):
        logp = sum(logp_LV[place, word].item() for place, word in enumerate(answer))
        total += math.exp(logp) * (logp + 2 * math.log(3))
    assert toy.divergence(policy_LV) == pytest.approx(total, abs=1e-6)


def test_stuffing_costs_more_than_a_liked_word_brings() -> None:
    world = toy.World(1000)
    liked = int(world.taste_V.argmax())
    words = [word for word in range(toy.WORDS) if world.taste_V[word] == 0][:6]
    answers = [[*[liked] * times, *(words * 2)[: toy.PLACES - times]] for times in (0, 2, 12)]
    none, twice, stuffed = world.gold(torch.tensor(answers)).tolist()
    assert twice > none > stuffed


def test_a_small_run_cheats_and_the_brake_says_so() -> None:
    """One of the seeds on which settings were chosen; the figures of the others are in bench/RESULTS.md."""
    course = toy.run(1002, 1000, updates=80)
    assert toy.is_rising(course.proxy) and course.is_overoptimised
    assert 3 <= course.kl[course.peak] <= 15
    assert course.kl == sorted(course.kl)
    assert course.alarm is not None and -10 <= course.alarm - course.peak <= 25
    assert course.rollback is not None and course.rollback < course.alarm
    assert course.smooth[course.rollback] >= 0.75 * course.smooth[course.peak]


def test_the_same_seed_is_the_same_run() -> None:
    assert toy.run(1003, 100, 5, updates=8) == toy.run(1003, 100, 5, updates=8)


def test_gao_s_form_is_found_where_it_holds() -> None:
    steps = [0.02 * step for step in range(1, 400)]
    gold = [math.sqrt(kl) * (2.0 - 0.7 * math.log(math.sqrt(kl))) for kl in steps]
    alpha, beta, explained = toy.gao(toy.Course(gold=gold, proxy=gold, kl=steps))
    assert alpha == pytest.approx(2.0, abs=0.02)
    assert beta == pytest.approx(0.7, abs=0.02)
    assert explained > 0.999
