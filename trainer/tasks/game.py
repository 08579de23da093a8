"""A board game as a task: the policy writes moves, the world answers with the other player's and what stands then.

    nim 5 2 6 : a3 c4 2 2 2 : b1 a2 0 1 2 : c1 b1 0 0 1 : c1

The policy always begins; a game that the other one would begin is the game that begins one move later. A turn of the
policy is one word; what is no legal move loses at once. Training games begin anywhere, also near the end: the last
position says all, so that a player can be asked any position as if the game began there.

    outcome    1 won, 0 drawn, -1 lost             perfect    of the moves that could throw something away, those that
    correct    1 won, else 0                                  did not; without such a move there is no such part
    format     1 where every move was legal

Who sits opposite is in the problem: `expert`, `perfect`, `random`, or whoever was given a seat. Deliberately left out:
the rules (`trainer.tasks.board`), and who is given a seat (`trainer.selfplay`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from ponder.selfplay import Opponent
from trainer.markers import Markers
from trainer.tasks import Candidate, Problem, Reply, told
from trainer.tasks.board import GIVES_UP, Board, Player, Position, Search, draw_move
from trainer.tasks.nim import Expert, Nim
from trainer.tasks.order import epochs, place_of
from trainer.tasks.rps import Rps, Unseen
from trainer.tasks.rps import expert as rps_expert

OPPONENT = "opponent"
"""Where a problem says who sits opposite."""
YOUR_TURN = ":"
RESIGNS = "resigns"
"""What stands for the other player's move where it is none."""
HELD_OUT_SHARE = 0.15
"""Of the positions in which a game is measured from its beginning, those in which no training game begins; where there
is but one, it is both."""


@dataclass(frozen=True)
class Turn:
    """A legal move of the policy: where it stood, what it played, and which word of the text that is."""

    position: Position
    move: str
    word: int


@dataclass(frozen=True)
class Record:
    """A game as far as its text goes."""

    turns: tuple[Turn, ...]
    position: Position
    """What stands now, for whoever moves next."""
    result: int | None
    """To the policy; None while the game goes on."""
    is_legal: bool
    """Whether each move of the policy was."""
    is_others_turn: bool


