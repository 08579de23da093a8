"""A made-up labeller who judges the same answers in two ways: in order, or one by one on a scale.

    answers     points in 32 dimensions, 8 a prompt; a hidden direction says what they are worth, with deviation 1
    labeller    sees an answer's worth with Gumbel noise, anew each time that it is looked at, and slips now and then:
                both alike in the two ways of judging
    rankings    by `ponder.annotators`
    scores      one by one in a drawn order, with the faults of a scale (`Faults`)

Sources:

    slips           one judgement in ten is a dice's: Christiano et al., arXiv:1706.03741
    unsureness      two judgements of one pair agree in 73 to 77 of 100 cases, as InstructGPT's labellers do with each
                    other (arXiv:2203.02155); of one person with himself nothing was found
    drift           ratings rise from day to day: O'Connor and Cheema 2018
    anchoring       a score leans towards the one before it (essays: Zhao et al. 2017) or away from it (diving: Kramer
                    2017); here towards
    its whole size  people who rate the same films again are off by an RMSE of 0.557 to 0.816 stars of five: Amatriain
                    et al. 2009

No source gives drift, unit and anchoring as figures that would fit here, so that they are swept, and so are slips and
unsureness (`levels`, `others`). Deliberately left out: what is learnt from it (`bench.judging`), several labellers, and
a scale that creeps inside a sitting.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ponder.annotators import SyntheticAnnotator
from ponder.rlhf import Rlhf
from trainer.live_reward import make_basis

FEATURES, GROUP, PROMPTS = 32, 8, 512
"""`GROUP` answers a prompt."""
SAMPLE, FRESH = 512, 2000
UNSURE = 0.4
"""The temperature of the labeller's noise, in deviations of worth."""
SLIPS = 0.1
SITTING_S = 1800.0
SPAN = 4.5
"""So many deviations of worth does the scale hold from end to end."""
EULER = 0.5772156649015329
"""The mean of Gumbel's distribution."""

Ranking = tuple[int, list[int], list[int | None]]
"""A prompt, which of its answers, and the rank of each."""


@dataclass(frozen=True)
class Faults:
    """What is wrong with a labeller's scale, in deviations of worth."""

    drift: float = 0.5
    """Deviation of a sitting's zero point."""
    stretch: float = 0.2
    """Deviation of the logarithm of a sitting's unit."""
    anchor: float = 0.2
    """What share of a score is the one given before it."""
    points: int = 10
    """Scores are 1 to so many; 0: they are not rounded, and have no ends."""

    def times(self, level: float) -> Faults:
        """As many points, and the rest so many times as large."""
        return replace(self, drift=level * self.drift, stretch=level * self.stretch, anchor=level * self.anchor)


NO_FAULTS = Faults(0.0, 0.0, 0.0, 0)


@dataclass(frozen=True)
class Setting:
    """One way things may be."""

    name: str
    faults: Faults
    unsure: float = UNSURE
    slips: float = SLIPS
    ranking_noise: float = 1.0
    """How many times as unsure the labeller is where answers are ranked."""
    in_turn: bool = False
    """Whether all answers of a prompt are scored one after the other, instead of in a drawn order."""
    apart: float = 0.0
    """Deviation of what all answers of a prompt are worth; the scale is so much wider, and no feature tells it."""

    @property
    def of_rankings(self) -> tuple[float, float]:
        """What rankings depend on: temperature and slips."""
        return self.unsure * self.ranking_noise, self.slips


def levels(points: int) -> list[Setting]:
    """The whole scale's faults from none to three times."""
    full = Faults(points=points)
    return [
        Setting("a scale without faults", NO_FAULTS),
        *(Setting(f"all faults, times {level:g}", full.times(level)) for level in (0.5, 1.0, 1.5, 2.0, 3.0)),
    ]


def others(points: int) -> list[Setting]:
    """Each fault alone, and what else might decide, beside all faults."""
    full = Faults(points=points)
    return [
        Setting("rounding alone", replace(NO_FAULTS, points=points)),
        Setting("drift and unit alone", replace(NO_FAULTS, drift=full.drift, stretch=full.stretch)),
        Setting("anchoring alone", replace(NO_FAULTS, anchor=full.anchor)),
        Setting("all, 7 points", replace(full, points=7)),
        Setting("all, scored prompt by prompt", full, in_turn=True),
        Setting("all, prompts differ as answers do", full, apart=1.0),
        Setting("all, prompts differ twice as much", full, apart=2.0),
        Setting("all, no slips", full, slips=0.0),
        Setting("all, twice the slips", full, slips=2 * SLIPS),
        Setting("all, half as unsure", full, unsure=UNSURE / 2),
        Setting("all, twice as unsure", full, unsure=UNSURE * 2),
        Setting("all, twice as unsure in rankings", full, ranking_noise=2.0),
    ]


