"""Nim: three heaps; a player takes as much as he likes from one of them, and who takes the last object wins.

Perfect play is known (the binary digits of the heaps are added without carrying: Bouton, 1901), nobody draws, and a
game takes about six moves. `a3` takes three from the first heap.

The expert is a mediocre one. He looks ahead only when at most `SIGHT` objects are left, and even then he errs in `ERRS`
of his moves. Where he does not look he plays by habit: something from the largest heap. So there are positions that he
hardly ever solves, because all that wins there is a move from a smaller heap. Deliberately left out: texts
(`trainer.tasks.game`).
"""

from __future__ import annotations

import itertools
from functools import cache

from trainer.tasks.board import Board, Position, Search, Shares

LARGEST = 6
"""Objects of a heap."""
HEAPS = "abc"
MOVES = tuple(f"{heap}{count}" for heap in HEAPS for count in range(1, LARGEST + 1))
START_OBJECTS = 9
"""A game that measures begins with so many or more."""
SIGHT = 8
"""With more objects the expert looks no further than his habit."""
ERRS = 0.35
"""Share of his moves that are habit even so."""
SLIPS = 0.05
"""Share of his moves that are any move at all."""


class Nim:
    """The rules: `trainer.tasks.board.Board`."""

    name = "nim"

    def __init__(self) -> None:
        tables = itertools.product(range(LARGEST + 1), repeat=len(HEAPS))
        self.positions = self.openings = tuple(table for table in tables if any(table))
        self.starts = tuple(table for table in self.positions if sum(table) >= START_OBJECTS)
        self.moves = cache(self._moves)

    def _moves(self, position: Position) -> dict[str, Position]:
        return {
            f"{heap}{count}": (*position[:place], size - count, *position[place + 1 :])
            for place, (heap, size) in enumerate(zip(HEAPS, position, strict=True))
            for count in range(1, size + 1)
        }

    def worth(self, position: Position) -> int:  # noqa: ARG002  # all ends are alike
        """Nothing is left: the other one took it."""
        return -1

    def show(self, position: Position) -> str:
        return " ".join(map(str, position))


class Expert:
    """The player that is imitated.

    >>> nim = Nim()
    >>> expert = Expert(nim, Search(nim))
    >>> round(sum(expert((6, 3, 4)).values()), 9), round(expert((1, 2, 0))["b1"], 2)
    (1.0, 0.8)
    """

    def __init__(self, board: Board, search: Search) -> None:
        self._board, self._search = board, search

    def __call__(self, position: Position) -> Shares:
        moves = list(self._board.moves(position))
        habit = [move for move in moves if position[HEAPS.index(move[0])] == max(position)]
        sees = sum(position) <= SIGHT and self._search.value(position) > 0
        won = self._search.best(position) if sees else ()
        by_habit = ERRS if sees else 1.0
        shares = dict.fromkeys(moves, SLIPS / len(moves))
        for chosen, share in ((habit, by_habit), (won, 1 - by_habit)):
            for move in chosen:
                shares[move] += (1 - SLIPS) * share / len(chosen)
        return shares