class Game:
    """A game against somebody: `trainer.tasks.Environment`, with an expert."""

    parts = ("correct", "format", "outcome", "perfect")
    verifier = None
    markers = Markers(())

    def __init__(self, board: Board, search: Search, expert: Player) -> None:
        self.board, self.search = board, search
        self.players: dict[str, Player] = {
            str(Opponent.EXPERT): expert, str(Opponent.PERFECT): search.perfect, str(Opponent.RANDOM): search.random,
        }  # fmt: skip
        """Who may sit opposite, by name; `trainer.selfplay` adds the policy and its past."""
        self._known = frozenset(board.positions)
        held_out = [start for start in board.starts if place_of(self.pose(start)) < HELD_OUT_SHARE]
        self._held_out = held_out or list(board.starts)
        self._training = [start for start in board.openings if start not in held_out] or list(board.openings)

    @property
    def name(self) -> str:
        return self.board.name

    def pose(self, position: Position) -> str:
        """What a player is asked."""
        return f"{self.name} {self.board.show(position)} {YOUR_TURN}"

    def problem(self, start: Position, opponent: str) -> Problem:
        """The game that begins so."""
        key = f"{self.name} {self.board.show(start)} against {opponent}"
        return Problem(key, self.pose(start), start, meta={OPPONENT: opponent})

    def training_problem(self, seed: int, index: int) -> Problem:
        return self.problem(next(epochs(self._training, seed, index)), Opponent.EXPERT)

    def held_out(self, count: int) -> list[Problem]:
        """Against the expert; the same beginnings come again and again."""
        starts = itertools.islice(itertools.cycle(self._held_out), count)
        return [self.problem(start, Opponent.EXPERT) for start in starts]

    def reply(self, problem: Problem, text: str, dice: Random) -> Reply:
        record = self.read(problem, text)
        if not record.is_others_turn:
            return Reply("", is_over=True)  # it is won, or what was played was no move
        opponent = str(problem.meta.get(OPPONENT, Opponent.EXPERT))
        move = draw_move(self.players[opponent](record.position), dice.random())
        after = self.board.moves(record.position).get(move)
        if move == GIVES_UP or after is None:
            return Reply(RESIGNS, is_over=True)
        if not self.board.moves(after):
            return Reply(move, is_over=True)
        return Reply(f"{move} {self.board.show(after)} {YOUR_TURN}")

    def expert_answer(self, problem: Problem, dice: Random) -> list[tuple[str, bool]]:
        pieces: list[tuple[str, bool]] = []
        reply = Reply("")
        while not reply.is_over:
            position = self.read(problem, told(pieces)).position
            pieces.append((draw_move(self.players[Opponent.EXPERT](position), dice.random()), True))
            reply = self.reply(problem, told(pieces), dice)
            if reply.text:
                pieces.append((reply.text, False))
        return pieces

    def read(self, problem: Problem, text: str) -> Record:
        """The game that the text tells; never raises."""
        board, words = self.board, text.split()
        position = self._start(problem)
        turns: list[Turn] = []
        if position not in self._known:
            return Record((), position, -1, False, False)
        at = 0
        while at < len(words):
            after = board.moves(position).get(words[at])
            if after is None:
                return Record(tuple(turns), position, -1, False, False)
            turns.append(Turn(position, words[at], at))
            if not board.moves(after):
                return Record(tuple(turns), after, -board.worth(after), True, False)
            if at + 1 == len(words):
                return Record(tuple(turns), after, None, True, True)
            if words[at + 1] == RESIGNS:
                return Record(tuple(turns), after, 1, True, False)
            position = board.moves(after).get(words[at + 1], after)
            if not board.moves(position):
                return Record(tuple(turns), position, board.worth(position), True, False)
            at += 2 + len(f"{board.show(position)} {YOUR_TURN}".split())
        return Record(tuple(turns), position, None, True, False)

    def _start(self, problem: Problem) -> Position:
        """Where the game begins; what a person asks has it in its words only."""
        said = problem.prompt.removeprefix(self.name).removesuffix(YOUR_TURN).split()
        return problem.numbers or tuple(int(word) for word in said if word.isdecimal())

    def score(self, problem: Problem, text: str) -> Mapping[str, float | None]:
        record = self.read(problem, text)
        outcome = -1 if record.result is None else record.result
        choices = [turn for turn in record.turns if self.search.is_choice(turn.position)]
        kept = [turn.move in self.search.best(turn.position) for turn in choices]
        return {
            "correct": float(outcome > 0),
            "format": float(record.is_legal and record.result is not None),
            "outcome": float(outcome),
            **({"perfect": sum(kept) / len(kept)} if kept else {}),
        }

    def reference(self, problem: Problem) -> str:
        """The moves that keep what the position is worth."""
        return " ".join(self.search.best(self._start(problem)))

    def candidates(self, problem: Problem, text: str) -> list[Candidate]:
        """The policy's moves; right is one that throws nothing away."""
        places = _places(text)
        return [
            Candidate(*places[turn.word], turn.move, turn.move in self.search.best(turn.position))
            for turn in self.read(problem, text).turns
        ]

    def verdicts(self, problem: Problem, text: str) -> list[tuple[bool, bool]]:  # noqa: ARG002  # every task is asked
        """It judges no move."""
        return []

    def true_steps(self, text: str) -> tuple[int, int]:  # noqa: ARG002  # every task is asked
        """It calculates nothing."""
        return 0, 0


def _places(text: str) -> list[tuple[int, int]]:
    """Where each word of the text stands."""
    places, at = [], 0
    for word in text.split():
        start = text.index(word, at)
        at = start + len(word)
        places.append((start, at))
    return places


def make_nim() -> Game:
    """Nim against its expert."""
    board = Nim()
    search = Search(board)
    return Game(board, search, Expert(board, search))


def make_rps() -> Game:
    """Rock, paper, scissors against whoever likes rock."""
    board = Rps()
    return Game(board, Unseen(board), rps_expert)
