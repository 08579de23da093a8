"""The knobs of self-play: who sits opposite the policy in a game while it learns.

Declared beside the other knobs (`ponder.knobs` gathers them). Deliberately left out: which games there are
(`ponder.tasks`), and playing (`trainer.selfplay`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from ponder.knob import Knob


class Opponent(StrEnum):
    """Who sits opposite."""

    SELF = "self"
    """The policy: as it is, and as it was."""
    EXPERT = "expert"
    """The game's own mediocre player, whom `sft` imitates."""
    RANDOM = "random"
    """Any legal move."""
    PERFECT = "perfect"
    """Never errs: found by search."""


class Selfplay(Struct, frozen=True, forbid_unknown_fields=True):
    """Who sits opposite the policy while it learns a game."""

    opponent: Annotated[
        Opponent,
        Meta(description="Who plays against the policy: it `self`, `expert`, `random` or `perfect`"),
        Knob(source="AlphaGo 2016 and AlphaGo Zero self"),
    ] = Opponent.EXPERT
    pool: Annotated[
        int,
        Meta(ge=1, le=256, description="Older snapshots of the policy that are kept, spread over its past; the ladder "
             "has them, too"),
        Knob("snapshots", source="AlphaGo 2016: a pool; AlphaGo Zero: the best so far"),
    ] = 12  # fmt: skip
    every_steps: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="Steps between two snapshots that join the pool"),
        Knob("steps", source="AlphaGo 2016 500 iterations"),
    ] = 10
    present_share: Annotated[
        float,
        Meta(ge=0.0, le=1.0, description="Share of the games against the policy as it is now; the others against the "
             "pool, each of its snapshots alike. 1 leaves it alone with what it is now"),
        Knob(source="OpenAI Five arXiv:1912.06680 0.8"),
    ] = 0.5  # fmt: skip
