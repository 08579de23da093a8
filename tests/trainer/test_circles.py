"""The smallest game that goes round in circles: its rules, and what the pool of older selves does about it."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from ponder.ladder import Past
from ponder.recipe import ModelPart, builtin_recipes, parse_recipe, read_recipe_text
from tests.trainer.chains import NO_MODELS, go
from trainer.checkpoint import load_checkpoint
from trainer.ladder import Entrant, Match, entrants
from trainer.policy import load_policy
from trainer.tasks import told
from trainer.tasks.board import odds
from trainer.tasks.game import make_rps

RPS = make_rps()
FEW = {
    "stages.imitate.steps": "30", "stages.imitate.optim.lr": "5e-3", "stages.imitate.optim.warmup_steps": "0",
    "supervised.batch_tokens": "160", "stages.play.steps": "24", "stages.play.optim.lr": "5e-3",
    "sampling.prompts_per_step": "16", "selfplay.every_steps": "1", "evaluation.every_steps": "0",
    "evaluation.final_problems": "8", "saving.every_steps": "0",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "outcome"),
    [("rock scissors", 1), ("rock rock", 0), ("rock paper", -1), ("paper rock", 1), ("spock", -1), ("", -1)],
)
def test_each_sign_beats_one_and_loses_to_one(text: str, outcome: float) -> None:
    (problem,) = RPS.held_out(1)
    assert RPS.score(problem, text)["outcome"] == outcome


def test_whoever_answers_is_asked_what_whoever_begins_is_asked() -> None:
    assert {RPS.pose(position) for position in RPS.board.positions} == {"rps ? :"}
    (problem,) = RPS.held_out(1)
    assert problem == RPS.training_problem(1, 7)
    reply = RPS.reply(problem, "rock", Random(1))
    assert reply.is_over and reply.text in ("rock", "paper", "scissors")
    assert len(told(RPS.expert_answer(problem, Random(1))).split()) == 2


def test_each_sign_alike_is_even_against_anybody_and_throws_nothing_away() -> None:
    perfect = RPS.players["perfect"]
    for other in (RPS.players["expert"], lambda _: {"rock": 1.0}):
        won, drawn = odds(RPS.board, perfect, other)(())
        assert won + drawn / 2 == pytest.approx(0.5)
    assert not any(RPS.search.is_choice(position) for position in RPS.board.positions)


def test_a_circle_is_seen_and_a_way_up_is_none() -> None:
    def holding(sign: str, step: int) -> Entrant:
        return Entrant(f"step {step}", step, lambda _: {sign: 1.0})

    round_it = [holding(sign, step) for step, sign in enumerate(("rock", "paper", "scissors", "rock"))]
    past = Match(RPS, round_it, 1).past
    assert past.shares == [[], [1.0], [0.0, 1.0], [0.5, 0.0, 1.0]]
    assert (past.circles, past.lost, past.pairs) == (0.5, [0.0, 0.0], 6)
    up = Past([[], [0.6], [0.7, 0.6]])
    assert (up.circles, up.lost, up.whole) == (0.0, [], [0.6, pytest.approx(0.65)])


def played(folder: Path, variant: str) -> Match:
    """All selves of a short run, each a step older."""
    path = builtin_recipes()["circles"]
    recipe = parse_recipe(read_recipe_text(path), str(path), FEW, variant)
    go(recipe, folder)
    last = folder / f"checkpoints/step-{recipe.steps:06d}"
    game = make_rps()
    policy = load_policy(ModelPart(str(last)), device="cpu", models_folder=NO_MODELS)
    return Match(game, entrants(game, policy, load_checkpoint(last)), 1)


def test_alone_it_goes_round_and_loses_to_who_it_was_and_against_the_pool_it_does_not(tmp_path: Path) -> None:
    alone, pool = (played(tmp_path / (variant or "pool"), variant).past for variant in ("alone", ""))
    assert alone.pairs == pool.pairs == 300
    assert alone.circles > 0.08 > pool.circles
    assert len(alone.lost) > 15 > len(pool.lost)


def test_self_play_passes_whom_it_imitated(tmp_path: Path) -> None:
    """In the first arc of its way: who likes rock is beaten by paper."""
    match = played(tmp_path, "")
    imitating, played_on = match.players[0], match.players[8]
    (expert,) = (one for one in match.players if one.name == "expert")
    assert match.exact(imitating, expert) < 0.52
    assert match.exact(played_on, expert) > 0.55
    assert match.exact(played_on, imitating) > 0.55
