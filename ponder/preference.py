"""The knobs of the stages that learn from rankings: `reward_model` and `dpo`.

How much a step learns from, and how the learning rate goes, they share with the other supervised stages
(`ponder.supervised`). Deliberately left out: what a reward model's score weighs in a reward (`reward.model`).
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from ponder.choices import RankingLoss
from ponder.knob import LIVE, Knob


class Preference(Struct, frozen=True, forbid_unknown_fields=True):
    """How rankings are learnt."""

    loss: Annotated[
        RankingLoss,
        Meta(description="`reward_model`: the probability of the whole order, `plackett_luce`, or all its `pairs`"),
        Knob("", LIVE, "InstructGPT arXiv:2203.02155 pairs"),
    ] = RankingLoss.PLACKETT_LUCE
    centering: Annotated[
        float,
        Meta(ge=0.0, le=10.0, description="`reward_model`: weight of what holds a ranking's scores near zero"),
        Knob("", LIVE, "arXiv:2312.09244; TRL 0.01 where it is used"),
    ] = 0.01
    beta: Annotated[
        float,
        Meta(ge=0.0001, le=100.0, description="`dpo`: what a policy's log-ratio to its reference is worth as a reward"),
        Knob("", LIVE, "DPO arXiv:2305.18290 0.1"),
    ] = 0.1
    label_smoothing: Annotated[
        float,
        Meta(ge=0.0, le=0.499, description="`dpo`: how often a pair is taken to be labelled the wrong way round"),
        Knob("", LIVE, "cDPO, Mitchell 2023"),
    ] = 0.0
