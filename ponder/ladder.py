"""A ladder: how strong the players of a game are, as `ponder ladder` tells it, and whether they go round in circles.

    lost      a newer policy gets less than an even share against an older one
    circle    of three policies each gets more than an even share against the next

Deliberately left out: playing, which needs torch (`trainer.ladder`).
"""

from __future__ import annotations

from itertools import combinations
from statistics import fmean

from msgspec import Struct, field

EVEN, SLACK = 0.5, 0.01
"""Shares that are nearer to an even one are nobody's."""


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
    perfect: float | None
    """Of the positions in which something can be thrown away, how probable it is that it does not: their mean. None
    where there is no such position."""
    begins: dict[str, float] = field(default_factory=dict)
    """Of a game with one beginning, how probable each first move is."""


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
    """What is to be expected in the mean of all beginnings, by the players' own chances, a draw as half."""


class Past(Struct, frozen=True):
    """A policy against who it was: whether it went on, or round in circles.

    >>> past = Past([[], [0.7], [0.3, 0.7]])
    >>> past.whole, past.lost, past.pairs, past.circles
    ([0.7, 0.5], [0.3], 3, 1.0)
    """

    shares: list[list[float]]
    """What each gets against each older one: exactly, a draw as half."""

    @property
    def whole(self) -> list[float]:
        """What each but the first gets against all older ones, in the mean."""
        return [fmean(row) for row in self.shares if row]

    @property
    def lost(self) -> list[float]:
        """What the newer one got in each pair that it lost."""
        return [share for row in self.shares for share in row if share < EVEN - SLACK]

    @property
    def pairs(self) -> int:
        return sum(map(len, self.shares))

    @property
    def circles(self) -> float:
        """Share of all threes that go round in a circle."""
        threes = list(combinations(range(len(self.shares)), 3))
        return sum(map(self._is_circle, threes)) / len(threes) if threes else 0.0

    def _is_circle(self, three: tuple[int, int, int]) -> bool:
        oldest, middle, newest = three
        around = (self.shares[middle][oldest], self.shares[newest][middle], 1 - self.shares[newest][oldest])
        return min(around) > EVEN + SLACK or max(around) < EVEN - SLACK


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
    past: Past = Past([])
    """Of the learning ones, in the order of their steps."""

    @property
    def curve(self) -> list[Rung]:
        """The learning ones in the order of their steps."""
        return sorted((rung for rung in self.rungs if rung.step is not None), key=lambda rung: rung.step or 0)
