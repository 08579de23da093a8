"""The knobs of supervised stages: how much a step learns from, and how the learning rate goes.

Declared beside the other knobs (`ponder.knobs` gathers them). Deliberately left out: preferences, whose stages have
these and knobs of their own.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from ponder.knob import LIVE, Knob


class Schedule(StrEnum):
    """How the learning rate goes from the warm-up to the stage's last step."""

    LINEAR = "linear"
    """Down to 0 in a straight line."""
    COSINE = "cosine"
    """Down to 0 along half a cosine: arXiv:1608.03983, eq. 5."""
    CONSTANT = "constant"


class Supervised(Struct, frozen=True, forbid_unknown_fields=True):
    """How a stage learns from examples."""

    batch_tokens: Annotated[
        int,
        Meta(ge=1, le=100_000_000, description="A step takes examples until it has so many tokens, prompts included"),
        Knob("tokens", LIVE, "pilot"),
    ] = 4096
    schedule: Annotated[
        Schedule,
        Meta(description="The learning rate after the warm-up, over the stage: `linear`, `cosine` or `constant`"),
        Knob("", LIVE),
    ] = Schedule.LINEAR
