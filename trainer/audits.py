"""The same questions again and again: what is asked so that the policy can be compared with what it was.

A fixed set of `rlhf.lag` times `rlhf.audits` problems, drawn by the seed from the task's training problems. At step u
the policy answers those of slot u mod lag, one answer each, drawn from a generator of their own: what is learnt does
not change by it. The same problems come again exactly `rlhf.lag` steps later, and an audit then compares answer(u) with
answer(u - lag), of which this keeps the features. Deliberately left out: who compares them (`daemon.rank_desk`), and
what follows (`ponder.brake`).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ponder.knobs import Knobs
from ponder.rlhf import Rlhf
from trainer.answers import Answer, read_answers
from trainer.policy import Policy
from trainer.rewards.judge import Judge
from trainer.sampler import Sampler
from trainer.tasks import Problem, Task
from trainer.world import world_of

SLOT_PROBLEMS = 64
"""Problems that a slot may have at the most, as `rlhf.audits` is bounded: each slot has its own."""
BEFORE = "before"


def audit_problems(task: Task, seed: int, step: int, knobs: Rlhf) -> list[Problem]:
    """The problems of the step's slot."""
    slot = step % knobs.lag
    of_audits = zlib.crc32(f"audits {seed}".encode())
    return [task.training_problem(of_audits, slot * SLOT_PROBLEMS + place) for place in range(knobs.audits)]


def ask_audits(
    policy: Policy, sampler: Sampler, task: Task, knobs: Knobs, *, seed: int, step: int, first_group: int, judge: Judge,
) -> list[Answer]:  # fmt: skip
    """The policy's answers to the step's slot, a group each, counted from `first_group`."""
    problems = audit_problems(task, seed, step, knobs.rlhf)
    if not problems:
        return []
    generator = torch.Generator(device=policy.device)
    generator.manual_seed(zlib.crc32(f"audit {seed} {step}".encode()))
    prompts = [policy.prompt_ids(problem.prompt, problem.plain) for problem in problems]
    sampled = sampler.sample(
        prompts, group_size=1, max_new_tokens=knobs.sampling.max_new_tokens, temperature=knobs.sampling.temperature,
        generator=generator, alternatives=knobs.stream.alternatives,
        world=world_of(task, policy, problems, 1, f"audit {seed} {step}"),
    )  # fmt: skip
    answers = read_answers(
        policy, task, problems, prompts, sampled, max_new_tokens=knobs.sampling.max_new_tokens, weights=knobs.reward,
        judge=judge,
    )  # fmt: skip
    for answer in answers:
        answer.group += first_group
    return answers


@dataclass
class Before:
    """The features of the newest answer to each audit problem, for the step that asks it again."""

    steps: dict[str, int] = field(default_factory=dict)
    """When each was asked, by slot and place."""
    features: dict[str, Tensor] = field(default_factory=dict)
    """(F,) float16, in the same order."""

    def look_up(self, step: int, lag: int, count: int) -> list[Tensor | None]:
        """The features of the answers of exactly `lag` steps before, in the order of the slot's problems."""
        keys = [_key(step, lag, place) for place in range(count)]
        return [self.features[key] if self.steps.get(key) == step - lag else None for key in keys]

    def remember(self, features_AF: Tensor, step: int, lag: int) -> None:
        """Keep these of the step's slot, and let go of what nobody asks for any more."""
        for place, features_F in enumerate(features_AF):
            key = _key(step, lag, place)
            self.steps[key], self.features[key] = step, features_F
        for key in [key for key, asked in self.steps.items() if asked <= step - lag]:
            del self.steps[key], self.features[key]

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint, in the order of `steps`."""
        return {BEFORE: torch.stack(list(self.features.values()))} if self.features else {}

    @classmethod
    def restored(cls, steps: Mapping[str, int], tensors: Mapping[str, Tensor]) -> Before:
        """As it was saved."""
        return cls(dict(steps), dict(zip(steps, tensors[BEFORE], strict=True)) if steps else {})


def _key(step: int, lag: int, place: int) -> str:
    return f"{step % lag} {place}"
