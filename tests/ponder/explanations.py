"""A group whose way through the formula was worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping

from ponder.events import AnswerLearnt, Finish, GroupLearnt
from ponder.knobs import Knobs, KnobValue, flatten
from ponder.wire import ExplainedAnswer, Explanation, GroupRow

REWARDS = (1.1, 0.1, 0.0, None)
MEAN = 0.4
STD = 0.496655480858378
"""The population's deviation of 1.1, 0.1 and 0, by hand."""
WEIGHT = 1 / 400


def answer(index: int, reward: float | None, advantage: float) -> ExplainedAnswer:
    parts = {} if reward is None else {"correct": float(reward > 1), "format": 1.0 if reward else 0.0}
    return ExplainedAnswer(index, 10 * (index + 1), Finish.END, reward, parts, advantage, -2.5)


def explanation(knobs: Mapping[str, KnobValue] | None = None, prompt: str = "48 3 2 -> 102") -> Explanation:
    """Three scored answers, one update on policy from a batch of 400 tokens."""
    advantages = [0.0 if reward is None else (reward - MEAN) / (STD + 1e-6) for reward in REWARDS]
    answers = [
        answer(index, reward, advantage)
        for index, (reward, advantage) in enumerate(zip(REWARDS, advantages, strict=True))
    ]
    learnt = [
        AnswerLearnt(one.index, WEIGHT, 1.0, 1.0, 1.0, 0.0, -WEIGHT * one.length_tokens * one.advantage)
        for one in answers[:3]
    ]
    return Explanation(
        run="countdown-zero-3",
        row=GroupRow(9, 40, 2, "p", prompt, list(REWARDS), MEAN, STD, 0),
        policy_version=39,
        answers=answers,
        batch_rewards=[1.1, 0.1, 0.0, 1.1, 1.1],
        learnt=GroupLearnt(40, 2, 1, 0.5, learnt),
        figures={"loss/policy": 0.01, "optim/grad_norm": 0.7, "optim/lr": 3e-4, "mismatch/abs_logp": 1.5e-6},
        version_after=40,
        knobs={**flatten(Knobs()), **(knobs or {})},
        weights={"correct": 1.0, "format": 0.1, "length": 0.0},
    )
