"""Self-play: the policy, as it is and as it was, sits opposite itself.

    every `selfplay.every_steps`   a snapshot of the weights joins the pool, the stage's first policy before step 1
    every problem                  its opponent is drawn: the present policy, or one of the pool (AlphaGo, 2016)
    every step                     the present policy is asked all positions at once

A player of a board game is a table of all positions, which one forward pass gives; so a thousand games cost a thousand
look-ups. A position is asked as if the game began there. When the pool is full, the snapshot goes that leaves the
smallest gap in time, the first and the newest stay: what is kept is spread over the whole past. The pool lies in the
checkpoint, and who sits opposite is a function of the seed and the problem's place. Against the first of them, the
policy that imitates, moves are measured that nobody expected (`ponder.events.Find`); no reward knows of them.
Deliberately left out: how players are compared (`trainer.ladder`).
"""

from __future__ import annotations

import copy
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ponder import metrics
from ponder.events import Find
from ponder.selfplay import Opponent, Selfplay
from trainer.answers import Answer
from trainer.policy import Policy, token_logps
from trainer.tasks import Problem
from trainer.tasks.board import Player, Position
from trainer.tasks.game import OPPONENT, Game
from trainer.turn_figures import share

Weights = dict[str, Tensor]
HARDLY = 0.02
"""A move that is less probable is one that nobody expected."""
TENSORS = "pool"
"""The file of a checkpoint that holds the pool."""


def seat_of(step: int) -> str:
    """What the policy as it was after `step` is called as an opponent."""
    return f"step {step}"


class Pool:
    """Who the policy has been, and who sits opposite it."""

    def __init__(self, game: Game, policy: Policy, first_step: int) -> None:
        self._game, self._policy = game, policy
        self._past: PreTrainedModel = copy.deepcopy(policy.model)
        self.members: dict[int, Weights] = {}
        """Weights by the step after which the policy had them."""
        self._admit(first_step, _weights(policy.model))

    def seat(self, problem: Problem, seed: int, place: int, chosen: Selfplay) -> Problem:
        """The problem with its opponent; `place` is its place in the run."""
        if chosen.opponent is not Opponent.SELF:
            return self._game.problem(problem.numbers, chosen.opponent)
        dice = Random(f"opponent {seed} {place}")
        if dice.random() < chosen.present_share:
            return self._game.problem(problem.numbers, Opponent.SELF)
        return self._game.problem(problem.numbers, seat_of(dice.choice(sorted(self.members))))

    def look(self, temperature: float) -> None:
        """Have the present policy sit opposite as it is now."""
        self._game.players[Opponent.SELF] = ask_all(self._policy, self._policy.model, self._game, temperature)

    def grow(self, step: int, chosen: Selfplay) -> None:
        """After a step: take a snapshot when it is time, and let go of one when there are too many."""
        if step % chosen.every_steps == 0:
            self._admit(step, _weights(self._policy.model))
        while len(self.members) > chosen.pool:
            gone = least_missed(sorted(self.members))
            del self.members[gone], self._game.players[seat_of(gone)]

    def find(self, answers: Sequence[Answer]) -> None:
        """Mark in won games the moves that win and that the stage's first policy would hardly have made."""
        expected = self._game.players[seat_of(min(self.members))]
        for answer in answers:
            if answer.is_correct:
                answer.finds = self._finds(answer, expected)

    def _finds(self, answer: Answer, expected: Player) -> list[Find]:
        search, offsets = self._game.search, list(accumulate(answer.widths, initial=0))
        turns = self._game.read(answer.problem, answer.text).turns
        found = []
        for turn, candidate in zip(turns, answer.candidates, strict=True):
            imitated = expected(turn.position).get(turn.move, 0.0)
            wins = search.is_choice(turn.position) and turn.move in search.best(turn.position)
            if wins and search.value(turn.position) > 0 and imitated < HARDLY:
                token = bisect_right(offsets, candidate.start) - 1
                found.append(
                    Find(
                        candidate.start, candidate.end, turn.move, self._game.board.show(turn.position), imitated,
                        math.exp(answer.sampled.logps[token]), token,
                    )
                )  # fmt: skip
        return found

    def figures(self, answers: Sequence[Answer]) -> dict[str, float]:
        """How a step's games went, against the present and against the past."""
        by_seat = {
            metrics.WON_SELF: [a for a in answers if a.problem.meta[OPPONENT] == Opponent.SELF],
            metrics.WON_PAST: [a for a in answers if str(a.problem.meta[OPPONENT]).startswith("step ")],
        }
        won = {name: share(games, lambda answer: answer.is_correct) for name, games in by_seat.items() if games}
        finds = share(answers, lambda answer: bool(answer.finds))
        return {metrics.POOL: float(len(self.members)), metrics.FINDS: finds, **won}

    def tensors(self) -> Weights:
        """All members, for a checkpoint."""
        return {f"{step}/{name}": weight for step, weights in self.members.items() for name, weight in weights.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Become what was saved."""
        for step in list(self.members):
            del self.members[step], self._game.players[seat_of(step)]
        for step, weights in sorted(members_of(tensors).items()):
            self._admit(step, weights)

    def _admit(self, step: int, weights: Weights) -> None:
        self.members[step] = weights
        self._past.load_state_dict(weights, strict=False)
        self._game.players[seat_of(step)] = ask_all(self._policy, self._past, self._game, 1.0)


def members_of(tensors: Mapping[str, Tensor]) -> dict[int, Weights]:
    """The pool of a checkpoint, by the steps."""
    found: dict[int, Weights] = {}
    for key, weight in tensors.items():
        step, _, name = key.partition("/")
        found.setdefault(int(step), {})[name] = weight.clone()
    return found


def least_missed(steps: Sequence[int]) -> int:
    """Of growing steps the one, neither first nor last, whose neighbours are nearest to each other.

    >>> least_missed([0, 10, 20, 25, 60])
    20
    """
    if len(steps) < 3:
        return steps[0]
    return min((after - before, step) for before, step, after in zip(steps, steps[1:], steps[2:], strict=False))[1]


def _weights(model: PreTrainedModel) -> Weights:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@torch.no_grad()
def ask_all(policy: Policy, model: PreTrainedModel, game: Game, temperature: float) -> Player:
    """A model as a player; `policy` says how it is spoken to, and is of its kind."""
    words: list[tuple[Position, str]] = [
        (position, move) for position in game.board.positions for move in game.board.moves(position)
    ]
    prompts = {position: policy.prompt_ids(game.pose(position)) for position in game.board.positions}
    ids = {move: policy.answer_ids(move, has_ended=False) for move in {move for _, move in words}}
    answers = [ids[move] for _, move in words]
    logp_N, _ = token_logps(policy, model, [prompts[position] for position, _ in words], answers, temperature)
    sums = [part.sum().exp().item() for part in torch.split(logp_N, [len(answer) for answer in answers])]
    table: dict[Position, dict[str, float]] = {}
    for (position, move), chance in zip(words, sums, strict=True):
        table.setdefault(position, {})[move] = chance
    return table.__getitem__
