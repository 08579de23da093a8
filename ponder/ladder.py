"""A ladder: how strong the players of a game are, as `ponder ladder` tells it.

Deliberately left out: playing, which needs torch (`trainer.ladder`).
"""

from __future__ import annotations

from msgspec import Struct


class Rung(Struct, frozen=True):
    """One player."""

    name: str
    step: int | None
    """After which the policy played so; None of a player that does not learn."""
    elo: float
    """Above the expert's, who has 0; 200 more win three games of four."""
    low: float
    """The 95 % interval, from games drawn again with replacement."""
    high: float
    won: float
    """Share of its games, a draw as half."""
    games: int
    against_expert: float
    """What it gets against the expert, exactly, a draw as half: the mean over all beginnings, and over who begins."""
    predicts: float
    """Of the moves in games of the expert with himself, those that it holds most probable."""
    perfect: float
    """Of the positions in which something can be thrown away, how probable it is that it does not: their mean."""


class Against(Struct, frozen=True):
    """One player against another: so many games, and what is to be expected."""

    one: str
    other: str
    won: int
    drawn: int
    games: int
    low: float
    """The 95 % Wilson interval of the share that is won."""
    high: float
    exact: float
    """The share that is won in the mean of all beginnings, by the players' own chances."""


class Ladder(Struct, frozen=True):
    """A run's policies, its first one, and players that do not learn."""

    run: str
    game: str
    rungs: list[Rung]
    """The strongest first."""
    against_first: Against
    """The newest policy against the one that it began with: 2016's figure is 80 %."""
    against_past: list[Against]
    """The newest against snapshots some steps older, the nearest first."""

    @property
    def curve(self) -> list[Rung]:
        """The learning ones in the order of their steps."""
        return sorted((rung for rung in self.rungs if rung.step is not None), key=lambda rung: rung.step or 0)
