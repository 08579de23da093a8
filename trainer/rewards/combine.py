"""The parts of a group's rewards into one number each: weighed as they are, or each normalised in the group first.

    sum          sum of weight times part
    normalised   sum of weight times (part - its mean in the group) / its deviation there, where it has one

A source with the larger scale then wins no more by its scale alone: TRL's `normalize_then_sum`, GDPO. What a learnt
score may never do is held here, too. Deliberately left out: where parts come from (`trainer.rewards.judge`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ponder.advantages import SMALL, deviation
from ponder.choices import Combine
from ponder.rlhf import PREFERENCE
from trainer.rewards import Scored


def combine(group: Sequence[Scored], how: Combine) -> list[Scored]:
    """The group with rewards made anew of parts and weights; what could not be scored stays so."""
    scored = [one for one in group if one.reward is not None]
    values = {id(one): dict(one.parts) for one in scored}
    if how is Combine.NORMALISED:
        for name in {name for one in scored for name, weight in one.weights.items() if weight}:
            own = [one.parts[name] for one in scored if name in one.parts]
            mean, spread = sum(own) / len(own), deviation(own)
            for one in scored:
                if name in one.parts:
                    values[id(one)][name] = (one.parts[name] - mean) / (spread + SMALL)
    rewards = {
        id(one): sum(weight * values[id(one)].get(name, 0.0) for name, weight in one.weights.items()) for one in scored
    }
    return _capped([replace(one, reward=rewards.get(id(one))) for one in group])


def _capped(group: list[Scored]) -> list[Scored]:
    """Where a learnt score weighs beside a verifier, no wrong answer gets more than a right one."""
    if not any(one.weights.get(PREFERENCE) and one.weights.get("correct", 0.0) > 0.0 for one in group):
        return group
    right = [one.reward for one in group if one.is_correct is True and one.reward is not None]
    limit = min(right, default=None)
    return [
        replace(one, reward=limit)
        if limit is not None and one.is_correct is False and one.reward is not None and one.reward > limit
        else one
        for one in group
    ]
