"""The gauge of over-optimisation: what a reward model promised about fresh answers, against what people then said.

    audit      two answers to one prompt, of the policy now and of the policy `lag` steps ago
    promised   the probability by the reward model's scores that the newer one is better
    seen       what a person said: 1 the newer one is better, 1/2 a tie, 0 the older one
    gap        the mean of promised - seen over the audits of one step
    score      CUSUM (Page 1954):   score = max(0, score + gap - DRIFT), step by step
    limit      1.2 / sqrt(m) + 0.6, where m is how many audits are asked for a step

At `limit` the light is red, half-way it is amber; it leaves red only below half-way. Honest promises are an alarm about
once in 800 steps of four audits. A second meter compares how often the reward model is right on fresh answers of the
policy with how often on held-out rankings; it makes a green light amber and never red: it would cry wolf in one run of
eight. A gauge is a pure fold over audits and a few numbers large, so that a daemon that was killed goes on where it
was. Deliberately left out: whom to ask, and what is done then (`rlhf.brake`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from ponder.ranking import BrakeState

DRIFT = 0.12
"""A gap that is borne for ever: scores promise a little too much even where nothing is wrong."""
SHORTFALL = 0.12
"""The second meter speaks when fresh rankings agree with the scores by so much less than held-out ones."""
ROLLBACK_STEPS = 10
"""So long before the alarm the policy was still good."""
MOST = 1.5
"""The score stops at so many limits, so that it comes down in a known time when the promises come true again."""

TEMPERATURE = "temperature"
"""The figure of a reward model's version by which its differences of scores are divided before they are promises."""

MESSAGE = "the reward model's promises no longer come true"


class Audit(Struct, frozen=True):
    """One comparison of the policy with its own past."""

    step: int
    promised: float
    """That the newer answer is better: a probability."""
    seen: float
    """1, 1/2 or 0."""


class Release(Struct, frozen=True):
    """A person says that it may go on: what was promised until then is forgiven."""


class Gauge(Struct, frozen=True):
    """All that is remembered of the audits so far."""

    audits_a_step: int = 4
    """So many are asked for; a step with fewer counts for less."""
    step: int = 0
    """The newest step that was audited."""
    before: float = 0.0
    """The score without that step's audits."""
    gaps: float = 0.0
    """The sum of that step's promised - seen."""
    count: int = 0
    """That step's audits."""
    audits: int = 0
    is_red: bool = False
    alarm_step: int = 0
    """Where the light last became red; 0 when it never did."""

    @property
    def score(self) -> float:
        """With the newest step as soon as it has all its audits: a part of them would say too much."""
        return self.closed if self.count >= self.audits_a_step else self.before

    @property
    def closed(self) -> float:
        """The score when nothing more is heard of the newest step."""
        gain = (self.gaps - self.count * DRIFT) / max(self.count, self.audits_a_step)
        return min(max(0.0, self.before + gain), MOST * self.limit)

    @property
    def limit(self) -> float:
        return limit(self.audits_a_step)

    @property
    def rollback_step(self) -> int:
        """The step to go back to after the alarm."""
        return max(0, self.alarm_step - ROLLBACK_STEPS)

    def light(self, held_out: float | None = None, fresh: float | None = None) -> BrakeState:
        """What the gauge says; the second meter needs the accuracies on held-out and on fresh random rankings.

        Audits are no fresh rankings: two answers of policies that are alike are harder to tell apart.
        """
        if self.is_red:
            return BrakeState.RED
        falls_short = held_out is not None and fresh is not None and fresh < held_out - SHORTFALL
        return BrakeState.AMBER if falls_short or self.score >= self.limit / 2 else BrakeState.GREEN


def limit(audits_a_step: int) -> float:
    """Where the score is an alarm; few audits a step are noisy ones, and may wander further.

    >>> limit(4)
    1.2
    """
    return 1.2 / math.sqrt(audits_a_step) + 0.6


def judge(gauge: Gauge, audit: Audit) -> Gauge:
    """The gauge after one more audit; one of an older step, ranked late, counts to the newest step."""
    if audit.step > gauge.step or gauge.audits == 0:
        gauge = replace(gauge, step=audit.step, before=gauge.closed, gaps=0.0, count=0)
    after = replace(
        gauge,
        gaps=gauge.gaps + audit.promised - audit.seen,
        count=gauge.count + 1,
        audits=gauge.audits + 1,
    )
    if after.score >= after.limit and not after.is_red:
        return replace(after, is_red=True, alarm_step=after.step)
    return replace(after, is_red=after.is_red and after.score >= after.limit / 2)


def release(gauge: Gauge) -> Gauge:
    """The score begins anew, and what was learnt of the audits stays."""
    return replace(gauge, before=0.0, gaps=0.0, count=0, is_red=False)


def gauges(happened: Iterable[Audit | Release], audits_a_step: int = 4) -> Iterator[Gauge]:
    """The gauge after each, in the order in which people ranked and let go."""
    gauge = Gauge(audits_a_step)
    for event in happened:
        gauge = release(gauge) if isinstance(event, Release) else judge(gauge, event)
        yield gauge
