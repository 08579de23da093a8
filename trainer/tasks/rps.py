"""Rock, paper, scissors: both choose, neither sees the other's choice, and no way to play beats all others.

    rps ? : rock paper

Each sign beats one and loses to one. Whoever answers is asked in the same words as whoever begins, so that a policy has
one way to play on either side. The best that is known, each sign alike, wins as often as it loses against anybody: a
draw as half, 50 %. So this is the smallest game in which learning from one's present self alone goes round in circles.

The expert likes rock. Deliberately left out: texts (`trainer.tasks.game`).
"""

from __future__ import annotations

from trainer.tasks.board import Position, Search, Shares

SIGNS = ("rock", "paper", "scissors")
"""Each beats the one before it, the first the last."""
UNSEEN = "?"
LIKINGS = (0.5, 0.3, 0.2)
"""How often the expert shows each."""


class Rps:
    """The rules: `trainer.tasks.board.Board`. A position is what has been chosen, by number."""

    name = "rps"
    positions: tuple[Position, ...] = ((), *((sign,) for sign in range(len(SIGNS))))
    starts: tuple[Position, ...] = ((),)
    openings = starts

    def moves(self, position: Position) -> dict[str, Position]:
        if len(position) == 2:
            return {}
        return {sign: (*position, number) for number, sign in enumerate(SIGNS)}

    def worth(self, position: Position) -> int:
        """To whoever chose first.

        >>> Rps().worth((1, 0)), Rps().worth((2, 2)), Rps().worth((2, 0))
        (1, 0, -1)
        """
        first, second = position
        return (0, 1, -1)[(first - second) % len(SIGNS)]

    def show(self, position: Position) -> str:  # noqa: ARG002  # that is the game
        return UNSEEN


class Unseen(Search):
    """A game in which nobody can know that he throws anything away: all moves are worth a draw."""

    def _value(self, position: Position) -> int:  # noqa: ARG002  # nothing is seen of it
        return 0


def expert(position: Position) -> Shares:  # noqa: ARG001  # he sees nothing either
    """The player that is imitated."""
    return dict(zip(SIGNS, LIKINGS, strict=True))
