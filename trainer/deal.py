"""A control experiment: the step's rewards dealt out at random among its answers (`reward.shuffled`).

Each answer keeps its parts and its verdict, which stay true; its reward is that of some answer of the step. Nothing can
be learnt from that, and the size and the spread of the updates stay what they were: what still grows under it did not
grow because it paid. Deliberately left out: how rewards come about (`trainer.rewards`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from trainer.answers import Answer


def deal_rewards(answers: Sequence[Answer], *, seed: int, step: int) -> None:
    """Permute the rewards of those that have one: the same for the same seed, step and groups."""
    scored = [answer for answer in answers if answer.scored.reward is not None]
    rewards = [answer.scored.reward for answer in scored]
    random.Random(f"deal {seed} {step} {answers[0].group}").shuffle(rewards)
    for answer, reward in zip(scored, rewards, strict=True):
        answer.scored = replace(answer.scored, reward=reward)
