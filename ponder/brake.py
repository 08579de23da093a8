"""The gauge of over-optimisation: what a reward model promised about fresh answers, against what people then said.

    audit      two answers to one prompt, of the policy now and of the policy `lag` steps ago
    promised   p, the probability by the reward model's scores that the newer one is better; at most `SUREST`
    seen       what a person said: 1 the newer one is better, 1/2 a tie, 0 the older one
    evidence   how much likelier that is where the promise is worth no more than a coin than where it is kept:

                   seen ln(1/2 / p) + (1 - seen) ln(1/2 / (1 - p)),   and 0 where nothing was promised (p <= 1/2)

    score      CUSUM (Page 1954):   score = max(0, score + evidence), audit by audit

At `LIMIT` the light is red, half-way amber; it leaves red only below half-way. Broken big promises are found soon,
and small ones, which a live reward model makes of a policy that is as good as it gets, hardly count. Where the score
last was 0 is where the promises began to fail (Hinkley 1970): the step to go back to. A second meter compares how often
the reward model is right on fresh answers of the policy with how often on held-out rankings; it makes a green light
amber and never red. A gauge is a pure fold over audits and a few numbers large, so that a daemon that was killed goes
on where it was. Deliberately left out: whom to ask, and what is done then (`rlhf.brake`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from ponder.ranking import BrakeState

LIMIT = 10.0
"""Nats. Kept promises come so far about once in e^10 starts from 0; a policy that cheats in ten to twenty steps."""
SUREST = 0.95
"""No promise is taken for surer: a score's tails are the last that is known of it."""
SHORTFALL = 0.12
"""The second meter speaks when fresh rankings agree with the scores by so much less than held-out ones."""
MOST = 1.5
"""The score stops at so many limits, so that it comes down when the promises come true again."""

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

    @property
    def evidence(self) -> float:
        """That the promise is worth nothing, in nats.

        >>> [round(Audit(1, 0.9, seen).evidence, 2) for seen in (0.0, 0.5, 1.0)]
        [1.61, 0.51, -0.59]
        >>> Audit(1, 0.4, 0.0).evidence
        0.0
        """
        p = min(self.promised, SUREST)
        if p <= 0.5:
            return 0.0
        return -(self.seen * math.log(2 * p) + (1 - self.seen) * math.log(2 * (1 - p)))


class Release(Struct, frozen=True):
    """A person says that it may go on: what was promised until then is forgiven."""


class Gauge(Struct, frozen=True):
    """All that is remembered of the audits so far."""

    step: int = 0
    """The newest step that was audited."""
    score: float = 0.0
    since_step: int = 0
    """The step of the newest audit at which the score was 0: from then on promises failed."""
    audits: int = 0
    is_red: bool = False
    alarm_step: int = 0
    """Where the light last became red; 0 when it never did."""
    rollback_step: int = 0
    """The step to go back to after that alarm."""

    def light(self, held_out: float | None = None, fresh: float | None = None) -> BrakeState:
        """What the gauge says; the second meter needs the accuracies on held-out and on fresh random rankings.

        Audits are no fresh rankings: two answers of policies that are alike are harder to tell apart.
        """
        if self.is_red:
            return BrakeState.RED
        falls_short = held_out is not None and fresh is not None and fresh < held_out - SHORTFALL
        return BrakeState.AMBER if falls_short or self.score >= LIMIT / 2 else BrakeState.GREEN


def judge(gauge: Gauge, audit: Audit) -> Gauge:
    """The gauge after one more audit; one of an older step, ranked late, counts to the newest step."""
    step = max(gauge.step, audit.step)
    score = min(max(0.0, gauge.score + audit.evidence), MOST * LIMIT)
    before = gauge.since_step if gauge.audits else audit.step - 1
    since_step = before if score else step
    after = replace(gauge, step=step, score=score, since_step=since_step, audits=gauge.audits + 1)
    if score >= LIMIT and not gauge.is_red:
        return replace(after, is_red=True, alarm_step=step, rollback_step=since_step)
    return replace(after, is_red=gauge.is_red and score >= LIMIT / 2)


def release(gauge: Gauge) -> Gauge:
    """The score begins anew, and what was learnt of the audits stays."""
    return replace(gauge, score=0.0, since_step=gauge.step, is_red=False)


def gauges(happened: Iterable[Audit | Release]) -> Iterator[Gauge]:
    """The gauge after each, in the order in which people ranked and let go."""
    gauge = Gauge()
    for event in happened:
        gauge = release(gauge) if isinstance(event, Release) else judge(gauge, event)
        yield gauge
