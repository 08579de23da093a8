"""What is typed while ranking is what is kept, however fast it is typed."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponder.errors import Refused
from ponder.ranking import (
    BACK,
    FEWEST_SHOWN,
    MOST_SHOWN,
    TIE,
    Keystrokes,
    Verdict,
    checked_ranks,
    decided_pairs,
    dense,
    tiers,
)  # fmt: skip

KEYS = [*"0123456789", TIE, BACK, "enter", "b", "é"]


class Plain:
    """The same keys as plainly as can be said: rows of answers, best first, and whether the last row is still open."""

    def __init__(self, answers: int) -> None:
        self.answers = answers
        self.history: list[tuple[list[list[int]], bool]] = [([], False)]

    def press(self, key: str) -> None:
        rows, is_open = self.history[-1]
        if key == BACK:
            if len(self.history) > 1:
                self.history.pop()
        elif key == TIE:
            if rows and not is_open:
                self.history.append((rows, True))
        elif key in "123456789":
            place = int(key) - 1
            if place < self.answers and all(place not in row for row in rows):
                grown = [*rows[:-1], [*rows[-1], place]] if is_open else [*rows, [place]]
                self.history.append((grown, False))

    def ranks(self) -> list[int | None]:
        rows, _ = self.history[-1]
        left = [place for place in range(self.answers) if all(place not in row for row in rows)]
        if rows and len(left) == 1:
            rows = [*rows, left]
        return [next((rank for rank, row in enumerate(rows, 1) if place in row), None) for place in range(self.answers)]


@given(st.integers(FEWEST_SHOWN, MOST_SHOWN), st.lists(st.sampled_from(KEYS), max_size=60))
def test_any_keys_in_any_order_mean_what_a_plain_list_of_rows_says(answers: int, keys: list[str]) -> None:
    state, plain = Keystrokes(answers), Plain(answers)
    for key in keys:
        before = state
        state = state.press(key)
        plain.press(key)
        assert state.ranks == plain.ranks()
        assert (state.typed == before.typed) == (state.complaint != "" or key in ("0", "enter", "b", "é"))
    rows, is_open = plain.history[-1]
    assert state.can_commit == (bool(rows) and not is_open)
    if state.can_commit:
        assert checked_ranks(state.ranks, Verdict.RANKED, answers) == state.ranks


@given(st.data())
def test_any_ranking_can_be_typed_and_takes_a_key_an_answer_less_the_last(data: st.DataObject) -> None:
    answers = data.draw(st.integers(FEWEST_SHOWN, MOST_SHOWN))
    order = data.draw(st.permutations(range(answers)))
    state = Keystrokes(answers).type("".join(str(place + 1) for place in order[:-1]))
    assert state.can_commit and len(state.typed) == answers - 1
    assert [state.ranks.index(rank) for rank in range(1, answers + 1)] == list(order)


@given(st.integers(FEWEST_SHOWN, MOST_SHOWN), st.lists(st.sampled_from(KEYS), max_size=30))
def test_backspace_takes_back_every_key_that_was_taken(answers: int, keys: list[str]) -> None:
    state = Keystrokes(answers)
    for key in keys:
        before, state = state, state.press(key)
        if key != BACK and len(state.typed) > len(before.typed):
            assert state.press(BACK).typed == before.typed
    for _ in range(len(state.typed)):
        state = state.press(BACK)
    assert state.typed == () and state.press(BACK).complaint


@given(st.lists(st.one_of(st.none(), st.integers(1, 9)), min_size=2, max_size=9))
def test_dense_ranks_say_the_same(ranks: list[int | None]) -> None:
    assert tiers(dense(ranks)) == tiers(ranks)
    assert sorted({rank for rank in dense(ranks) if rank}) == list(range(1, len({rank for rank in ranks if rank}) + 1))


def test_a_thousand_rankings_typed_without_a_pause_are_all_read_as_they_were_meant() -> None:
    generator = Random(1)
    for _ in range(1000):
        answers = generator.randint(FEWEST_SHOWN, MOST_SHOWN)
        wanted = dense([generator.randint(1, answers) for _ in range(answers)])
        shuffled = [generator.sample(tier, len(tier)) for tier in tiers(wanted)]
        keys = "".join(TIE.join(str(place + 1) for place in tier) for tier in shuffled)
        assert Keystrokes(answers).type(keys).ranks == wanted


@pytest.mark.parametrize(
    ("ranks", "verdict"),
    [
        ([1, 2], Verdict.RANKED),  # of three
        ([None, None, None], Verdict.RANKED),
        ([0, 1, 2], Verdict.RANKED),
        ([1, 2, 3], Verdict.ALL_BAD),
        ([1, None, None], Verdict.SKIPPED),
    ],
)
def test_ranks_that_do_not_say_what_the_verdict_says_are_refused(ranks: list[int | None], verdict: Verdict) -> None:
    with pytest.raises(Refused) as refused:
        checked_ranks(ranks, verdict, 3)
    assert refused.value.code == "bad_request" and refused.value.hint


def test_all_bad_and_skipped_rank_nothing() -> None:
    for verdict in (Verdict.ALL_BAD, Verdict.SKIPPED):
        assert checked_ranks([], verdict, 3) == [None, None, None]
    assert decided_pairs([None, None, None]) == []
