"""The rules by which a run is watched, declared once: what each looks at, when it fires, what it then does.

    warn        an event, a mark on the curves; the run goes on
    pause       the same, a checkpoint, and the run holds until a person resumes or stops it
    rollback    the same, and weights, optimizer and reference become those of the last good checkpoint (saved while no
                rule was near firing), or of the start; steps, problems and random numbers go on, so that it is not the
                same again. After `rollbacks` of them the run pauses instead

All rules but `stall` judge figures that are the same in every re-run, so that a resumed run fires as it did before.
Deliberately left out: the judging (`trainer.watchdog`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from ponder import metrics
from ponder.knob import Knob


class Action(StrEnum):
    """What a rule does when it fires."""

    OFF = "off"
    WARN = "warn"
    PAUSE = "pause"
    ROLLBACK = "rollback"


class Alarm(StrEnum):
    """What a rule about the machine does: older weights would not make it quicker."""

    OFF = "off"
    WARN = "warn"
    PAUSE = "pause"


@dataclass(frozen=True)
class Rule:
    """One declared rule; its action is the knob `watchdog.NAME`."""

    name: str
    doc: str
    looks_at: tuple[str, ...]
    """The metrics that it judges; none means all."""
    source: str = ""


RULES: dict[str, Rule] = {}
"""Every rule by its name, in the order in which they are judged."""


def _rule(name: str, doc: str, *looks_at: str, source: str = "") -> str:
    RULES[name] = Rule(name, doc, looks_at, source)
    return name


NONFINITE = _rule(
    "nonfinite",
    "A metric that is not a finite number, at once; or no update for `patience` steps because no gradient was finite",
    source="DESIGN: no silent NaN",
)
COLLAPSE = _rule(
    "entropy_collapse",
    "Entropy below `entropy_low` times what it was in the first steps, `patience` steps in a row",
    metrics.ENTROPY,
    source="DAPO arXiv:2503.14476, section 3.1",
)
EXPLOSION = _rule(
    "entropy_explosion",
    "Entropy above `entropy_high` times what it was in the first steps, and half a nat above it, `patience` steps in a"
    " row",
    metrics.ENTROPY,
    source="verl issues 2738, 1051",
)
LENGTH = _rule(
    "length",
    "More than `clip_ratio` of the answers cut at the limit while the mean length is above `length_growth` times its"
    " moving average, `patience` steps in a row",
    metrics.TRUNCATED,
    metrics.LENGTH_MEAN,
    source="verl guide: above 0.1 too much is cut",
)
KL = _rule(
    "kl",
    "Divergence from the reference above `kl_budget`, `patience` steps in a row; silent while nothing asks for a"
    " reference (`kl.coef`, `kl.refresh_steps`)",
    metrics.KL_K3,
)
DEAD = _rule("dead_groups", "No group with spread for `dead_steps` steps: nothing teaches", metrics.GROUPS_MIXED)
STALL = _rule(
    "stall",
    "Tokens a second below `stall_share` of the median of the last 20 steps, `patience` steps in a row",
    metrics.TOKENS_PER_SECOND,
)


class Watchdog(Struct, frozen=True, forbid_unknown_fields=True):
    """When a run is in trouble, and what is done then."""

    nonfinite: Annotated[Action, Meta(description=RULES[NONFINITE].doc), Knob()] = Action.ROLLBACK
    entropy_collapse: Annotated[Action, Meta(description=RULES[COLLAPSE].doc), Knob()] = Action.WARN
    entropy_explosion: Annotated[Action, Meta(description=RULES[EXPLOSION].doc), Knob()] = Action.WARN
    length: Annotated[Action, Meta(description=RULES[LENGTH].doc), Knob()] = Action.WARN
    kl: Annotated[Action, Meta(description=RULES[KL].doc), Knob()] = Action.WARN
    dead_groups: Annotated[Action, Meta(description=RULES[DEAD].doc), Knob()] = Action.WARN
    stall: Annotated[Alarm, Meta(description=RULES[STALL].doc), Knob()] = Alarm.WARN
    patience: Annotated[
        int, Meta(ge=1, le=100_000, description="Steps in a row before a rule fires"), Knob("steps")
    ] = 5
    entropy_low: Annotated[
        float, Meta(ge=0.0, le=1.0, description="Share of the first entropy that is a collapse"), Knob()
    ] = 0.1
    entropy_high: Annotated[
        float, Meta(ge=1.0, le=1000.0, description="Multiple of the first entropy that is an explosion"), Knob()
    ] = 3.0
    clip_ratio: Annotated[
        float,
        Meta(ge=0.0, le=1.0, description="Share of answers cut at the limit that makes growing length a run-away"),
        Knob("share", source="verl guide 0.1"),
    ] = 0.1
    length_growth: Annotated[
        float, Meta(ge=1.0, le=100.0, description="Multiple of the moving average of length that is a run-away"), Knob()
    ] = 1.5
    kl_budget: Annotated[
        float,
        Meta(ge=0.0, le=1000.0, description="Largest mean divergence from the reference of a token"),
        Knob("nats"),
    ] = 1.0
    dead_steps: Annotated[
        int, Meta(ge=1, le=100_000, description="Steps without a group that teaches"), Knob("steps")
    ] = 10
    stall_share: Annotated[
        float, Meta(ge=0.0, le=1.0, description="Share of the usual tokens a second that is a stall"), Knob("share")
    ] = 0.2
    rollbacks: Annotated[
        int, Meta(ge=0, le=1000, description="So many times a run is rolled back; then it pauses"), Knob("times")
    ] = 3
