"""The saved-labels counter counts what it says, and the command prints the example that everybody quotes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponder.errors import UsageError
from ponder.saved_labels import SavedLabels, count_views, parse_product, ratio_words
from tests.ponder.conftest import Command


def test_a_billion_scores_against_five_thousand(ponder: Command) -> None:
    said = ponder("rlhf", "cost", "--naive", "1000x1000x1000", "--rm", "1000x5")
    assert said.code == 0
    assert "1,000,000,000" in said.out and " 5,000 " in said.out and "200,000x" in said.out
    assert "317 years" in said.out and "13.9 hours" in said.out
    told = ponder("rlhf", "cost", "--naive", "1000x1000x1000", "--rm", "1000x5", "--json").json()
    assert (told["naive"], told["spent"], told["ratio"]) == (1_000_000_000, 5_000, 200_000)
    assert (told["schema"], told["kind"], told["saved"]) == (1, "saved_labels", 999_995_000)


def test_what_is_no_product_is_refused(ponder: Command) -> None:
    said = ponder("rlhf", "cost", "--naive", "1000xmany")
    assert said.code == 2 and "`1000xmany` is no product of whole numbers" in said.err
    for text in ("", "x", "3x", "-3", "1.5", "²", "1e9"):
        with pytest.raises(UsageError):
            parse_product(text)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=5))
def test_a_product_is_read_as_it_is_written(factors: list[int]) -> None:
    product = 1
    for factor in factors:
        product *= factor
    assert parse_product("x".join(map(str, factors))) == product
    assert parse_product(" x ".join(f"{factor:,}" for factor in factors)) == product


def test_the_worked_examples() -> None:
    early, late = SavedLabels(64 * 500, 600), SavedLabels(64 * 5000, 600)
    assert (ratio_words(early.ratio), ratio_words(late.ratio)) == ("53x", "533x")
    assert early.saved == 31_400 and early.saved_hours is None


def test_before_anybody_has_ranked_there_is_no_ratio() -> None:
    assert SavedLabels(0, 0).ratio is None and SavedLabels(1000, 0).saved == 1000
    assert SavedLabels(0, 40).saved == -40, "labels that no reward has used yet are spent all the same"


@given(st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 9), max_size=5))))
def test_who_looks_twice_at_an_answer_looked_once(commits: list[tuple[str, list[int]]]) -> None:
    assert count_views(commits) == count_views([*commits, *commits])
    apart = sum(count_views([commit for commit in commits if commit[0] == person]) for person in "ab")
    assert count_views(commits) == apart
