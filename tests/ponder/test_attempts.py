"""pass@k and cons@k are what all subsets say, intervals hold what they promise, and the tests agree with SciPy's."""

from __future__ import annotations

import itertools
import math
from random import Random

import pytest
from scipy import stats

from ponder.attempts import (
    Vote,
    compare,
    cons_at,
    figures,
    flipped,
    majority,
    mcnemar,
    pass_at,
    share,
)  # fmt: skip


def votes_of(*values: str) -> list[Vote]:
    """Values beginning with `r` are right; `-` stated nothing."""
    return [("" if value == "-" else value, value.startswith("r")) for value in values]


@pytest.mark.parametrize("right", range(7))
@pytest.mark.parametrize("k", range(1, 7))
def test_pass_at_k_is_the_share_of_all_subsets_with_a_right_answer(k: int, right: int) -> None:
    answers = [True] * right + [False] * (6 - right)
    subsets = list(itertools.combinations(answers, k))
    assert pass_at(k, 6, right) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def by_tossing(votes: list[Vote], rng: Random) -> bool:
    """One draw of what `majority` gives the chance of."""
    values = [value for value, _ in votes if value]
    if not values:
        return False
    most = max(map(values.count, values))
    winner = rng.choice(sorted({value for value in values if values.count(value) == most}))
    return rng.choice([right for value, right in votes if value == winner])


def test_ties_of_a_vote_are_broken_fairly() -> None:
    rng = Random(1)
    for votes in (votes_of("ra", "b"), votes_of("ra", "ra", "b", "b", "c"), votes_of("ra", "rb", "c"), votes_of("-")):
        tossed = sum(by_tossing(votes, rng) for _ in range(4000)) / 4000
        assert majority(votes) == pytest.approx(tossed, abs=0.03)


def test_silence_has_no_vote_and_a_single_right_answer_wins_against_it() -> None:
    assert majority(votes_of("-", "-", "-", "ra")) == 1.0


def test_cons_at_k_is_the_mean_over_all_subsets_and_random_ones_come_near() -> None:
    votes = votes_of("ra", "ra", "b", "b", "b", "c", "rd", "-")
    whole = [majority(chosen) for chosen in itertools.combinations(votes, 3)]
    assert cons_at(3, votes, "x") == pytest.approx(sum(whole) / len(whole))
    many = votes * 3
    exact = [majority(chosen) for chosen in itertools.combinations(many, 4)]
    seen = [cons_at(4, many, str(seed)) for seed in range(8)]
    assert len(set(seen)) > 1
    assert sum(seen) / len(seen) == pytest.approx(sum(exact) / len(exact), abs=0.03)
    assert cons_at(4, many, "3") == seen[3]


def test_figures_leave_out_problems_with_too_few_answers() -> None:
    found = figures([votes_of("ra", "b"), votes_of("ra")], (1, 2, 4), 1)
    assert list(found) == ["pass@1", "pass@2", "cons@2"]
    assert found["pass@1"][0] == pytest.approx(0.75)
    assert found["pass@2"][0] == 1.0 and found["cons@2"][0] == pytest.approx(0.5)


def test_an_interval_holds_the_truth_although_answers_to_a_problem_are_alike() -> None:
    rng, hits, naive_hits, tries = Random(5), 0, 0, 300
    for _ in range(tries):
        chances = [rng.choice((0.05, 0.9)) for _ in range(60)]  # hard problems and easy ones
        rates = [sum(rng.random() < chance for _ in range(16)) / 16 for chance in chances]
        truth = (0.05 + 0.9) / 2
        value, low, high = share(rates, 16)
        hits += low <= truth <= high
        naive_hits += abs(value - truth) <= 1.96 * math.sqrt(value * (1 - value) / (60 * 16))
    assert hits / tries > 0.92
    assert naive_hits / tries < 0.6


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (1, 0), (5, 2), (31, 12), (12, 31), (400, 350)])
def test_mcnemar_is_the_binomial_test_of_scipy(better: int, worse: int) -> None:
    expected = stats.binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert mcnemar(better, worse) == pytest.approx(expected)


def test_random_sign_flips_come_near_to_all_of_them() -> None:
    differences = [0.25, 0.5, -0.125, 0.25, 0.375, -0.25, 0.5, 0.125, 0.25, -0.375]
    exact = flipped(differences, Random(1))
    expected = stats.permutation_test((differences,), sum, permutation_type="samples", alternative="two-sided").pvalue
    assert exact == pytest.approx(expected)
    assert flipped([*differences, 1e-12, -1e-12, 1e-12], Random(1)) == pytest.approx(exact, abs=0.02)


def test_two_policies_that_are_the_same_are_seldom_called_different() -> None:
    rng, false_alarms = Random(2), 0
    for trial in range(60):
        chances = [rng.random() for _ in range(40)]
        first, second = ([float(rng.random() < chance) for chance in chances] for _ in range(2))
        false_alarms += compare(first, second, trial).p < 0.05
    assert false_alarms <= 7


def test_a_real_difference_is_found_with_its_interval() -> None:
    rng = Random(3)
    first = [rng.choice((0.0, 0.25)) for _ in range(200)]
    second = [value + rng.choice((0.0, 0.25)) for value in first]
    found = compare(first, second, 1)
    assert found.low < found.value < found.high
    assert found.p < 0.001 and not found.is_exact
    assert found.value == pytest.approx(0.125, abs=0.03)
    assert (found.first_alone, found.problems) == (0, 200)
