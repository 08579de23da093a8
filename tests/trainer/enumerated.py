"""A policy of three tokens that can be enumerated: every answer of at most two tokens, with its probability.

Token 0 ends an answer; after two tokens it is cut. The parameters are nine logits in float64: three for the first
token, three for the second after a 1, three after a 2. Expectations are sums over all answers, so that what a loss
estimates can be compared with what is true.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ponder.events import Finish
from ponder.recipe import parse_recipe
from tests.trainer.conftest import RECIPE
from trainer.answers import Answer
from trainer.reflection import Reflections
from trainer.rewards import Scored
from trainer.sampler import Sampled
from trainer.tasks.countdown import pose

KNOBS = parse_recipe(RECIPE.format(model="none"), "tiny.toml").knobs
ALL = ((0,), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2))
REWARDS = {(0,): 0.2, (1, 0): 1.0, (1, 1): 0.0, (1, 2): -0.5, (2, 0): 0.3, (2, 1): 0.9, (2, 2): 0.1}
THETA = torch.tensor([[0.2, -0.3, 0.5], [0.1, 0.7, -0.4], [-0.6, 0.3, 0.2]], dtype=torch.float64)
START = torch.tensor([[-0.1, 0.4, 0.0], [0.5, -0.2, 0.3], [0.2, 0.1, -0.7]], dtype=torch.float64)


def logps(theta: Tensor, answer: Sequence[int]) -> Tensor:
    """Of each token of the answer, (T,)."""
    table = torch.log_softmax(theta, -1)
    states = [0, *answer[:-1]]
    return torch.stack([table[state, token] for state, token in zip(states, answer, strict=True)])


def expectation(theta: Tensor, value: Callable[[tuple[int, ...]], Tensor | float]) -> Tensor:
    return torch.stack([logps(theta, answer).sum().exp() * value(answer) for answer in ALL]).sum()


def divergence(theta: Tensor) -> Tensor:
    """KL(policy || start model) of whole answers."""
    return expectation(theta, lambda answer: (logps(theta, answer) - logps(START, answer)).sum())


def gradient(objective: Callable[[Tensor], Tensor], at: Tensor = THETA) -> Tensor:
    theta = at.clone().requires_grad_()
    torch.autograd.backward(objective(theta))
    assert theta.grad is not None
    return theta.grad


def numeric_gradient(objective: Callable[[Tensor], float], at: Tensor, step: float = 1e-6) -> Tensor:
    """By central differences: knows nothing of autograd."""
    result = torch.zeros_like(at)
    for place in range(at.numel()):
        up, down = at.clone(), at.clone()
        up.view(-1)[place] += step
        down.view(-1)[place] -= step
        result.view(-1)[place] = (objective(up) - objective(down)) / (2 * step)
    return result


def answer_of(ids: Sequence[int], *, theta: Tensor = THETA, group: int = 0, reward: float | None = None) -> Answer:
    """An answer as sampled under `theta`, with what the start model thinks of it."""
    finish = Finish.END if ids[-1] == 0 else Finish.TRUNCATED
    sampled = Sampled(list(ids), logps(theta, ids).tolist(), [0.0] * len(ids), finish)
    answer = Answer(
        problem=pose((1, 2, 3), 10), prompt_ids=[1], group=group, index=0, sampled=sampled, text="",
        scored=Scored(REWARDS[tuple(ids)] if reward is None else reward, {}, ""), candidates=[],
        reflections=Reflections([], False, False, False), true_steps=0, written_steps=0,
    )  # fmt: skip
    answer.reference_logps = logps(START, ids).tolist()
    return answer


def unscored(answer: Answer) -> Answer:
    return replace(answer, scored=Scored(None, {}, "broken"))
