"""The knobs of the human loop: who is asked what, when the live reward model may act, and what brakes it.

Declared beside the other knobs (`ponder.knobs` gathers them). The five shares say what a person is asked next, and are
weighed against each other; only `share_random` and `share_audit` feed statistics. Deliberately left out: what the live
reward model's score weighs in a reward (`reward.preference`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ponder.errors import KnobError
from ponder.knob import FIXED, LIVE, Knob

PREFERENCE = "preference"
"""The reward part of the live reward model: its score in deviations above the mean of a fixed sample of answers."""
PREFERENCE_RAW = "preference_raw"
"""The mean of the ensemble's scores as they are."""
PREFERENCE_SPREAD = "preference_spread"
"""The deviation of the ensemble's scores, on the scale of `preference`."""
PREFERENCE_BEFORE = "preference_before"
"""Of an audit: what the same version says, raw, of the answer to the same prompt `rlhf.lag` steps before."""
PARTS = (PREFERENCE, PREFERENCE_RAW, PREFERENCE_SPREAD, PREFERENCE_BEFORE)
"""What a live reward model adds to the parts of an answer; `preference` alone can weigh."""
GOLD = "gold"
"""The part by which a recipe may measure what a synthetic annotator likes; the gauge draws it beside the scores."""

HELD_OUT = "held_out"
"""The figure of a version that says how often it is right on prompts that it did not learn from."""
DEEP_HELD_OUT, HEADS_HELD_OUT = "deep_held_out", "heads_held_out"
"""The same of the deep reward model and of the heads, where there are both; `held_out` is that of the one that acts."""
DEEP_ACTS, HEADS_OPEN = "deep", "heads_open"
"""1 where the version acts by the deep reward model; where the heads' gate is open."""
DEEP_BETTER, DEEP_WORSE = "deep_better", "deep_worse"
"""Held-out rankings about which the deep reward model is right more often than the heads, and less often."""
DEEP_SECONDS = "deep_seconds"
"""What its learning took, of a processor."""


class BrakeAction(StrEnum):
    """What is done when the reward model's promises no longer come true."""

    OFF = "off"
    """Nothing is watched."""
    WARN = "warn"
    """It is said."""
    HOLD = "hold"
    """`reward.preference` is set to 0; without it the run pauses, where it is the only reward."""
    PAUSE = "pause"


class Deep(StrEnum):
    """Whether more than heads on frozen features learns from rankings."""

    OFF = "off"
    """Heads alone."""
    LORA = "lora"
    """An adapter beside the start model's weights."""
    FULL = "full"
    """All weights of a copy of the start model."""


