"""Who beats whom: the policies of a run, the one that it began with, the expert, the random and the perfect player.

    checkpoint ──► its policy, and the pool of its older selves ──► a table of all positions each (`trainer.selfplay`)
               ──► every pair plays ──► Elo with intervals (`trainer.elo`)
               ──► exact chances of the newest against the first, and against its past
               ──► beside them: how well each foresees the expert's moves, and how seldom it throws something away

Games begin in positions drawn for the pair, each with both players beginning in turn. Zero, Nature 550 (2017), figure
3, has the same three things beside each other: strength, foreseen moves of people, and what is known of the game's
value, which here is exact. Deliberately left out: printing (`daemon.ladder`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

import torch

from ponder.errors import NotFound
from ponder.ladder import Against, Ladder, Past, Rung
from ponder.selfplay import Opponent
from ponder.shares import wilson_interval
from trainer.checkpoint import Restored
from trainer.elo import strengths
from trainer.policy import Policy
from trainer.selfplay import TENSORS, ask_all, members_of, seat_of
from trainer.tasks.board import Player, Position, draw_move, odds
from trainer.tasks.game import Game

EXPERT_GAMES = 500
"""So many games of the expert are foreseen."""
BACK = (10, 20, 40)
"""So many steps before the newest, or the nearest to that."""


@dataclass(frozen=True)
class Entrant:
    """One who plays."""

    name: str
    step: int | None
    player: Player


def entrants(game: Game, policy: Policy, restored: Restored) -> list[Entrant]:
    """All who play: the checkpoint's policy, its pool, and those of the game itself. NotFound without a pool."""
    pool = members_of(restored.tensors.get(TENSORS, {}))
    if not pool:
        raise NotFound(
            f"the checkpoint of step {restored.step} holds no older selves of the policy",
            "a stage of the kind `rl` on a game collects them: `selfplay.pool`, `selfplay.every_steps`",
        )
    past = copy.deepcopy(policy.model)
    found = []
    for step, weights in sorted(pool.items()):
        if step < restored.step:
            past.load_state_dict(weights, strict=False)
            found.append(Entrant(seat_of(step), step, ask_all(policy, past, game, 1.0)))
    newest = Entrant(seat_of(restored.step), restored.step, ask_all(policy, policy.model, game, 1.0))
    own = (Opponent.EXPERT, Opponent.PERFECT, Opponent.RANDOM)
    return [*found, newest, *(Entrant(str(name), None, game.players[name]) for name in own)]


