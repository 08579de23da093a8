"""A board game as a task: its rules, its players, and what a text of it comes to."""

from __future__ import annotations

from functools import reduce
from operator import xor
from random import Random

import pytest

from trainer.tasks import Problem, told
from trainer.tasks.board import draw_move, odds
from trainer.tasks.game import OPPONENT, Game, make_nim

NIM = make_nim()


def pose(*start: int, opponent: str = "expert") -> Problem:
    return NIM.problem(start, opponent)


def test_search_finds_what_is_known_of_nim() -> None:
    """Bouton 1901: who moves wins unless the heaps' binary digits add up to nothing."""
    for position in NIM.board.positions:
        is_won = reduce(xor, position) != 0
        assert NIM.search.value(position) == (1 if is_won else -1)
        kept = {move for move, after in NIM.board.moves(position).items() if reduce(xor, after) == 0}
        assert set(NIM.search.best(position)) == (kept if is_won else set(NIM.board.moves(position)))


def test_a_game_is_read_turn_by_turn() -> None:
    record = NIM.read(pose(5, 2, 6), "a3 c4 2 2 2 : b1")
    assert [(turn.position, turn.move, turn.word) for turn in record.turns] == [
        ((5, 2, 6), "a3", 0),
        ((2, 2, 2), "b1", 6),
    ]
    assert (record.position, record.result, record.is_others_turn) == ((2, 1, 2), None, True)


@pytest.mark.parametrize(
    ("text", "outcome", "form"),
    [
        ("a1", 1.0, 1.0),
        ("", -1.0, 0.0),
        ("a2", -1.0, 0.0),
        ("b1", -1.0, 0.0),
        (": :", -1.0, 0.0),
        ("\x1b]52;c;eA==\x07", -1.0, 0.0),
        ("a1 a1 a1", 1.0, 1.0),
    ],
)
def test_what_is_no_move_loses(text: str, outcome: float, form: float) -> None:
    scores = NIM.score(pose(1, 0, 0), text)
    assert (scores["outcome"], scores["format"]) == (outcome, form)


def test_the_other_one_may_win_or_resign() -> None:
    lost = NIM.score(pose(1, 1, 0), "a1 b1")
    assert (lost["outcome"], lost["correct"], lost["format"]) == (-1.0, 0.0, 1.0)
    assert NIM.score(pose(2, 1, 0), "a1 resigns")["outcome"] == 1.0


def test_what_a_person_asks_has_its_position_in_its_words() -> None:
    asked = Problem("", "nim 2 1 0 :")
    assert NIM.read(asked, "a1").position == (1, 1, 0) and NIM.reference(asked) == "a1"
    assert NIM.reply(asked, "a1", Random(1)).text.startswith(("a1", "b1"))
    for nonsense in ("", "hello", "nim 9 9 9 :", "nim 1 2 :", "nim 0 0 0 :"):
        assert NIM.read(Problem("", nonsense), "a1").is_legal is False
        assert NIM.reply(Problem("", nonsense), "a1", Random(1)).is_over
        assert NIM.candidates(Problem("", nonsense), "a1") == []


def test_only_moves_that_could_throw_something_away_are_counted() -> None:
    assert "perfect" not in NIM.score(pose(1, 1, 0), "a1 b1")
    assert NIM.score(pose(2, 1, 0), "a1 a1 0 1 0 : b1")["perfect"] == 1.0
    assert NIM.score(pose(2, 1, 0), "a2 b1")["perfect"] == 0.0


def test_the_world_answers_for_whoever_sits_opposite() -> None:
    game = make_nim()
    game.players["stubborn"] = lambda _: {"c1": 0.5}
    problem = game.problem((1, 0, 2), "stubborn")
    replies = {game.reply(problem, "a1", Random(seed)).text for seed in range(20)}
    assert replies == {"c1 0 0 1 :", "resigns"}
    assert problem.meta[OPPONENT] == "stubborn"
    assert game.reply(game.problem((1, 0, 0), "stubborn"), "a1", Random(1)).is_over


def test_a_held_out_game_begins_where_no_training_game_does() -> None:
    held_out = {problem.numbers for problem in NIM.held_out(300)}
    training = {NIM.training_problem(1, index).numbers for index in range(1000)}
    assert len(held_out) >= 20 and not held_out & training
    assert NIM.training_problem(1, 7) == make_nim().training_problem(1, 7)


def test_the_exact_odds_are_those_of_games_that_are_played() -> None:
    won = sum(
        NIM.score(problem, told(NIM.expert_answer(problem, Random(place))))["correct"] or 0.0
        for place, problem in enumerate([pose(5, 4, 3)] * 4000)
    )
    expert = NIM.players["expert"]
    chance, drawn = odds(NIM.board, expert, expert)((5, 4, 3))
    assert drawn == 0.0
    assert won / 4000 == pytest.approx(chance, abs=0.025)


def test_the_expert_is_mediocre_and_blind_in_places() -> None:
    expert, search = NIM.players["expert"], NIM.search
    choices = [position for position in NIM.board.positions if search.is_choice(position)]
    seen = [position for position in choices if sum(position) <= 8]
    errs = sum(1 - sum(expert(position)[move] for move in search.best(position)) for position in seen) / len(seen)
    assert 0.2 < errs < 0.4
    hardly = [p for p in choices if max(expert(p)[move] for move in search.best(p)) < 0.05]
    assert len(hardly) > 20
    assert _won(NIM, "perfect", "expert") > 0.9


def _won(game: Game, one: str, other: str) -> float:
    first, second = (odds(game.board, game.players[a], game.players[b]) for a, b in ((one, other), (other, one)))
    starts = game.board.starts
    return sum(first(start)[0] + 1 - second(start)[0] - second(start)[1] for start in starts) / 2 / len(starts)


def test_a_draw_of_a_move_follows_the_shares() -> None:
    dice = Random(1)
    shares = {"a1": 0.5, "b2": 0.3}
    drawn = [draw_move(shares, dice.random()) for _ in range(5000)]
    assert [round(drawn.count(move) / 5000, 1) for move in ("a1", "b2", "")] == [0.5, 0.3, 0.2]
