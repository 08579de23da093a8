"""Self-play: who sits opposite, that it goes on exactly where it was, and that it passes whom it imitated."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from ponder import metrics
from ponder.errors import RecipeError
from ponder.events import Evaluated, Find, Finish, GroupScored, StageStarted, StepDone
from ponder.knobs import Reward
from ponder.recipe import Recipe, builtin_recipes, parse_recipe, read_recipe_text
from ponder.selfplay import Opponent, Selfplay
from tests.trainer.chains import figures_of, go, lay_out_kept, of, read_whole, same
from trainer import builtin
from trainer.answers import read_answers
from trainer.checkpoint import load_checkpoint
from trainer.policy import Policy, make_policy
from trainer.sampler import Sampled
from trainer.selfplay import Pool, ask_all, least_missed, seat_of
from trainer.tasks.game import OPPONENT, make_nim

FEW = {
    "stages.imitate.steps": "4", "stages.play.steps": "6", "evaluation.every_steps": "0", "evaluation.problems": "8",
    "evaluation.final_problems": "8", "saving.every_steps": "2", "saving.keep": "9", "supervised.batch_tokens": "400",
    "sampling.prompts_per_step": "6", "sampling.group_size": "4", "selfplay.every_steps": "2", "selfplay.pool": "3",
}  # fmt: skip


def recipe_with(**values: str) -> Recipe:
    path = builtin_recipes()["selfplay"]
    return parse_recipe(read_recipe_text(path), str(path), {**FEW, **values})


def nim_policy(seed: int = 1) -> Policy:
    return make_policy(*builtin.fresh("nim", seed), torch.device("cpu"))


def test_a_run_that_goes_on_anywhere_is_the_one_that_never_ended(tmp_path: Path) -> None:
    """Opponents and their moves, too: the pool lies in the checkpoint, and all dice are of the seed's."""
    whole, events = read_whole(recipe_with(), tmp_path / "whole")
    (stage,) = [event.step for event in of(events, StageStarted) if isinstance(event, StageStarted) and event.step]
    for step in (2, 4, 6, 8):
        folder = tmp_path / f"from-{step}"
        lay_out_kept(whole, step, [stage], folder)
        again = go(recipe_with(), folder)
        assert figures_of(again, (StepDone,)) == [told for told in figures_of(events, (StepDone,)) if told[0] > step]
        assert same(folder / "checkpoints/step-000010", whole / "checkpoints/step-000010")
        texts = [
            [(e.prompt_id, [r.text for r in e.rollouts]) for e in told if isinstance(e, GroupScored) and e.step > step]
            for told in (again, events)
        ]
        assert texts[0] == texts[1]


def test_the_pool_lies_in_the_checkpoint_and_is_spread_over_the_past(tmp_path: Path) -> None:
    events = go(recipe_with(), tmp_path)
    last = load_checkpoint(tmp_path / "checkpoints/step-000010")
    assert {int(name.partition("/")[0]) for name in last.tensors["pool"]} == {4, 8, 10}
    seats = {
        event.prompt_id.partition(" against ")[2] for event in of(events, GroupScored) if isinstance(event, GroupScored)
    }
    assert seats >= {"self", "step 4"} and seats <= {"self", *(seat_of(step) for step in (4, 6, 8))}
    told = [event.metrics for event in of(events, StepDone) if isinstance(event, StepDone) and event.step > 4]
    assert [figures[metrics.POOL] for figures in told] == [1.0, 2.0, 2.0, 3.0, 3.0, 3.0]
    assert all(0.0 <= figures[metrics.WON_SELF] <= 1.0 for figures in told if metrics.WON_SELF in figures)


def test_who_sits_opposite_is_as_the_knobs_say() -> None:
    game, policy = make_nim(), nim_policy()
    pool = Pool(game, policy, first_step=3)
    pool.look(1.0)
    pool.grow(4, Selfplay(opponent=Opponent.SELF, every_steps=4))

    def seats(**knobs: object) -> list[str]:
        chosen = Selfplay(**{"opponent": Opponent.SELF, **knobs})  # type: ignore[arg-type]  # a knob each
        problems = [game.training_problem(1, place) for place in range(400)]
        return [str(pool.seat(problem, 1, place, chosen).meta[OPPONENT]) for place, problem in enumerate(problems)]

    assert set(seats(opponent=Opponent.EXPERT)) == {"expert"}
    assert set(seats(present_share=1.0)) == {"self"}
    mixed = seats(present_share=0.5)
    assert set(mixed) == {"self", "step 3", "step 4"}
    assert mixed.count("self") / 400 == pytest.approx(0.5, abs=0.1)
    assert mixed == seats(present_share=0.5)


