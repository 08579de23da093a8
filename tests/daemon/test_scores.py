"""Answers that were ranked are scored one by one, too: kept like rankings, compared with them, learnt by nobody."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from daemon.both_ways import compare_ways
from daemon.label_book import read_book
from ponder import wire
from ponder.errors import UsageError
from ponder.events import RunState
from ponder.ranking import Stream, Verdict
from store.rankings import JudgedAnswer, Judgement
from tests.daemon.conftest import Home
from tests.daemon.test_rankings import by_worth, feedback_of, ponder_here, rows, said, submit, waiting_task
from tests.daemon.test_rebuild import end_daemon, rebuild
from tests.peers.judged import worth

__all__ = ["ponder_here"]  # a fixture


def to_score(home: Home, run: str, annotator: str = "ada") -> wire.RankingTask:
    return home.client.ask(wire.NextRanking(run, annotator, is_scoring=True), wire.RankingTask)


def scored(task: wire.RankingTask, annotator: str = "ada") -> wire.RankAnswers:
    """What an honest annotator says on a scale on which much is alike."""
    scores = [min(9, 1 + worth(answer.text) // 2) for answer in task.answers]
    return replace(said(task, [], annotator), scores=scores, seconds=20.0)


def both(home: Home, run: str) -> list[wire.RankingRow]:
    return home.client.ask(wire.GetRankings(run, with_undone=True, with_scored=True), wire.Rankings).rows


@pytest.fixture
def judged_run(served: Home) -> str:
    """A run of which 25 groups were put in order and 30 scored."""
    run = submit(served, steps=60)
    served.wait_state(run, RunState.FINISHED)
    for _ in range(25):
        task = waiting_task(served, run)
        served.client.command(said(task, by_worth(task)))
    for _ in range(30):
        served.client.command(scored(to_score(served, run)))
    return run


def test_scores_stand_beside_rankings_in_the_state_of_the_loop_and_change_nothing_else(
    served: Home, judged_run: str, ponder_here: Callable[..., str]
) -> None:
    feedback = feedback_of(served, judged_run)
    assert feedback.rankings == 25 == sum(feedback.by_stream.values()) == feedback.annotators[0].rankings
    assert feedback.annotators[0].median_s == 9.2
    found = feedback.both_ways
    assert found is not None and found.scored == 30
    in_order = {frozenset(answer.rollout_id for answer in row.answers) for row in rows(served, judged_run)}
    by_score = {frozenset(a.rollout_id for a in row.answers) for row in both(served, judged_run) if row.scores}
    assert found.groups == len(in_order & by_score) >= 10
    assert (found.ranking_s, found.scoring_s) == (9.2, 20.0)
    assert found.same_order is not None and found.same_order.value == 1.0
    assert found.scored_alike is not None and 0.0 < found.scored_alike.value < 1.0
    looked_at = {answer.rollout_id for row in both(served, judged_run) for answer in row.answers}
    assert feedback.saved.spent == len(looked_at) > len({one for answers in in_order for one in answers})
    text = ponder_here("rlhf", "status", judged_run)
    for words in ("30 groups: nothing learns from scores", "a ranking 9.2 s, its scores 20.0 s", "100.0%"):
        assert words in text


def test_nobody_is_given_scores_to_learn_from_and_an_export_has_them_where_it_is_asked_for(
    served: Home, judged_run: str, ponder_here: Callable[..., str], tmp_path: Path
) -> None:
    assert len(rows(served, judged_run)) == 25
    plain, whole = tmp_path / "plain.jsonl", tmp_path / "whole.jsonl"
    ponder_here("export", "rankings", judged_run, "--as", "ponder", "--out", str(plain))
    ponder_here("export", "rankings", judged_run, "--as", "ponder", "--with-scored", "--out", str(whole))
    lines = [[msgspec.json.decode(line) for line in path.read_bytes().splitlines()] for path in (plain, whole)]
    assert [sum(line["scores"] is not None for line in some) for some in lines] == [0, 30]
    assert [len(some) for some in lines] == [25, 55]


def test_scores_outlive_the_store_and_what_was_taken_back_stays_so(served: Home, judged_run: str) -> None:
    newest = both(served, judged_run)[-1].ranking
    served.client.command(wire.UndoRanking(judged_run, "ada"))
    before, told_before = both(served, judged_run), feedback_of(served, judged_run)
    assert before[-1].is_undone and before[-1].ranking == newest
    assert told_before.both_ways is not None and told_before.both_ways.scored == 29
    end_daemon(served)
    assert [entry.kept for entry in read_book(served.paths.rankings(judged_run)) if entry.kept] == [
        replace(row, is_undone=False) for row in before
    ]
    for file in served.paths.home.glob("ponder.db*"):
        file.unlink()
    ended = rebuild(served.paths)
    assert ended.returncode == 0 and "left out" not in ended.stderr, ended.stderr
    served.start()
    assert both(served, judged_run) == before
    assert feedback_of(served, judged_run).both_ways == told_before.both_ways


def test_a_daemon_that_is_killed_has_kept_what_it_accepted_and_keeps_it_once(served: Home) -> None:
    run = submit(served)
    served.wait_state(run, RunState.FINISHED)
    asked = {}
    for _ in range(5):
        task = to_score(served, run)
        ask = wire.new_id()
        asked[ask] = scored(task)
        assert served.client.command(asked[ask], ask).message == "you took 20.0 s"
        served.kill_daemon()
        served.start()
        assert served.client.command(asked[ask], ask).run == run
    assert {row.ranking: row.scores for row in both(served, run)} == {ask: one.scores for ask, one in asked.items()}


def test_scores_that_cannot_be_meant_are_refused(served: Home) -> None:
    run = submit(served)
    served.wait_state(run, RunState.FINISHED)
    task = to_score(served, run)
    for scores in ([1], [0] * len(task.answers), [10] * len(task.answers)):
        with pytest.raises(UsageError, match="score"):
            served.client.command(replace(scored(task), scores=scores))
    assert both(served, run) == []


def test_of_two_judgements_of_the_same_answers_the_figures_are_those_counted_by_hand() -> None:
    def one(number: int, ranks: Sequence[int | None], seconds: float, *, is_scored: bool) -> Judgement:
        answers = tuple(
            JudgedAnswer(10 + at, 1, rank, False, 5, None, False, 0, None, None) for at, rank in enumerate(ranks)
        )
        return Judgement(number, "ada", Stream.RANDOM, Verdict.RANKED, 1, 1, 0, seconds, None, answers, is_scored)

    assert compare_ways([one(1, [1, 2, 3], 6.0, is_scored=False)]) is None
    found = compare_ways(
        [
            one(1, [1, 2, 3], 6.0, is_scored=False),
            one(2, [2, 2, 1], 9.0, is_scored=True),
            one(3, [1, 2, 3], 99.0, is_scored=True),
        ]
    )
    assert found is not None
    assert (found.scored, found.groups, found.scored_first) == (2, 1, 0)
    assert (found.ranking_s, found.scoring_s) == (6.0, 9.0)
    assert found.same_order is None and found.ranking_again is None  # of fewer than ten nothing is said
    many = [
        replace_prompt(one(number, ranks, 1.0, is_scored=is_scored), prompt)
        for prompt in range(12)
        for number, ranks, is_scored in ((2 * prompt, [1, 2, 3], False), (2 * prompt + 1, [2, 2, 1], True))
    ]
    known = compare_ways(many)
    assert known is not None and known.same_order is not None and known.scored_alike is not None
    assert known.same_order.value == 0.0 and known.same_order.n == 24
    assert known.scored_alike.value == pytest.approx(1 / 3) and known.scored_alike.n == 36


def replace_prompt(judged: Judgement, prompt: int) -> Judgement:
    """The same of another prompt's answers."""
    answers = tuple(
        dataclasses.replace(answer, rollout_id=answer.rollout_id + 100 * prompt) for answer in judged.answers
    )
    return dataclasses.replace(judged, prompt_id=prompt, answers=answers)
