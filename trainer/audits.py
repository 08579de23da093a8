"""The same questions again and again: what is asked so that the policy can be compared with what it was.

A fixed set of `rlhf.lag` times `rlhf.audits` problems, drawn by the seed from the task's training problems. At step u
the policy answers those of slot u mod lag, one answer each, drawn from a generator of their own: what is learnt does
not change by it. The same problems come again exactly `rlhf.lag` steps later, and an audit then compares answer(u) with
answer(u - lag), of which this keeps the features. Deliberately left out: who compares them (`daemon.rank_desk`), and
what follows (`ponder.brake`).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
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
FEATURES, TOKENS, LENGTHS = "before", "before_tokens", "before_lengths"
BEFORE = (FEATURES, TOKENS, LENGTHS)
"""What a checkpoint holds of them: features (A, F); where a deep reward model may ask, tokens on one flat axis, and how
many of them are prompt and answer (A, 2)."""


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
    """The newest answer to each audit problem, for the step that asks it again."""

    steps: dict[str, int] = field(default_factory=dict)
    """When each was asked, by slot and place."""
    features: dict[str, Tensor] = field(default_factory=dict)
    """(F,) float16, in the same order."""
    texts: dict[str, tuple[list[int], list[int]]] = field(default_factory=dict)
    """Prompt and answer in token ids, in the same order, where a deep reward model may ask for them."""

    def look_up(self, step: int, lag: int, count: int) -> list[Tensor | None]:
        """The features of the answers of exactly `lag` steps before, in the order of the slot's problems."""
        keys = [_key(step, lag, place) for place in range(count)]
        return [self.features[key] if self.steps.get(key) == step - lag else None for key in keys]

    def look_up_texts(self, step: int, lag: int, count: int) -> list[tuple[list[int], list[int]] | None]:
        """The same answers in token ids, where they are known."""
        keys = [_key(step, lag, place) for place in range(count)]
        return [self.texts.get(key) if self.steps.get(key) == step - lag else None for key in keys]

    def remember(
        self, features_AF: Tensor, step: int, lag: int, texts: Sequence[tuple[list[int], list[int]]] = ()
    ) -> None:
        """Keep these of the step's slot, and let go of what nobody asks for any more."""
        for place, features_F in enumerate(features_AF):
            key = _key(step, lag, place)
            self.steps[key], self.features[key] = step, features_F
            if texts:
                self.texts[key] = texts[place]
        for key in [key for key, asked in self.steps.items() if asked <= step - lag]:
            del self.steps[key], self.features[key]
            self.texts.pop(key, None)

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint, in the order of `steps`."""
        if not self.features:
            return {}
        kept = {FEATURES: torch.stack(list(self.features.values()))}
        texts = [self.texts.get(key, ([], [])) for key in self.steps]
        if self.texts:
            kept[TOKENS] = torch.tensor(
                [token for prompt, ids in texts for token in (*prompt, *ids)], dtype=torch.int32
            )
            kept[LENGTHS] = torch.tensor([[len(prompt), len(ids)] for prompt, ids in texts], dtype=torch.int32)
        return kept

    @classmethod
    def restored(cls, steps: Mapping[str, int], tensors: Mapping[str, Tensor]) -> Before:
        """As it was saved."""
        features = dict(zip(steps, tensors[FEATURES], strict=True)) if steps else {}
        texts: dict[str, tuple[list[int], list[int]]] = {}
        if TOKENS in tensors:
            lengths = tensors[LENGTHS]
            parts = iter(torch.split(tensors[TOKENS], lengths.flatten().tolist()))
            pairs = [(next(parts).tolist(), next(parts).tolist()) for _ in lengths]
            texts = {key: pair for key, pair in zip(steps, pairs, strict=True) if pair[0]}
        return cls(dict(steps), features, texts)


def _key(step: int, lag: int, place: int) -> str:
    return f"{step % lag} {place}"
