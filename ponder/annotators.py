"""A synthetic annotator: ranks answers by a gold preference, as unsurely and as carelessly as a person.

    lapse           so often the order is a dice's
    position        how often the first shown of two wins where the place alone decides; 1/2: it never does
    temperature     else the order is drawn: P(first) ~ exp(worth / temperature), and so on for the rest
                    (Plackett 1975, Luce 1959); 0 is the gold order itself
    tie band        answers whose drawn worth is so close to the best of their tier are tied
    flip            so often the whole order comes out upside down, so that each pair is wrong that often
    floor           where no answer is worth more, all are bad

Two annotators with one seed say the same of the same answers. A constant added to the gold changes nothing but `floor`.
Deliberately left out: what is liked (`ponder.gold`), and how one is asked (`ponder rlhf annotate`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from ponder.gold import Gold
from ponder.ranking import Verdict

SPREAD_OF_SECONDS = 0.4
"""Of the logarithm of how long a ranking takes."""


@dataclass(frozen=True)
class Opinion:
    """What an annotator says of some answers."""

    verdict: Verdict
    ranks: list[int | None]
    """One an answer, in the order shown; empty where all are bad."""
    seconds: float


@dataclass
class SyntheticAnnotator:
    """One annotator; shares are probabilities."""

    gold: Gold
    temperature: float = 0.0
    flip: float = 0.0
    tie_band: float = 0.0
    position_bias: float = 0.5
    lapse: float = 0.0
    seconds: float = 10.0
    """The median of a ranking."""
    floor: float | None = None
    seed: int = 0
    _random: Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = Random(f"annotator {self.seed}")

    def judge(self, answers: Sequence[str]) -> Opinion:
        """What it says of answers in the order in which they are shown."""
        seconds = self.seconds * math.exp(SPREAD_OF_SECONDS * self._random.gauss(0.0, 1.0))
        worths = [self.gold(text) for text in answers]
        if self.floor is not None and max(worths) <= self.floor:
            return Opinion(Verdict.ALL_BAD, [], seconds)
        tiers = self._tiers(worths)
        if self._random.random() < self.flip:
            tiers.reverse()
        ranks: list[int | None] = [None] * len(answers)
        for rank, tier in enumerate(tiers, 1):
            for place in tier:
                ranks[place] = rank
        return Opinion(Verdict.RANKED, ranks, seconds)

    def _tiers(self, worths: Sequence[float]) -> list[list[int]]:
        """Places, the best tier first."""
        chance, places = self._random.random(), list(range(len(worths)))
        drawn = [worth + self.temperature * self._gumbel() for worth in worths]
        if chance < self.lapse:
            self._random.shuffle(places)
            return [[place] for place in places]
        if self._random.random() < abs(2 * self.position_bias - 1):
            return [[place] for place in (places if self.position_bias > 0.5 else reversed(places))]
        tiers: list[list[int]] = []
        for place in sorted(places, key=lambda place: -drawn[place]):
            if tiers and drawn[tiers[-1][0]] - drawn[place] <= self.tie_band:
                tiers[-1].append(place)
            else:
                tiers.append([place])
        return tiers

    def _gumbel(self) -> float:
        """A draw whose greatest among several, each added to a worth, is that of a softmax; Gumbel 1954."""
        return -math.log(self._random.expovariate(1.0) or 1.0)
