"""What the rank keys say, however they are typed: pure, so that many rankings cost nothing."""

from __future__ import annotations

import random

import pytest

from ponder.ranking import Stream, Verdict, dense
from ponder.wire import RankingAnswer, RankingTask
from tui.draft import KEYS, Draft


def task(answers: int, number: int = 1) -> RankingTask:
    texts = [RankingAnswer(number * 10 + place, f"answer {place}") for place in range(answers)]
    return RankingTask("demo", f"g{number}", number, "2+2?", texts, Stream.RANDOM, "be fair", 7, 1, 0, 0)


def typed(keys: str, answers: int = 4) -> Draft:
    draft = Draft.of(task(answers))
    for key in keys:
        draft = draft.press(key)
    return draft


@pytest.mark.parametrize("answers", range(2, 10))
def test_a_ranking_of_k_answers_takes_k_keys_and_the_best_alone_two(answers: int) -> None:
    order = list(range(1, answers + 1))
    random.Random(answers).shuffle(order)
    whole = typed("".join(str(place) for place in order[:-1]), answers).try_to_commit()
    assert not whole.complaint
    ranks = whole.request("ada", 1.0, "").ranks
    assert [ranks[place - 1] for place in order] == list(range(1, answers + 1))
    best = typed(str(order[0]), answers).try_to_commit()
    assert not best.complaint
    rest = [None] * (answers - 1) if answers > 2 else [2]
    assert sorted(best.request("ada", 1.0, "").ranks, key=str) == sorted([1, *rest], key=str)


def test_a_draft_becomes_what_was_said() -> None:
    draft = typed("x23=1")
    request = draft.request("ada", 2.5, "root")
    assert (request.ranks, request.verdict, request.flags) == (
        [1, None, 1, None],
        Verdict.RANKED,
        [False, True, False, False],
    )
    assert (request.stream, request.guidelines_version, request.annotator, request.seconds) == (
        Stream.RANDOM,
        7,
        "ada",
        2.5,
    )
    for keys, verdict in (("b", Verdict.ALL_BAD), ("s", Verdict.SKIPPED), ("31b", Verdict.ALL_BAD)):
        request = typed(keys).request("ada", 1.0, "")
        assert (request.ranks, request.verdict) == ([], verdict)


def test_back_takes_one_thing_back_after_the_other() -> None:
    draft = typed("x131b")
    for words in ("3 > 1", "3", "flag on 1"):
        draft = draft.press("u")
        assert draft.typed_words == words
    assert draft.press("backspace").is_empty
    assert draft.press("u").press("u").complaint


@pytest.mark.parametrize(("keys", "word"), [("31", "5"), ("31", "0"), ("31", "1"), ("3=", "="), ("", "=")])
def test_a_key_that_cannot_be_taken_makes_the_first_enter_ask(keys: str, word: str) -> None:
    draft = typed(keys).press(word)
    assert draft.complaint
    assert draft.keys.typed == typed(keys).keys.typed
    if not draft.keys.can_commit:
        assert draft.try_to_commit().complaint
        return
    asked = draft.try_to_commit()
    assert f"{word} was not taken" in asked.complaint
    assert not asked.try_to_commit().complaint


def test_all_bad_does_not_forget_the_order_and_takes_no_digit() -> None:
    draft = typed("31b").press("2")
    assert "takes that back" in draft.complaint
    assert draft.press("u").typed_words == "3 > 1"


def test_what_comes_back_says_the_same_until_a_digit_begins_anew() -> None:
    draft = typed("31")
    again = draft.again()
    assert again.id != draft.id
    assert again.try_to_commit().request("ada", 0.0, "").ranks == draft.request("ada", 0.0, "").ranks
    assert again.press("1").typed_words == "1"
    assert again.press("backspace").typed_words == "3"
    assert typed("b").again().press("2").typed_words == "2"


def test_whatever_is_typed_enter_keeps_what_stands_there_or_says_why_not() -> None:
    chance = random.Random(1)
    for _ in range(3000):
        draft = Draft.of(task(chance.randrange(2, 10)))
        for _ in range(chance.randrange(12)):
            draft = draft.press(chance.choice([key for key in KEYS if key != "enter"]))
        done = draft.try_to_commit()
        if done.complaint:
            continue
        request = done.request("ada", 1.0, "")
        assert (request.verdict is Verdict.RANKED) == bool(request.ranks)
        assert request.ranks == dense(request.ranks)
        assert not request.ranks or any(rank == 1 for rank in request.ranks)
