"""The policy measured on problems that it never trains on: one sample each, at the training temperature.

Deliberately left out: pass@k and consensus, which need several samples each.
"""

from __future__ import annotations

import statistics
import zlib
from collections.abc import Callable

import torch

from ponder import metrics
from ponder.knobs import Knobs
from ponder.rlhf import PREFERENCE
from ponder.shares import wilson_interval
from trainer.answers import Answer, read_answers, reflection_figures, share
from trainer.policy import Policy
from trainer.rewards.judge import Judge
from trainer.sampler import Sampler
from trainer.tasks import Task

ROWS_AT_ONCE = 256
"""Problems sampled together: bounds the memory of a large evaluation."""


def evaluate(
    policy: Policy,
    sampler: Sampler,
    task: Task,
    knobs: Knobs,
    *,
    problems: int,
    seed: int,
    step: int,
    judge: Judge | None = None,
    judge_more: Callable[[list[Answer]], None] = lambda _: None,
) -> tuple[dict[str, float], list[Answer]]:
    """The figures and the answers to the first `problems` held-out problems.

    `judge_more` adds parts to answers. Draws from a generator of its own, made from seed and step, so that measuring
    never changes what is learnt.
    """
    generator = torch.Generator(device=policy.device)
    generator.manual_seed(zlib.crc32(f"evaluate {seed} {step}".encode()))
    asked = task.held_out(problems)
    answers: list[Answer] = []
    limit = knobs.sampling.max_new_tokens
    for start in range(0, len(asked), ROWS_AT_ONCE):
        part = asked[start : start + ROWS_AT_ONCE]
        prompts = [policy.prompt_ids(problem.prompt, problem.plain) for problem in part]
        sampled = sampler.sample(
            prompts, group_size=1, max_new_tokens=limit, temperature=knobs.sampling.temperature, generator=generator
        )
        answers += read_answers(
            policy, task, part, prompts, sampled, max_new_tokens=limit, weights=knobs.reward, judge=judge
        )
    judge_more(answers)
    return _figures(answers), answers


def _figures(answers: list[Answer]) -> dict[str, float]:
    judged = [answer for answer in answers if answer.scored.is_correct is not None]
    right = sum(answer.is_correct for answer in judged)
    reflection = reflection_figures(answers)
    figures = {
        metrics.EVAL_LENGTH: statistics.fmean(answer.length for answer in answers),
        metrics.EVAL_REFLECT: reflection[metrics.REFLECT],
        metrics.EVAL_RESCUED: reflection[metrics.RESCUED],
        metrics.EVAL_HARMED: reflection[metrics.HARMED],
        metrics.EVAL_SUPERFICIAL: reflection[metrics.SUPERFICIAL],
        metrics.EVAL_FIRST_TRY: reflection[metrics.FIRST_TRY],
        metrics.EVAL_TRUNCATED: share(answers, lambda answer: answer.is_truncated),
        metrics.EVAL_LANGUAGE: statistics.fmean(answer.scored.parts["language"] for answer in answers),
        metrics.EVAL_PROBLEMS: float(len(judged)),
    }
    if judged:
        low, high = wilson_interval(right, len(judged))
        accuracy = {metrics.EVAL_ACCURACY: right / len(judged), metrics.EVAL_LOW: low, metrics.EVAL_HIGH: high}
        figures = {**accuracy, **figures}
    for source in sorted({answer.problem.source for answer in judged} - {""}):
        own = [answer for answer in judged if answer.problem.source == source]
        figures[metrics.EVAL_SOURCE.replace("*", source)] = share(own, lambda answer: answer.is_correct)
    if learnt := [answer.scored.parts["model"] for answer in answers if "model" in answer.scored.parts]:
        figures[metrics.EVAL_MODEL] = statistics.fmean(learnt)
    if liked := [a.scored.parts[PREFERENCE] for a in answers if PREFERENCE in a.scored.parts]:
        figures[metrics.EVAL_PREFERENCE] = statistics.fmean(liked)
    if metrics.STEP_TRUTH in reflection:
        figures[metrics.EVAL_STEP_TRUTH] = reflection[metrics.STEP_TRUTH]
    return figures