def test_a_snapshot_plays_as_the_policy_did() -> None:
    game, policy = make_nim(), nim_policy()
    before = ask_all(policy, policy.model, game, 1.0)
    pool = Pool(game, policy, first_step=0)
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    assert ask_all(policy, policy.model, game, 1.0)((3, 2, 1)) != before((3, 2, 1))
    assert game.players["step 0"]((3, 2, 1)) == before((3, 2, 1))
    restored = Pool(make_nim(), policy, first_step=9)
    restored.restore(pool.tensors())
    assert list(restored.members) == [0]
    assert restored._game.players["step 0"]((3, 2, 1)) == before((3, 2, 1))


def test_a_player_is_asked_all_positions_and_knows_only_legal_moves() -> None:
    game, policy = make_nim(), nim_policy()
    player = ask_all(policy, policy.model, game, 1.0)
    shares = player((6, 0, 2))
    assert list(shares) == list(game.board.moves((6, 0, 2)))
    with torch.no_grad():
        logits = policy.model(torch.tensor([policy.prompt_ids("nim 6 0 2 :")])).logits[0, -1].softmax(-1)
    (move,) = policy.inner_ids("c2")
    assert shares["c2"] == pytest.approx(logits[move].item(), abs=1e-6)
    assert sum(shares.values()) < 1.0


def test_the_snapshot_that_is_let_go_is_the_one_least_missed() -> None:
    assert least_missed([0, 10, 20, 30]) == 10
    assert least_missed([0, 20, 30, 40]) == 30
    assert least_missed([5, 6]) == 5


def test_a_winning_move_that_nobody_expected_is_marked_where_it_stands() -> None:
    """And no other: not a losing one, not in a lost game, not one that the first policy would make."""
    game, policy = make_nim(), nim_policy()
    pool = Pool(game, policy, first_step=0)
    expected = {"c2": 0.5, "a1": 0.001, "b3": 0.001}
    game.players["step 0"] = lambda _: expected

    def finds(text: str, *start: int) -> list[Find]:
        problem = game.problem(start, "expert")
        ids = policy.answer_ids(text, has_ended=False)
        drawn = Sampled(ids, [-0.5 * place for place in range(len(ids))], [0.0] * len(ids), Finish.END)
        (answer,) = read_answers(
            policy, game, [problem], [policy.prompt_ids(problem.prompt)], [drawn], max_new_tokens=80, weights=Reward()
        )
        pool.find([answer])
        return answer.finds

    first, found = finds("a1 c2 2 1 1 : a2 b1 0 0 1 : c1", 3, 1, 3)
    assert (first.move, first.imitated, first.token) == ("a1", 0.001, 0)
    assert (found.move, found.position, found.imitated, found.token) == ("a2", "2 1 1", 0.0, 6)
    assert found.now == pytest.approx(math.exp(-3.0))
    assert "a1 c2 2 1 1 : a2 b1 0 0 1 : c1"[found.start : found.end] == "a2"
    assert finds("c2", 0, 0, 2) == []
    assert finds("a1 b1", 1, 1, 0) == []
    assert finds("b1 a1", 1, 1, 0) == []


@pytest.mark.parametrize("kind", ["reject", "rank"])
def test_a_set_of_texts_cannot_be_made_of_games(tmp_path: Path, kind: str) -> None:
    text = f"""
        [run]\nname = "set"\nseed = 1\n[model]\npath = "new:nim"\n[task]\nname = "nim"
        [stage]\nkind = "{kind}"\nsteps = 1
    """
    with pytest.raises(RecipeError, match="whose word is whose"):
        go(parse_recipe(text, "set.toml"), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_imitation_stays_below_the_expert_and_self_play_passes_him(tmp_path: Path) -> None:
    few = {"stages.imitate.steps": "300", "stages.play.steps": "60", "evaluation.final_problems": "1000"}
    path = builtin_recipes()["selfplay"]
    recipe = parse_recipe(read_recipe_text(path), str(path), {**few, "evaluation.every_steps": "0"})
    told = [event.metrics for event in go(recipe, tmp_path) if isinstance(event, Evaluated)]
    imitated, played = told[-2], told[-1]
    assert imitated[metrics.EVAL_ACCURACY] < imitated[metrics.EVAL_EXPERT_HIGH]
    assert played[metrics.EVAL_LOW] > played[metrics.EVAL_EXPERT_HIGH]
    assert played[metrics.EVAL_PERFECT] > imitated[metrics.EVAL_PERFECT] + 0.05
