"""By a faulty scale scores teach less than rankings at equal seconds and are repeated less; by a faultless one not."""

from __future__ import annotations

import statistics

import pytest
import torch

from bench import judging, labeller
from bench.labeller import NO_FAULTS, Faults, Seconds, Setting, World

SEEDS = range(1000, 1008)
"""On which settings were tried; the figures of others are in bench/RESULTS.md."""


def measured(faults: Faults) -> judging.Row:
    setting = Setting("", faults)
    return judging.Row(setting, [judging.run(seed, setting, 4000.0, Seconds()) for seed in SEEDS])


def again(row: judging.Row, what: str) -> float:
    return statistics.fmean(getattr(seed, what) for seed in row.seeds)


def test_rankings_teach_more_than_scores_by_a_faulty_scale_and_less_than_those_by_a_faultless_one() -> None:
    faulty, faultless = measured(Faults().times(3.0)), measured(NO_FAULTS)
    assert judging.winner(faulty.ahead(4)) == "rankings", judging.interval(faulty.ahead(4))
    assert judging.winner(faultless.ahead(4)) == "scores", judging.interval(faultless.ahead(4))


def test_rankings_are_repeated_more_often_than_scores_by_a_faulty_scale_alone() -> None:
    faulty, faultless = measured(Faults()), measured(NO_FAULTS)
    assert again(faulty, "ranked_again") > again(faulty, "scored_again") + 0.1
    assert again(faultless, "ranked_again") == pytest.approx(again(faultless, "scored_again"), abs=0.05)


def test_both_ways_judge_the_same_answers_in_the_same_seconds() -> None:
    seconds = Seconds(10.0, {8: 40.0})
    prompts = judging.count(4000.0, seconds.score, 1)
    assert prompts == judging.count(4000.0, seconds.of(4), 4) == judging.count(4000.0, seconds.of(8), 8) / 2
    world, setting = World(1000), Setting("", Faults())
    assert labeller.score(world, setting, prompts, seconds).score_PK.shape == (prompts, labeller.GROUP)
    judged = [(prompt, place) for prompt, places, _ in labeller.rank(world, setting, 4, prompts) for place in places]
    assert judged == [(prompt, place) for prompt in range(prompts) for place in range(labeller.GROUP)]


def test_a_faultless_scale_says_what_is_felt_and_a_faulty_one_only_whole_points() -> None:
    world = World(1000)
    sure = Setting("", NO_FAULTS, unsure=0.0, slips=0.0)
    felt = labeller.score(world, sure, 4, Seconds()).score_PK
    torch.testing.assert_close(felt, torch.tensor(world.worths[:4], dtype=torch.float64))
    rounded = labeller.score(world, Setting("", Faults(0.0, 0.0, 0.0, 7), unsure=0.0, slips=0.0), 4, Seconds()).score_PK
    assert set(((rounded + 2.25) / 0.75).flatten().tolist()) <= set(range(7))
    assert (rounded - felt.clamp(-2.25, 2.25)).abs().max() <= 0.375 + 1e-9


def test_ridge_finds_the_taste_that_scores_without_noise_were_given_by() -> None:
    world = World(1001)
    scores = labeller.score(world, Setting("", NO_FAULTS, unsure=0.0, slips=0.0), 50, Seconds())
    for by_sitting, by_prompt in ((False, False), (True, False), (True, True)):
        weight = judging.learn_scores(world, scores, by_sitting=by_sitting, by_prompt=by_prompt)
        assert world.accuracy(weight) > 0.99


def test_the_break_even_lies_where_rankings_that_take_longer_teach_as_much() -> None:
    known = {(size, at): 1.0 - 0.1 * place for size in judging.SIZES for place, at in enumerate(judging.SLOWER)}
    one = judging.Seed({4: 0.6}, known, dict.fromkeys(judging.WAYS, 0.65), 0.0, 0.0, 0.0, 0.0)
    row = judging.Row(Setting("", NO_FAULTS), [one])
    assert row.break_even(4) == f"{(judging.SLOWER[3] * judging.SLOWER[4]) ** 0.5:.2f}"
