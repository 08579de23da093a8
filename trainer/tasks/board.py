"""Board games of two players who take turns: their rules, perfect play by search, and exact chances between players.

    Board     which moves there are, where they lead, what an end is worth
    Player    how probable each move is in a position: all that a game needs to know of who plays
    Search    the value of every position, and the moves that keep it
    odds      what one player gets against another from a position, exactly

A position is seen by whoever's turn it is, and values are theirs: 1 won, 0 drawn, -1 lost. Deliberately left out: text
and prompts (`trainer.tasks.game`), and policies as players (`trainer.selfplay`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import accumulate
from typing import Protocol

Position = tuple[int, ...]
Shares = Mapping[str, float]
"""How probable each move is, by its word; what is missing to 1 is no move at all, and loses."""
Player = Callable[[Position], Shares]
GIVES_UP = ""
"""What is drawn where a player makes no legal move."""


class Board(Protocol):
    """The rules of a game."""

    @property
    def name(self) -> str:
        """The word with which a prompt begins."""

    @property
    def positions(self) -> Sequence[Position]:
        """All in which there is a move."""

    @property
    def starts(self) -> Sequence[Position]:
        """Those in which a game begins that is to measure its players."""

    @property
    def openings(self) -> Sequence[Position]:
        """Those in which a game may begin that is to be learnt from."""

    def moves(self, position: Position) -> Mapping[str, Position]:
        """Where each legal move leads, by its word; none where the game is over."""

    def worth(self, position: Position) -> int:
        """What a position without moves is worth to whose turn it would be."""

    def show(self, position: Position) -> str:
        """The position as a text."""


def draw_move(shares: Shares, chance: float) -> str:
    """The move at `chance`, in [0, 1), of what is left when all are laid end to end; `GIVES_UP` behind the last.

    >>> draw_move({"a1": 0.25, "b1": 0.5}, 0.3), draw_move({"a1": 0.25, "b1": 0.5}, 0.9)
    ('b1', '')
    """
    ends = accumulate(shares.values())
    return next((move for move, end in zip(shares, ends, strict=True) if chance < end), GIVES_UP)


def alike(moves: Sequence[str]) -> dict[str, float]:
    """Each of these moves as probable as the others."""
    return {move: 1 / len(moves) for move in moves}


class Search:
    """A game that is searched to its end, once."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.value = cache(self._value)
        self.best = cache(self._best)

    def _value(self, position: Position) -> int:
        """What perfect play makes of the position, for whose turn it is."""
        after = self.board.moves(position).values()
        return max((-self.value(following) for following in after), default=self.board.worth(position))

    def _best(self, position: Position) -> tuple[str, ...]:
        """The moves that keep its value."""
        value = self.value(position)
        return tuple(move for move, after in self.board.moves(position).items() if -self.value(after) == value)

    def is_choice(self, position: Position) -> bool:
        """Whether some moves throw away what others keep."""
        return len(self.best(position)) < len(self.board.moves(position))

    def perfect(self, position: Position) -> Shares:
        """The player who never errs."""
        return alike(self.best(position))

    def random(self, position: Position) -> Shares:
        """The player who knows the rules."""
        return alike(tuple(self.board.moves(position)))


Odds = Callable[[Position], tuple[float, float]]


def odds(board: Board, first: Player, second: Player) -> Odds:
    """The chances (won, drawn) of the player `first`, who moves, against `second`: exact, from any position."""

    def play(
        mover: Player, other: Callable[[Position], tuple[float, float]], position: Position
    ) -> tuple[float, float]:
        won = drawn = 0.0
        shares = mover(position)
        for move, after in board.moves(position).items():
            share = shares.get(move, 0.0)
            if share:
                others, even = other(after) if board.moves(after) else _ended(board.worth(after))
                won, drawn = won + share * (1 - others - even), drawn + share * even
        return won, drawn

    @cache
    def of_first(position: Position) -> tuple[float, float]:
        return play(first, of_second, position)

    @cache
    def of_second(position: Position) -> tuple[float, float]:
        return play(second, of_first, position)

    return of_first


def _ended(worth: int) -> tuple[float, float]:
    return float(worth > 0), float(worth == 0)
