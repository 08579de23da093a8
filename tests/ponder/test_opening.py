"""What a closed gate is said to lack is what opens it."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from ponder.opening import MOST_MORE, opening_of, opening_words
from ponder.rlhf import Rlhf
from ponder.shares import wilson_interval

RLHF = Rlhf(min_rankings=40)


@given(st.integers(5, 400), st.integers(10, 800), st.floats(0.0, 1.0))
def test_after_so_many_rankings_as_good_as_now_it_opens_and_not_long_before(
    rankings: int, pairs: int, share: float
) -> None:
    right = round(share * pairs)
    opening = opening_of({"rankings": rankings, "held_out_right": right, "held_out_pairs": pairs}, RLHF)
    if opening.more is None:
        needed = pairs + pairs / rankings * MOST_MORE
        assert right / pairs <= RLHF.gate or wilson_interval(right / pairs * needed, needed)[0] <= RLHF.gate + 0.005
        return
    after = rankings + opening.more
    then = pairs / rankings * after
    assert after >= RLHF.min_rankings and wilson_interval(right / pairs * then, then)[0] >= RLHF.gate - 1e-3
    assume(opening.more * pairs > 20 * rankings)
    before = pairs / rankings * (after - 0.2 * opening.more)
    assert after - 0.2 * opening.more < RLHF.min_rankings or wilson_interval(right / pairs * before, before)[0] < (
        RLHF.gate + 1e-3
    )


def test_a_gate_that_can_never_open_says_why() -> None:
    wrong = opening_of({"rankings": 300, "held_out_right": 50, "held_out_pairs": 100}, RLHF)
    assert wrong.more is None and opening_words(wrong).endswith("it is right too seldom")
    static = Rlhf(min_rankings=40, max_rankings=60)
    unsure = opening_of({"rankings": 60, "held_out_right": 60, "held_out_pairs": 100}, static, 60)
    of_no_use = opening_of({"rankings": 30, "held_out_right": 30, "held_out_pairs": 40}, static, 55)
    assert of_no_use.more is None, "some of the sixty said nothing, and forty will never be learnt"
    assert unsure.more is None and opening_words(unsure).endswith("`rlhf.max_rankings` comes before")


def test_before_the_first_ranking_it_counts_what_is_needed() -> None:
    assert opening_words(opening_of({}, RLHF)) == "0 of 40 rankings, no held-out pair yet; about 40 rankings more"
