"""Places in answers: drawn answers, what may come next at a place of one, and what going on from there comes to.

What is asked of a policy beside its learning stands on these: whether turning back is a cause (`trainer.causal`), what
it would have answered (`trainer.probe`), and what is to be expected (`trainer.values`). Deliberately left out: which
places are of interest, and every reward.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from msgspec import Struct

from ponder.events import Finish
from ponder.knobs import Knobs
from trainer.answers import Answer, read_answers
from trainer.policy import Policy
from trainer.sampler import Sampled, Sampler
from trainer.tasks import Problem, Task


class Difference(Struct, frozen=True):
    """A mean difference with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Place:
    """A place in an answer: what was asked, and what was written before it."""

    problem: Problem
    prompt_ids: list[int]
    before: list[int]

    @property
    def prefix(self) -> list[int]:
        return [*self.prompt_ids, *self.before]


def draw_answers(
    policy: Policy, sampler: Sampler, task: Task, knobs: Knobs, asked: Sequence[Problem], samples: int,
    generator: torch.Generator,
) -> list[Answer]:  # fmt: skip
    """So many answers to each problem, as in training, read and not scored."""
    limit = knobs.sampling.max_new_tokens
    prompts = [policy.prompt_ids(problem.prompt, problem.plain) for problem in asked]
    drawn = sampler.sample(
        prompts, group_size=samples, max_new_tokens=limit, temperature=knobs.sampling.temperature, generator=generator
    )
    return read_answers(policy, task, asked, prompts, drawn, max_new_tokens=limit, weights=knobs.reward)


@torch.inference_mode()
def next_chances(policy: Policy, places: Sequence[Place], temperature: float) -> torch.Tensor:
    """(places, V): the distribution of the token at each place."""
    return torch.stack([torch.softmax(next_logits(policy, place.prefix) / temperature, -1) for place in places])


@torch.inference_mode()
def next_logits(policy: Policy, ids: Sequence[int]) -> torch.Tensor:
    """(V,): the logits of the token after these."""
    logits_V: torch.Tensor = policy.model(input_ids=torch.tensor([list(ids)], device=policy.device)).logits[0, -1]
    return logits_V.float()


def continue_from(
    policy: Policy, sampler: Sampler, task: Task, knobs: Knobs, places: Sequence[Place],
    starts: Sequence[Sequence[int]], generator: torch.Generator,
) -> list[float]:  # fmt: skip
    """The share of right answers of each place, continued once from each of its next tokens."""
    limit, temperature = knobs.sampling.max_new_tokens, knobs.sampling.temperature
    rows = [(place, [*place.before, token]) for place, tokens in zip(places, starts, strict=True) for token in tokens]
    going = [number for number, (_, ids) in enumerate(rows) if ids[-1] not in policy.end_ids and len(ids) < limit]
    room = max((limit - len(rows[number][1]) for number in going), default=0)
    written = [ids for _, ids in rows]
    if going:
        prompts = [[*rows[number][0].prompt_ids, *rows[number][1]] for number in going]
        drawn = sampler.sample(prompts, group_size=1, max_new_tokens=room, temperature=temperature, generator=generator)
        for number, rest in zip(going, drawn, strict=True):
            written[number] = [*written[number], *rest.ids][:limit]
    whole = [
        Sampled(
            ids, [0.0] * len(ids), [0.0] * len(ids),
            Finish.END if ids[-1] in policy.end_ids else Finish.TRUNCATED,
        )
        for ids in written
    ]  # fmt: skip
    read = read_answers(
        policy, task, [place.problem for place, _ in rows], [place.prompt_ids for place, _ in rows], whole,
        max_new_tokens=limit, weights=knobs.reward,
    )  # fmt: skip
    each = len(rows) // len(places)
    return [
        statistics.fmean(answer.is_correct for answer in read[start : start + each])
        for start in range(0, len(read), each)
    ]
