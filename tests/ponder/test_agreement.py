"""What is said of how far people agree equals what the field's own packages say, and what simulations know."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ponder.agreement import (
    Judged,
    agreement_alpha,
    alpha_words,
    kendall_tau_b,
    krippendorff_alpha,
    mean_tau,
    position_bias,
    self_consistency,
    verdicts,
)
from ponder.ranking import Ranks

PAPER = [
    (1, 1, None, 1), (2, 2, 3, 2), (3, 3, 3, 3), (3, 3, 3, 3), (2, 2, 2, 2), (1, 2, 3, 4), (4, 4, 4, 4), (1, 1, 2, 1),
    (2, 2, 2, 2), (None, 5, 5, 5), (None, None, 1, 1), (None, 3, None, None),
]  # fmt: skip
"""Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: observers A to D, units 1 to 12."""

values = st.one_of(st.none(), st.integers(0, 3))
units = st.integers(2, 5).flatmap(
    lambda people: st.lists(st.lists(values, min_size=people, max_size=people), min_size=1, max_size=30)
)
rankings = st.lists(st.one_of(st.none(), st.integers(1, 4)), min_size=2, max_size=9)


def test_alpha_of_the_paper_s_own_example() -> None:
    assert krippendorff_alpha(PAPER) == pytest.approx(0.743, abs=5e-4)


@settings(max_examples=300, deadline=None)
@given(units)
def test_alpha_is_that_of_the_krippendorff_package(rows: list[list[int | None]]) -> None:
    package = pytest.importorskip("krippendorff", reason="in the extra `dev`")
    ours = krippendorff_alpha(rows)
    people = [[math.nan if value is None else float(value) for value in column] for column in zip(*rows, strict=True)]
    assume(len({value for row in rows for value in row if value is not None}) > 1)  # else the package raises
    assume(any(sum(value is not None for value in row) > 1 for row in rows))
    if ours is None:
        pairable = [v for row in rows for v in row if v is not None and sum(x is not None for x in row) > 1]
        assert len(set(pairable)) == 1
        return
    assert ours == pytest.approx(package.alpha(people, level_of_measurement="nominal"), abs=1e-9)


@settings(max_examples=300, deadline=None)
@given(st.integers(2, 12).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 5), min_size=n, max_size=n)] * 2)))
def test_tau_b_is_that_of_scipy(pair: tuple[list[int], list[int]]) -> None:
    stats = pytest.importorskip("scipy.stats", reason="in the extra `dev`")
    one, other = pair
    expected = float(stats.kendalltau(one, other).statistic)
    ours = kendall_tau_b(one, other)
    assert math.isnan(expected) if ours is None else ours == pytest.approx(expected, abs=1e-9)


@given(rankings, st.randoms())
def test_a_verdict_does_not_depend_on_where_an_answer_was_shown(ranks: list[int | None], random: Random) -> None:
    answers = random.sample(range(100), len(ranks))
    order = random.sample(range(len(ranks)), len(ranks))
    shown = Judged("ada", 1, answers, ranks)
    shuffled = Judged("ada", 1, [answers[place] for place in order], [ranks[place] for place in order])
    assert verdicts(shown) == verdicts(shuffled)


@given(rankings)
def test_every_pair_is_judged_but_those_of_two_unranked_answers(ranks: list[int | None]) -> None:
    unranked, count = ranks.count(None), len(ranks)
    judged = verdicts(Judged("ada", 1, range(count), ranks))
    assert len(judged) == count * (count - 1) // 2 - unranked * (unranked - 1) // 2


def ranked(worths: Sequence[float]) -> list[int | None]:
    order = sorted(range(len(worths)), key=lambda place: -worths[place])
    return [order.index(place) + 1 for place in range(len(worths))]


def two_people(likeness: float, prompts: int, seed: int) -> list[Judged]:
    """Two people whose tastes are correlated so much, in the same 4 answers to each prompt."""
    random, found = Random(seed), []
    for prompt in range(prompts):
        ids = [4 * prompt + place for place in range(4)]
        tastes = [random.gauss(0, 1) for _ in ids]
        rest = math.sqrt(1 - likeness * likeness)
        others = [likeness * taste + rest * random.gauss(0, 1) for taste in tastes]
        shown = random.sample(range(4), 4)
        found.append(Judged("ada", prompt, ids, ranked(tastes)))
        found.append(Judged("bob", prompt, [ids[at] for at in shown], ranked([others[at] for at in shown])))
    return found


def test_two_people_of_opposite_taste_have_a_negative_alpha_and_are_warned_of() -> None:
    people = two_people(-0.95, 40, 3)
    alpha, tau = agreement_alpha(people), mean_tau(people)
    assert alpha is not None and tau is not None
    assert alpha.value < 0 and alpha.high < 0 and tau.value < 0
    assert "against each other" in alpha_words(alpha)


def test_two_people_of_one_taste_agree() -> None:
    alpha, tau = agreement_alpha(two_people(1.0, 40, 3)), mean_tau(two_people(1.0, 40, 3))
    assert alpha is not None and tau is not None
    assert (alpha.value, tau.value, alpha.pairs, alpha.prompts, tau.rankings) == (1.0, 1.0, 240, 40, 40)
    assert alpha_words(alpha) == "alpha 1.00: good"


def test_alpha_of_the_people_is_alpha_of_their_verdicts() -> None:
    people = two_people(0.5, 30, 9)
    rows = [
        [sign * verdicts(one)[pair], sign * verdicts(other)[pair]]
        for one, other in zip(people[::2], people[1::2], strict=True)
        for pair in verdicts(one)
        for sign in (1, -1)
    ]
    alpha = agreement_alpha(people)
    assert alpha is not None and alpha.value == krippendorff_alpha(rows)


def test_alpha_does_not_depend_on_how_answers_are_numbered() -> None:
    people = two_people(0.5, 30, 9)
    mirrored = [
        Judged(one.annotator, one.prompt_id, [1000 - answer for answer in one.answers], one.ranks) for one in people
    ]
    assert agreement_alpha(people) == agreement_alpha(mirrored)


def test_the_interval_of_alpha_holds_the_truth() -> None:
    """The truth is what very many prompts say."""
    truth = agreement_alpha(two_people(0.5, 20_000, 1))
    assert truth is not None
    held = 0
    for seed in range(300):
        alpha = agreement_alpha(two_people(0.5, 40, 100 + seed))
        assert alpha is not None
        held += alpha.low <= truth.value <= alpha.high
    assert 0.90 <= held / 300 <= 0.99


def test_of_too_few_prompts_nothing_is_said() -> None:
    people = two_people(0.5, 9, 1)
    assert agreement_alpha(people) is None and mean_tau(people) is None
    assert self_consistency(people) is None and agreement_alpha([]) is None
    assert position_bias(people[:9]) is None
    assert alpha_words(None) == "not yet known"


def test_a_repeat_is_no_second_person() -> None:
    once = two_people(0.5, 20, 4)
    again = [Judged("ada", judged.prompt_id, judged.answers, list(reversed(list(judged.ranks)))) for judged in once]
    assert agreement_alpha([*once, *again]) == agreement_alpha(once)


def test_self_consistency_is_the_share_of_verdicts_given_again() -> None:
    first = [Judged("ada", prompt, [1, 2, 3], [1, 2, 3]) for prompt in range(20)]
    again = [Judged("ada", prompt, [3, 2, 1], [3, 1, 2]) for prompt in range(20)]  # 2 > 1 > 3
    others = [Judged("bob", prompt, [1, 2, 3], [3, 2, 1]) for prompt in range(20)]
    share = self_consistency([*first, *others, *again])
    assert share is not None and (share.n, share.rankings) == (60, 20)
    assert share.value == pytest.approx(2 / 3)


def shown_rankings(bias: float, count: int, random: Random) -> list[Judged]:
    """So many rankings of 4 by a person who takes the first shown of two so often, all else equal."""
    found = []
    for number in range(count):
        follows = random.random() < 2 * bias - 1
        ranks: Ranks = [1, 2, 3, 4] if follows else random.sample(range(1, 5), 4)
        found.append(Judged("ada", number, range(4), list(ranks)))
    return found


def test_a_position_bias_of_060_is_told_within_200_rankings() -> None:
    random, told = Random("biased"), 0
    for _ in range(200):
        bias = position_bias(shown_rankings(0.6, 200, random))
        assert bias is not None
        told += bias.is_biased and bias.share.value > 0.5
    assert told >= 190


def test_who_has_no_position_bias_is_hardly_ever_accused_however_often_one_looks() -> None:
    random, accused = Random("just"), 0
    for _ in range(300):
        seen = shown_rankings(0.5, 200, random)
        looks = [position_bias(seen[:count]) for count in range(20, 201, 20)]
        accused += any(look is not None and look.is_biased for look in looks)
    assert accused / 300 <= 0.05
