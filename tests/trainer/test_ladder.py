"""The ladder: strengths that are right where they are known, and everything exact that a search makes exact."""

from __future__ import annotations

import math

import pytest
import torch

from ponder.errors import NotFound
from tests.trainer.test_selfplay import nim_policy
from trainer.checkpoint import Restored
from trainer.elo import MOST, fit, strengths
from trainer.ladder import Entrant, Match, entrants
from trainer.selfplay import Pool
from trainer.tasks.game import make_nim

GAME = make_nim()
OWN = [Entrant(name, None, GAME.players[name]) for name in ("expert", "perfect", "random")]


def test_two_players_differ_by_the_log_of_their_odds() -> None:
    won = torch.tensor([[0.0, 75.0], [25.0, 0.0]])
    elo = fit(won[None], anchor=1)[0].tolist()
    assert elo == pytest.approx([400 * math.log10(3), 0.0], abs=1e-6)
    assert elo[0] == pytest.approx(190.8, abs=0.1)


def test_strengths_are_those_that_the_games_were_drawn_from() -> None:
    true = torch.tensor([0.0, 150.0, -120.0, 400.0], dtype=torch.float64)
    chance = 1 / (1 + 10 ** ((true[None, :] - true[:, None]) / 400))
    games = torch.full_like(chance, 2000.0).fill_diagonal_(0)
    assert fit((games * chance)[None], anchor=0)[0].tolist() == pytest.approx(true.tolist(), abs=1e-3)
    upper = torch.triu(torch.binomial(games, chance, generator=torch.Generator().manual_seed(1)), 1)
    won = upper + torch.tril((games - upper.T).fill_diagonal_(0), -1)
    found = strengths(won, torch.zeros_like(won), anchor=0, seed=1)
    assert all(one.low <= value <= one.high for one, value in zip(found, true.tolist(), strict=True))
    assert all(one.high - one.low < 60 for one in found)


def test_the_gradient_of_the_likelihood_is_zero_at_the_fit() -> None:
    won = torch.tensor([[0.0, 7.0, 3.0], [5.0, 0.0, 9.0], [6.0, 2.0, 0.0]], dtype=torch.float64)
    elo = fit(won[None], anchor=2)[0].requires_grad_()
    log_g = elo * math.log(10) / 400
    loss = -(won * torch.nn.functional.logsigmoid(log_g[:, None] - log_g[None, :])).sum()
    (slope,) = torch.autograd.grad(loss, elo)
    assert slope.abs().max().item() < 1e-6


def test_who_has_won_all_is_at_the_end_of_the_scale_and_nothing_breaks() -> None:
    won = torch.tensor([[0.0, 10.0], [0.0, 0.0]])
    assert fit(won[None], anchor=1)[0].tolist() == pytest.approx([MOST, 0.0], abs=1e-3)
    drawn = torch.tensor([[0.0, 10.0], [10.0, 0.0]])
    level = strengths(torch.zeros(2, 2), drawn, anchor=1, seed=1)
    assert [one.elo for one in level] == pytest.approx([0.0, 0.0])


def test_the_order_is_that_of_what_is_known_and_games_agree_with_exact_chances() -> None:
    alike = [Entrant(f"step {step}", step, GAME.search.random) for step in (0, 10)]
    match = Match(GAME, [*alike, *OWN], seed=3)
    ladder = match.ladder("x", games=60, final_games=400)
    by_name = {rung.name: rung for rung in ladder.rungs}
    assert ladder.rungs[0].name == "perfect" and by_name["expert"].elo == 0.0
    assert by_name["perfect"].perfect == pytest.approx(1.0) and by_name["perfect"].elo > 200
    assert by_name["expert"].against_expert == pytest.approx(0.5)
    assert by_name["expert"].predicts > by_name["perfect"].predicts > by_name["random"].predicts
    assert by_name["random"].elo < -50
    expert, perfect = (next(one for one in OWN if one.name == name) for name in ("expert", "perfect"))
    against = match.against(perfect, expert, 1000)
    assert against.low <= against.exact <= against.high
    assert [rung.step for rung in ladder.curve] == [0, 10]
    assert (ladder.against_first.one, ladder.against_first.other) == ("step 10", "step 0")


def test_who_enters_is_read_from_the_checkpoint() -> None:
    game, policy = make_nim(), nim_policy()
    pool = Pool(game, policy, first_step=4)
    restored = Restored(6, {"pool": pool.tensors()}, {})
    assert [one.name for one in entrants(game, policy, restored)] == ["step 4", "step 6", "expert", "perfect", "random"]
    with pytest.raises(NotFound, match="holds no older selves"):
        entrants(game, policy, Restored(6, {}, {}))
