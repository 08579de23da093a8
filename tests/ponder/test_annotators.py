"""A synthetic annotator is as unsure, careless and biased as it was told to be, and the meters see it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import permutations, product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponder import wire
from ponder.agreement import Judged, agreement_alpha, alpha_words, position_bias, self_consistency
from ponder.annotators import SyntheticAnnotator
from ponder.client import Client
from ponder.errors import NoDaemon, UsageError
from ponder.events import RunState
from ponder.gold import GOLDS, find_gold
from ponder.ranking import Stream, Verdict
from tests.ponder.conftest import Command
from tests.ponder.scripted_daemon import ScriptedDaemon, run_detail

WORTHS = {"a": 2.0, "b": 1.0, "c": 0.5, "d": 0.0}


def worth(text: str) -> float:
    return WORTHS[text]


def judged(annotator: SyntheticAnnotator, name: str, prompts: range, shown: str = "abcd") -> list[Judged]:
    """Its rankings of the same four answers, shown in another order each time."""
    orders = list(permutations(range(4)))
    found = []
    for prompt in prompts:
        order = orders[prompt % 24]
        opinion = annotator.judge([shown[place] for place in order])
        found.append(Judged(name, prompt, [4 * prompt + place for place in order], opinion.ranks))
    return found


@given(st.permutations(list(WORTHS)))
def test_without_a_temperature_the_order_is_the_gold_order(texts: list[str]) -> None:
    opinion = SyntheticAnnotator(worth).judge(texts)
    assert [text for _, text in sorted(zip(opinion.ranks, texts, strict=True))] == ["a", "b", "c", "d"]


def test_the_orders_are_plackett_luce_s() -> None:
    annotator, count = SyntheticAnnotator(worth, temperature=0.8), 20_000
    seen = Counter(tuple(annotator.judge("abc").ranks) for _ in range(count))
    for order in permutations("abc"):
        probability, left = 1.0, list("abc")
        for text in order:
            probability *= math.exp(worth(text) / 0.8) / sum(math.exp(worth(other) / 0.8) for other in left)
            left.remove(text)
        times = seen[tuple(order.index(text) + 1 for text in "abc")]
        assert times == pytest.approx(count * probability, abs=5 * math.sqrt(count * probability))


@pytest.mark.parametrize("flip", [0.1, 0.25])
def test_each_pair_is_wrong_as_often_as_flips_are_asked_for(flip: float) -> None:
    annotator = SyntheticAnnotator(worth, flip=flip)
    first = sum(annotator.judge("abcd").ranks[0] == 1 for _ in range(5000))
    assert first / 5000 == pytest.approx(1 - flip, abs=0.02)


def test_close_answers_are_tied_and_far_ones_are_not() -> None:
    assert SyntheticAnnotator(worth, tie_band=0.5).judge("abcd").ranks == [1, 2, 2, 3]
    assert SyntheticAnnotator(worth, tie_band=5.0).judge("abcd").ranks == [1, 1, 1, 1]


def test_where_no_answer_is_good_enough_all_are_bad() -> None:
    annotator = SyntheticAnnotator(worth, floor=1.0)
    assert annotator.judge("bcd").verdict is Verdict.ALL_BAD and annotator.judge("bcd").ranks == []
    assert annotator.judge("abcd").verdict is Verdict.RANKED


def test_an_annotator_with_a_position_bias_of_060_is_reported_within_200_rankings() -> None:
    reported = {0.6: 0, 0.4: 0}
    for position, seed in product(reported, range(100)):
        annotator = SyntheticAnnotator(worth, temperature=1.0, position_bias=position, seed=seed)
        bias = position_bias(judged(annotator, "ada", range(200)))
        assert bias is not None
        reported[position] += bias.is_biased and (bias.share.value > 0.5) == (position > 0.5)
    assert min(reported.values()) >= 90


def test_where_all_else_is_equal_the_first_shown_wins_as_often_as_was_asked_for() -> None:
    annotator = SyntheticAnnotator(lambda _: 0.0, temperature=1.0, position_bias=0.6)
    bias = position_bias(judged(annotator, "ada", range(4000)))
    assert bias is not None and bias.share.value == pytest.approx(0.6, abs=0.02)


def test_an_annotator_without_one_is_hardly_ever_reported() -> None:
    reports = 0
    for seed in range(200):
        bias = position_bias(judged(SyntheticAnnotator(worth, temperature=1.0, seed=seed), "ada", range(200)))
        assert bias is not None
        reports += bias.is_biased
    assert reports / 200 <= 0.05


def test_two_annotators_of_opposite_taste_have_a_negative_alpha_and_are_warned_of() -> None:
    ada = SyntheticAnnotator(worth, temperature=0.3, seed=1)
    bob = SyntheticAnnotator(lambda text: -worth(text), temperature=0.3, seed=2)
    alpha = agreement_alpha([*judged(ada, "ada", range(30)), *judged(bob, "bob", range(30))])
    assert alpha is not None and alpha.high < 0
    assert "against each other" in alpha_words(alpha)
    like = SyntheticAnnotator(worth, temperature=0.3, seed=2)
    agreeing = agreement_alpha([*judged(ada, "ada", range(30)), *judged(like, "bob", range(30))])
    assert agreeing is not None and agreeing.value > 0.3


def test_careless_annotators_contradict_themselves_more_often() -> None:
    shares = []
    for lapse in (0.0, 0.3, 0.9):
        annotator = SyntheticAnnotator(worth, temperature=0.1, lapse=lapse, seed=3)
        share = self_consistency([*judged(annotator, "ada", range(200)), *judged(annotator, "ada", range(200))])
        assert share is not None
        shares.append(share.value)
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.95 and shares[2] < 0.6


@given(st.integers(-8, 8), st.integers(0, 100))
def test_a_constant_added_to_the_gold_changes_nothing(constant: int, seed: int) -> None:
    settings = {"temperature": 0.5, "flip": 0.1, "tie_band": 0.25, "lapse": 0.1, "seed": seed}
    one = SyntheticAnnotator(worth, **settings)  # type: ignore[arg-type]  # numbers by name
    other = SyntheticAnnotator(lambda text: worth(text) + constant, **settings)  # type: ignore[arg-type]  # the same
    assert [one.judge("abcd") for _ in range(5)] == [other.judge("abcd") for _ in range(5)]


def test_the_same_seed_says_the_same_and_another_does_not() -> None:
    annotators = [SyntheticAnnotator(worth, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    said = [[annotator.judge("abcd") for _ in range(3)] for annotator in annotators]
    assert said[0] == said[1] != said[2]


def test_what_is_liked_can_be_gamed() -> None:
    thoughtful = GOLDS["thoughtful"]
    worths = [thoughtful(" ".join(["1 + 2", *["wait 2 + 2"] * times])) for times in range(6)]
    assert worths[:3] == [0.0, 1.0, 2.0]
    assert worths[2:] == sorted(worths[2:], reverse=True) and worths[5] < worths[0]


@given(st.text(), st.sampled_from([*GOLDS, "taste:+wait,-no"]))
def test_a_gold_preference_takes_any_text(text: str, name: str) -> None:
    assert math.isfinite(find_gold(name)(text))


@pytest.mark.parametrize("name", ["brieff", "", "taste:", "taste:wait", "taste:+a b"])
def test_what_is_no_gold_preference_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        find_gold(name)


# ---- the verb


def waiting(count: int) -> Callable[[wire.Request], wire.RankingTask | wire.Refusal]:
    """So many tasks, one after the other."""
    left = iter(range(count))

    def reply(request: wire.Request) -> wire.RankingTask | wire.Refusal:
        assert isinstance(request, wire.NextRanking)
        number = next(left, None)
        if number is None:
            return wire.Refusal("not_found", "nothing waits", "")
        texts = ["1 + 2", "1 + 2 wait 2 + 2", "1 + 2 wait 2 + 2 wait 3"]
        answers = [wire.RankingAnswer(10 * number + place, text) for place, text in enumerate(texts)]
        return wire.RankingTask("demo-1", f"g{number}", number, "solve", answers, Stream.RANDOM, "", 7, 3, 0, 0)

    return reply


def test_the_verb_asks_answers_and_stops_after_as_many_as_was_said(
    serve: Callable[..., ScriptedDaemon], ponder: Command
) -> None:
    daemon = serve()
    daemon.replies[wire.NextRanking] = waiting(5)
    daemon.replies[wire.RankAnswers] = wire.Accepted("c1", "demo-1", "the reward model agreed on 3 of 3 pairs")
    said = ponder("rlhf", "annotate", "3", "--rate", "0", "--until", "4", "--temperature", "0", "--seed", "5")
    assert said.code == 0, said.err
    assert "4 rankings of `synthetic-5` are kept in countdown-zero-3" in said.out, "its name in full"
    given = [request for request in daemon.asked if isinstance(request, wire.RankAnswers)]
    assert [request.prompt_id for request in given] == [0, 1, 2, 3]
    assert all(request.ranks == [3, 2, 1] and request.guidelines_version == 7 for request in given)
    assert {request.annotator for request in given} == {"synthetic-5"}


def test_the_verb_ends_with_the_run_when_nothing_waits_any_more(
    serve: Callable[..., ScriptedDaemon], ponder: Command
) -> None:
    daemon = serve()
    daemon.replies[wire.NextRanking] = waiting(2)
    daemon.replies[wire.RankAnswers] = wire.Accepted("c1", "demo-1", "")
    daemon.replies[wire.GetRun] = run_detail(RunState.FINISHED)
    said = ponder("rlhf", "annotate", "demo-1", "--rate", "0", "--json")
    assert said.code == 0 and said.json()["rankings"] == 2


def test_the_verb_waits_for_a_daemon_that_is_restarted(
    serve: Callable[..., ScriptedDaemon], ponder: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = serve()
    daemon.replies[wire.NextRanking] = waiting(3)
    daemon.replies[wire.RankAnswers] = wire.Accepted("c1", "demo-1", "")
    ask, silences = Client.ask, iter([False, True, True, False, True])

    def silent_at_times(
        client: Client, request: wire.Request, reply: type[msgspec.Struct], *ask_id: str
    ) -> msgspec.Struct:
        if isinstance(request, wire.NextRanking) and next(silences, False):
            raise NoDaemon("nobody listens")
        return ask(client, request, reply, *ask_id)

    monkeypatch.setattr(Client, "ask", silent_at_times)
    said = ponder("rlhf", "annotate", "demo-1", "--rate", "0", "--until", "3", "--json")
    assert said.code == 0 and said.json()["rankings"] == 3
    monkeypatch.setattr("ponder.commands.rlhf.PATIENCE_S", 0.0)
    silences = iter([True] * 9)
    assert ponder("rlhf", "annotate", "demo-1", "--rate", "0", "--until", "3").code == 3