@dataclass(frozen=True)
class Seconds:
    """What one judgement takes."""

    score: float = 10.0
    rank: Mapping[int, float] = field(default_factory=dict)
    """By the number of answers; one that is not there takes as long as that many scores."""

    def of(self, size: int) -> float:
        return self.rank.get(size, size * self.score)


class World:
    """Answers, what they are worth, and fresh pairs. Legend: P prompts, K answers of one, F features, N pairs."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.seed = seed
        taste_F = torch.randn(FEATURES, generator=generator, dtype=torch.float64)
        taste_F = taste_F / taste_F.norm()
        points_PKF = torch.randn(PROMPTS, GROUP, FEATURES, generator=generator, dtype=torch.float64)
        self.worths = (points_PKF @ taste_F).tolist()
        self.prompts = torch.randn(PROMPTS, generator=generator, dtype=torch.float64).tolist()
        self.basis = make_basis(torch.randn(SAMPLE, FEATURES, generator=generator), Rlhf().dimensions)
        self.seen_PKF = self.basis.project(points_PKF)
        one_NF, other_NF = torch.randn(2, FRESH, FEATURES, generator=generator, dtype=torch.float64)
        self.better_by_N = (one_NF - other_NF) @ taste_F
        self.seen_apart_NF = self.basis.project(one_NF) - self.basis.project(other_NF)

    def accuracy(self, weight_F: Tensor) -> float:
        """Of fresh pairs, by the clean taste; 1/2 by weights that know nothing."""
        said_N = self.seen_apart_NF @ weight_F
        right_N = (said_N * self.better_by_N > 0).double() + 0.5 * (said_N == 0).double()
        return float(right_N.mean())


def rank(world: World, setting: Setting, size: int, prompts: int, again: int = 0) -> list[Ranking]:
    """All answers of the first prompts, `size` at a time."""
    noise, slips = setting.of_rankings
    annotator = SyntheticAnnotator(
        lambda text: world.worths[int(text[:-1])][int(text[-1])], noise, lapse=slips,
        seed=(world.seed * 10 + size) * 10 + again,
    )  # fmt: skip
    found: list[Ranking] = []
    for prompt in range(prompts):
        for first in range(0, GROUP, size):
            places = list(range(first, first + size))
            found.append((prompt, places, annotator.judge([f"{prompt}{place}" for place in places]).ranks))
    return found


@dataclass(frozen=True)
class Scores:
    """What was said of all answers of some prompts, in deviations of worth, and in which sitting."""

    score_PK: Tensor  # noqa: N815  # shapes ride in names
    sitting_PK: Tensor  # noqa: N815


def score(world: World, setting: Setting, prompts: int, seconds: Seconds, again: int = 0) -> Scores:
    """Every answer of the first prompts by itself.

    (1 - anchor) (zero + unit * felt) + anchor * the score before, rounded to the nearest point; a slip is any point.
    """
    draw, faults = random.Random(f"scores {world.seed} {again}"), setting.faults
    order = [(prompt, place) for prompt in range(prompts) for place in range(GROUP)]
    if not setting.in_turn:
        draw.shuffle(order)
    score_PK, sitting_PK = torch.zeros(2, prompts, GROUP, dtype=torch.float64)
    span = SPAN * math.hypot(1.0, setting.apart)
    before, sitting, zero, unit = 0.0, -1, 0.0, 1.0
    for number, (prompt, place) in enumerate(order):
        if int(number * seconds.score / SITTING_S) > sitting:
            sitting, before = sitting + 1, 0.0
            zero, unit = faults.drift * draw.gauss(0.0, 1.0), math.exp(faults.stretch * draw.gauss(0.0, 1.0))
        gumbel, is_slip, anywhere = (
            -math.log(draw.expovariate(1.0) or 1.0),
            draw.random() < setting.slips,
            draw.random(),
        )
        worth = world.worths[prompt][place] + setting.apart * world.prompts[prompt]
        felt = zero + unit * (worth + setting.unsure * (gumbel - EULER))
        said = (1.0 - faults.anchor) * felt + faults.anchor * before
        before = rounded((anywhere - 0.5) * span if is_slip else said, faults.points, span)
        score_PK[prompt, place], sitting_PK[prompt, place] = before, sitting
    return Scores(score_PK, sitting_PK)


def rounded(worth: float, points: int, span: float = SPAN) -> float:
    """The nearest of so many points, of which the ends are half a span from 0; 0 points: as it is.

    >>> rounded(0.3, 10), rounded(9.0, 10), rounded(0.3, 0)
    (0.25, 2.25, 0.3)
    """
    if not points:
        return worth
    apart = span / (points - 1)
    return max(0, min(points - 1, round(worth / apart + (points - 1) / 2))) * apart - span / 2
