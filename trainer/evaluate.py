"""The policy measured, while it learns, on problems that it never trains on, at the training temperature.

One answer to each, or `evaluation.samples`, and then also what becomes of k answers: pass@k and cons@k. Deliberately
left out: checkpoints, thinking cut short or made longer (`trainer.measure`).
"""

from __future__ import annotations

import statistics
import zlib
from collections.abc import Callable, Sequence
from random import Random

import torch

from ponder import attempts, metrics
from ponder.attempts import Vote
from ponder.knobs import Knobs
from ponder.rlhf import PREFERENCE
from ponder.shares import wilson_interval
from trainer.answers import Answer, read_answers
from trainer.causal import cause_figures
from trainer.policy import Policy
from trainer.rewards.judge import Judge
from trainer.sampler import Sampler
from trainer.tasks import Problem, Task, WithExpert, told
from trainer.thoughts import vote_of
from trainer.turn_figures import share, turn_figures
from trainer.world import world_of

HELD_OUT = {
    metrics.STEP_TRUTH: metrics.EVAL_STEP_TRUTH,
    metrics.VERDICT_PRECISION: metrics.EVAL_VERDICT_PRECISION,
    metrics.VERDICT_RECALL: metrics.EVAL_VERDICT_RECALL,
}
"""Figures that not every batch of answers has, and what they are called of held-out problems."""
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
    with_cause: bool = False,
) -> tuple[dict[str, float], list[Answer]]:
    """The figures and the answers to the first `problems` held-out problems.

    `judge_more` adds parts to answers; `with_cause` asks what their turns cause, too. Draws from a generator of its
    own, made from seed and step, so that measuring never changes what is learnt.
    """
    generator = torch.Generator(device=policy.device)
    generator.manual_seed(zlib.crc32(f"evaluate {seed} {step}".encode()))
    asked, samples = task.held_out(problems), knobs.evaluation.samples
    answers: list[Answer] = []
    limit = knobs.sampling.max_new_tokens
    at_once = max(1, ROWS_AT_ONCE // samples)
    for start in range(0, len(asked), at_once):
        part = asked[start : start + at_once]
        prompts = [policy.prompt_ids(problem.prompt, problem.plain) for problem in part]
        sampled = sampler.sample(
            prompts,
            group_size=samples,
            max_new_tokens=limit,
            temperature=knobs.sampling.temperature,
            generator=generator,
            world=world_of(task, policy, part, samples, f"evaluate {seed} {step} {start}"),
        )
        answers += read_answers(
            policy, task, part, prompts, sampled, max_new_tokens=limit, weights=knobs.reward, judge=judge
        )
    judge_more(answers)
    figures = {**_figures(answers, samples), **_expert_figures(task, asked)}
    if with_cause and metrics.EVAL_ACCURACY in figures:
        figures |= cause_figures(policy, sampler, task, knobs, seed=zlib.crc32(f"cause {seed} {step}".encode()))
    return figures, answers


def _expert_figures(task: Task, asked: Sequence[Problem]) -> dict[str, float]:
    """What the task's expert makes of the same problems, where it has one: the same in every evaluation of them."""
    if not isinstance(task, WithExpert):
        return {}
    scores = [
        task.score(problem, told(task.expert_answer(problem, Random(f"measured expert {place}"))))
        for place, problem in enumerate(asked)
    ]
    right = sum(score["correct"] == 1.0 for score in scores)
    low, high = wilson_interval(right, len(asked))
    return {
        metrics.EVAL_EXPERT: right / len(asked), metrics.EVAL_EXPERT_LOW: low, metrics.EVAL_EXPERT_HIGH: high
    }  # fmt: skip


def _figures(answers: list[Answer], samples: int) -> dict[str, float]:
    judged = [answer for answer in answers if answer.scored.is_correct is not None]
    groups = [answers[start : start + samples] for start in range(0, len(answers), samples)]
    votes = [one for group in groups if (one := [_vote(a) for a in group if a.scored.is_correct is not None])]
    reflection = turn_figures(answers)
    figures = {
        metrics.EVAL_LENGTH: statistics.fmean(answer.drawn for answer in answers),
        metrics.EVAL_REFLECT: reflection[metrics.REFLECT],
        metrics.EVAL_RESCUED: reflection[metrics.RESCUED],
        metrics.EVAL_HARMED: reflection[metrics.HARMED],
        metrics.EVAL_SUPERFICIAL: reflection[metrics.SUPERFICIAL],
        metrics.EVAL_NET: reflection[metrics.NET],
        metrics.EVAL_AHA: reflection[metrics.AHA],
        metrics.EVAL_FIRST_TRY: reflection[metrics.FIRST_TRY],
        metrics.EVAL_TRUNCATED: share(answers, lambda answer: answer.is_truncated),
        metrics.EVAL_LANGUAGE: statistics.fmean(answer.scored.parts["language"] for answer in answers),
        metrics.EVAL_PROBLEMS: float(len(votes)),
    }
    if votes:
        figures = {**_accuracy(votes), **figures}
    if samples > 1:
        several = attempts.figures(votes, (samples,), 0)
        figures |= {f"{metrics.EVAL}{name}": value for name, (value, _, _) in several.items()}
    for source in sorted({answer.problem.source for answer in judged} - {""}):
        own = [answer for answer in judged if answer.problem.source == source]
        figures[metrics.EVAL_SOURCE.replace("*", source)] = share(own, lambda answer: answer.is_correct)
    if kept := [answer.scored.parts["perfect"] for answer in answers if "perfect" in answer.scored.parts]:
        figures[metrics.EVAL_PERFECT] = statistics.fmean(kept)
    if learnt := [answer.scored.parts["model"] for answer in answers if "model" in answer.scored.parts]:
        figures[metrics.EVAL_MODEL] = statistics.fmean(learnt)
    if liked := [a.scored.parts[PREFERENCE] for a in answers if PREFERENCE in a.scored.parts]:
        figures[metrics.EVAL_PREFERENCE] = statistics.fmean(liked)
    return figures | {HELD_OUT[name]: value for name, value in reflection.items() if name in HELD_OUT}


def _accuracy(votes: list[list[Vote]]) -> dict[str, float]:
    """The share of right answers with its interval, clustered by problem where there are several answers to each."""
    right, count = sum(is_right for one in votes for _, is_right in one), sum(map(len, votes))
    low, high = wilson_interval(right, count)
    if count > len(votes):
        shares = [sum(is_right for _, is_right in one) / len(one) for one in votes]
        _, low, high = attempts.share(shares, max(map(len, votes)))
    return {metrics.EVAL_ACCURACY: right / count, metrics.EVAL_LOW: low, metrics.EVAL_HIGH: high}


def _vote(answer: Answer) -> Vote:
    return vote_of(answer.candidates[-1].value) if answer.candidates else "", answer.is_correct