class Match:
    """The players of a ladder, and their games."""

    def __init__(self, game: Game, players: Sequence[Entrant], seed: int) -> None:
        self.game, self.players, self.seed = game, players, seed

    def ladder(self, run: str, *, games: int, final_games: int) -> Ladder:
        """Everything; `games` of each pair, `final_games` of the newest against the first."""
        names = [one.name for one in self.players]
        won_NN = torch.zeros(len(names), len(names))
        drawn_NN = torch.zeros_like(won_NN)
        for place, one in enumerate(self.players):
            for other_place in range(place):
                won, drawn = self.play(one, self.players[other_place], games)
                won_NN[place, other_place], won_NN[other_place, place] = won, games - won - drawn
                drawn_NN[place, other_place] = drawn_NN[other_place, place] = drawn
        found = strengths(won_NN, drawn_NN, names.index(Opponent.EXPERT), self.seed)
        shares = ((won_NN + drawn_NN / 2).sum(1) / (games * (len(names) - 1))).tolist()
        rungs = [
            Rung(
                one.name, one.step, strength.elo, strength.low, strength.high, share, games * (len(names) - 1),
                self.exact(one, self._named[Opponent.EXPERT]), self.predicts(one), self.perfect(one), self.begins(one),
            )
            for one, strength, share in zip(self.players, found, shares, strict=True)
        ]  # fmt: skip
        learning = [one for one in self.players if one.step is not None]
        *past, newest = learning
        return Ladder(
            run, self.game.name, sorted(rungs, key=lambda rung: -rung.elo),
            self.against(newest, (past or learning)[0], final_games),
            [self.against(newest, one, final_games) for one in _back_from(newest, past)],
            self.past,
        )  # fmt: skip

    @cached_property
    def past(self) -> Past:
        """Who learns, against who it was."""
        learning = [one for one in self.players if one.step is not None]
        return Past([[self.exact(one, older) for older in learning[:place]] for place, one in enumerate(learning)])

    @cached_property
    def _named(self) -> Mapping[str, Entrant]:
        return {one.name: one for one in self.players}

    def play(self, one: Entrant, other: Entrant, games: int) -> tuple[int, int]:
        """(won by the first, drawn), of so many games with the two beginning in turn."""
        dice = Random(f"{self.seed} {one.name} {other.name}")
        won = drawn = 0
        for number in range(games):
            start = dice.choice(self.game.board.starts)
            begins = number % 2 == 0
            result = self._played(start, (one, other) if begins else (other, one), dice) * (1 if begins else -1)
            won, drawn = won + (result > 0), drawn + (result == 0)
        return won, drawn

    def _played(self, start: Position, players: tuple[Entrant, Entrant], dice: Random) -> int:
        """What a game comes to for who begins."""
        position, sign, board = start, 1, self.game.board
        mover, waiting = players
        while moves := board.moves(position):
            move = draw_move(mover.player(position), dice.random())
            if move not in moves:
                return -sign
            position, sign = moves[move], -sign
            mover, waiting = waiting, mover
        return sign * board.worth(position)

    def exact(self, one: Entrant, other: Entrant) -> float:
        """What the first may expect of a game, a draw as half: over all beginnings, and over who begins."""
        first, second = (odds(self.game.board, a.player, b.player) for a, b in ((one, other), (other, one)))
        total = 0.0
        for start in self.game.board.starts:
            (won, drawn), (lost, even) = first(start), second(start)
            total += won + drawn / 2 + 1 - lost - even / 2
        return total / (2 * len(self.game.board.starts))

    def against(self, one: Entrant, other: Entrant, games: int) -> Against:
        won, drawn = self.play(one, other, games)
        low, high = wilson_interval(won, games)
        return Against(one.name, other.name, won, drawn, games, low, high, self.exact(one, other))

    def predicts(self, one: Entrant) -> float:
        """The share of the expert's moves that the player holds most probable."""
        hits = [likeliest(one.player, position) == move for position, move in self._expert_moves]
        return sum(hits) / len(hits)

    @cached_property
    def _expert_moves(self) -> list[tuple[Position, str]]:
        """From games in which the expert plays himself, on held-out beginnings."""
        found = []
        for place, problem in enumerate(self.game.held_out(EXPERT_GAMES)):
            pieces = self.game.expert_answer(problem, Random(f"{self.seed} foreseen {place}"))
            text = " ".join(piece for piece, _ in pieces)
            found += [(turn.position, turn.move) for turn in self.game.read(problem, text).turns]
        return found

    def begins(self, one: Entrant) -> dict[str, float]:
        """How probable each first move is, where there is one beginning."""
        starts = self.game.board.starts
        return dict(one.player(starts[0])) if len(starts) == 1 else {}

    def perfect(self, one: Entrant) -> float | None:
        """How probable it is that nothing is thrown away, where it could be: the mean over all such positions."""
        search = self.game.search
        choices = [position for position in self.game.board.positions if search.is_choice(position)]
        kept = [sum(one.player(p).get(move, 0.0) for move in search.best(p)) for p in choices]
        return sum(kept) / len(kept) if kept else None


def likeliest(player: Player, position: Position) -> str:
    """The most probable move; the first by its name of several."""
    shares = player(position)
    return min(shares, key=lambda move: (-shares[move], move))


def _back_from(newest: Entrant, past: Sequence[Entrant]) -> list[Entrant]:
    """The snapshots that are nearest to some steps before the newest, each once."""
    if newest.step is None or not past:
        return []
    goals = [newest.step - back for back in BACK]
    nearest = [min(past, key=lambda one: abs((one.step or 0) - goal)) for goal in goals]
    return list({one.name: one for one in nearest}.values())