class Rlhf(Struct, frozen=True, forbid_unknown_fields=True):
    """How people's rankings become a reward while the policy learns."""

    live: Annotated[
        bool,
        Meta(description="People rank answers of the running policy, and a reward model learns from them"),
        Knob("", FIXED),
    ] = False
    answers: Annotated[
        int,
        Meta(ge=2, le=9, description="Answers of one ranking, as many as its prompt has"),
        Knob("answers", LIVE, "InstructGPT arXiv:2203.02155 4 to 9"),
    ] = 4
    audits: Annotated[
        int,
        Meta(ge=0, le=64, description="Answers a step to prompts that come again `rlhf.lag` steps later; never learnt"),
        Knob("answers"),
    ] = 4
    lag: Annotated[
        int,
        Meta(ge=1, le=1000, description="An audit compares the policy with what it was so many steps before"),
        Knob("steps"),
    ] = 20
    share_random: Annotated[
        float, Meta(ge=0.0, le=1.0, description="Share of what is asked: any new group"), Knob("share")
    ] = 0.5
    share_audit: Annotated[
        float,
        Meta(ge=0.0, le=1.0, description="Share of what is asked: an answer against that of `rlhf.lag` steps before"),
        Knob("share"),
    ] = 0.25
    share_informative: Annotated[
        float,
        Meta(ge=0.0, le=1.0, description="Share of what is asked: groups on which the ensemble disagrees most"),
        Knob("share"),
    ] = 0.15
    share_hunt: Annotated[
        float,
        Meta(ge=0.0, le=1.0, description="Share of what is asked: where the reward model may be fooled"),
        Knob("share"),
    ] = 0.05
    share_check: Annotated[
        float,
        Meta(ge=0.0, le=1.0, description="Share of what is asked: what was ranked before, and gold"),
        Knob("share"),
    ] = 0.05
    overlap: Annotated[
        float,
        Meta(ge=0.0, le=1.0, description="Share of the groups that several annotators rank, each on their own"),
        Knob("share"),
    ] = 0.0
    min_rankings: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="With fewer rankings the reward model is measured and does not act"),
        Knob("rankings"),
    ] = 100
    max_rankings: Annotated[
        int,
        Meta(ge=0, le=1_000_000, description="The reward model learns from the first so many and no more; 0: from all"),
        Knob("rankings", LIVE, "a static reward model: Gao et al. arXiv:2210.10760"),
    ] = 0
    gate: Annotated[
        float,
        Meta(
            ge=0.0,
            le=1.0,
            description="The reward model acts once the interval of its accuracy is above this, until it is below",
        ),
        Knob("share"),
    ] = 0.55
    ramp_steps: Annotated[
        int,
        Meta(ge=0, le=1_000_000, description="Steps over which `reward.preference` comes into force"),
        Knob("steps"),
    ] = 20
    half_life: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="A ranking so many steps old weighs half; none weighs less than a tenth"),
        Knob("steps"),
    ] = 200
    penalty: Annotated[
        float,
        Meta(ge=0.0, le=10.0, description="Times the ensemble's spread, taken from an answer's score"),
        Knob("", LIVE, "Coste et al. arXiv:2310.02743"),
    ] = 0.0
    heads: Annotated[
        int,
        Meta(ge=1, le=64, description="Heads of the ensemble, each with its own weights on the rankings"),
        Knob("heads", FIXED),
    ] = 8
    dimensions: Annotated[
        int,
        Meta(ge=1, le=1024, description="Principal components of the features that a head reads"),
        Knob("", FIXED),
    ] = 64
    deep: Annotated[
        Deep,
        Meta(
            description="What learns more slowly behind the heads, and acts where it is better: `off`, `lora`, `full`"
        ),
        Knob("", FIXED),
    ] = Deep.OFF
    deep_every: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="Rankings after which the deep reward model learns anew"),
        Knob("rankings"),
    ] = 100
    deep_epochs: Annotated[
        int,
        Meta(ge=1, le=1000, description="Times that it sees each ranking"),
        Knob("epochs"),
    ] = 3
    deep_lr: Annotated[
        float,
        Meta(ge=0.0, le=1.0, description="Its learning rate, which falls to 0"),
        Knob("", LIVE, "Hu et al. arXiv:2106.09685 1e-4 for adapters", scale="log"),
    ] = 1e-4
    brake: Annotated[
        BrakeAction,
        Meta(description="When promises no longer come true: `off`, `warn`, `hold` the weight at 0, or `pause`"),
        Knob(),
    ] = BrakeAction.WARN

    @property
    def shares(self) -> dict[str, float]:
        """What is asked next, by its stream: weights against each other."""
        return {
            "random": self.share_random, "audit": self.share_audit, "informative": self.share_informative,
            "hunt": self.share_hunt, "check": self.share_check,
        }  # fmt: skip


def rlhf_of(values: Mapping[str, bool | int | float | str]) -> Rlhf:
    """The group of all of a run's knobs by name; what a run of an older version does not have has its default.

    >>> rlhf_of({"rlhf.lag": 5, "optim.lr": 0.1}).lag
    5
    """
    own = {name: values[f"rlhf.{name}"] for name in Rlhf.__struct_fields__ if f"rlhf.{name}" in values}
    return msgspec.convert(own, Rlhf)


def check_rlhf(knobs: Rlhf) -> None:
    """KnobError when nothing could ever be asked, or learnt."""
    if not any(knobs.shares.values()):
        raise KnobError("all shares of `rlhf` are 0: nothing could be asked", "set `rlhf.share_random` above 0 first")
    if 0 < knobs.max_rankings < knobs.min_rankings:
        message = "`rlhf.max_rankings` is below `rlhf.min_rankings`: the reward model could never act"
        raise KnobError(message, "set `rlhf.max_rankings` to 0, or above")
