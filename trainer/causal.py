"""Does turning back help? The same answers from just before their turns, with the marker forbidden, free, and forced.

    held-out problems ──► answers ──► the first turn of each, and all before it
        forbidden   the next token is drawn from all that begins no marker; then it goes on as it likes
        free        it goes on as it likes
        forced      the next token is the marker's; then it goes on as it likes

A marker may come later in all three: what is tested is the turn at this place. Differences are of the same prefixes,
and their intervals come from drawing problems anew (bootstrap, Efron 1979), for the answers to one are alike. That
P(right | forced) > P(right | forbidden) says that turning back is a cause here, and not only found where things go
well. Forcing in the manner of arXiv:2501.19393. Deliberately left out: learning from it, and every reward.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from msgspec import Struct

from ponder import metrics
from ponder.errors import RecipeError
from ponder.knobs import Knobs
from trainer.answers import Answer
from trainer.parallel import Ranks
from trainer.places import Difference, Place, continue_from, draw_answers, next_chances
from trainer.policy import Policy
from trainer.probe import Asked, ask_at_turns
from trainer.sampler import Sampler
from trainer.tasks import Environment, Task
from trainer.tasks.forcing import Forcing

MOST_TURNS = 64
"""More are not followed: three times as many answers as continuations are drawn of each."""
RESAMPLES = 2000
PROBLEMS, SAMPLES, CONTINUATIONS = 16, 8, 2
"""How much of it a run does beside its evaluations; `ponder aha RUN --causal` does more."""
LEAST_PROBLEMS = 4
"""An interval over fewer says nothing."""


class Arm(StrEnum):
    """What is done with the marker."""

    FORBIDDEN = "forbidden"
    FREE = "free"
    FORCED = "forced"


class Causal(Struct, frozen=True):
    """What came of it."""

    problems: int
    """Held-out problems whose answers turned back."""
    turns: int
    continuations: int
    """Of each turn, in each arm."""
    marker_chance: float
    """Mean probability of a marker's first token at the places of the turns."""
    right: dict[Arm, float]
    """The share of right answers in each arm."""
    forced_less_forbidden: Difference
    free_less_forbidden: Difference
    asked: Asked | None = None


@dataclass(frozen=True)
class Turn(Place):
    """The place of the first turn of an answer, and the marker's first token."""

    marker: int


def check_cause(
    policy: Policy, sampler: Sampler, task: Task, knobs: Knobs, *,
    problems: int, samples: int, continuations: int, seed: int, forcing: Forcing | None = None,
) -> Causal | None:  # fmt: skip
    """The three arms on the turns of `samples` answers to each of so many held-out problems; None without a turn.

    With `forcing` the policy is asked at each turn, too, what it would answer.
    """
    generator = torch.Generator(device=policy.device)
    generator.manual_seed(seed)
    asked = task.held_out(problems)
    answers = draw_answers(policy, sampler, task, knobs, asked, samples, generator)
    found = [(answer, mark) for answer in answers for mark in answer.reflections.marks if mark.token >= 0]
    banned = sorted({answer.sampled.ids[mark.token] for answer, mark in found})
    turns = first_turns(answers)[:MOST_TURNS]
    if not turns:
        return None
    next_TV = next_chances(policy, turns, knobs.sampling.temperature)
    marker_chance = next_TV[:, banned].sum(-1).mean().item()
    allowed_TV = next_TV.clone()
    allowed_TV[:, banned] = 0.0
    starts = {
        Arm.FREE: torch.multinomial(next_TV, continuations, replacement=True, generator=generator).tolist(),
        Arm.FORBIDDEN: torch.multinomial(allowed_TV, continuations, replacement=True, generator=generator).tolist(),
        Arm.FORCED: [[turn.marker] * continuations for turn in turns],
    }
    hits = {arm: continue_from(policy, sampler, task, knobs, turns, starts[arm], generator) for arm in Arm}

    def less_forbidden(arm: Arm) -> Difference:
        by_problem: dict[str, list[float]] = {}
        for turn, own, without in zip(turns, hits[arm], hits[Arm.FORBIDDEN], strict=True):
            by_problem.setdefault(turn.problem.key, []).append(own - without)
        return bootstrap(list(by_problem.values()), seed)

    return Causal(
        problems=len({turn.problem.key for turn in turns}),
        turns=len(turns),
        continuations=continuations,
        marker_chance=marker_chance,
        right={arm: statistics.fmean(hits[arm]) for arm in Arm},
        forced_less_forbidden=less_forbidden(Arm.FORCED),
        free_less_forbidden=less_forbidden(Arm.FREE),
        asked=ask_at_turns(policy, sampler, task, forcing, answers, MOST_TURNS, generator) if forcing else None,
    )


def is_due(knobs: Knobs, step: int, *, is_end: bool) -> bool:
    """Whether the evaluation after `step` has a check; `is_end` of the first and the last one of a stage."""
    between = knobs.evaluation.every_steps * knobs.evaluation.cause_every
    return knobs.evaluation.cause_every > 0 and (is_end or (between > 0 and step % between == 0))


def cause_figures(policy: Policy, sampler: Sampler, task: Task, knobs: Knobs, *, seed: int) -> dict[str, float]:
    """The check as figures of an evaluation; none where answers to fewer than LEAST_PROBLEMS turned back."""
    found = check_cause(
        policy, sampler, task, knobs, problems=PROBLEMS, samples=SAMPLES, continuations=CONTINUATIONS, seed=seed
    )
    if found is None or found.problems < LEAST_PROBLEMS:
        return {}
    return {
        metrics.EVAL_CAUSE: found.forced_less_forbidden.value,
        metrics.EVAL_CAUSE_LOW: found.forced_less_forbidden.low,
        metrics.EVAL_CAUSE_HIGH: found.forced_less_forbidden.high,
        metrics.EVAL_CAUSE_FREE: found.free_less_forbidden.value,
        metrics.EVAL_CAUSE_TURNS: float(found.turns),
    }


def refuse_cause(task: Task, knobs: Knobs, ranks: Ranks) -> None:
    """RecipeError where a run is to check causes and cannot."""
    if not knobs.evaluation.cause_every:
        return
    why = "`compute.processes` is above 1" if ranks.count > 1 else f"the task `{task.name}` answers the policy"
    if ranks.count > 1 or isinstance(task, Environment):
        raise RecipeError(
            f"`evaluation.cause_every` is {knobs.evaluation.cause_every}, and {why}",
            "set it to 0; `ponder aha RUN@STEP --causal` checks a checkpoint",
        )


def first_turns(answers: Sequence[Answer]) -> list[Turn]:
    """The first turn of each answer that has one."""
    turns = []
    for answer in answers:
        place = next((mark.token for mark in answer.reflections.marks if mark.token >= 0), None)
        if place is not None:
            ids = answer.sampled.ids
            turns.append(Turn(answer.problem, answer.prompt_ids, ids[:place], ids[place]))
    return turns


def bootstrap(clusters: Sequence[Sequence[float]], seed: int, resamples: int = RESAMPLES) -> Difference:
    """The mean of all values, and the interval in which it lies when clusters are drawn anew.

    >>> bootstrap([[0.5], [0.5, 0.5]], 1)
    Difference(value=0.5, low=0.5, high=0.5)
    """
    rng = random.Random(f"bootstrap {seed}")
    means = sorted(
        statistics.fmean(value for cluster in rng.choices(clusters, k=len(clusters)) for value in cluster)
        for _ in range(resamples)
    )
    whole = statistics.fmean(value for cluster in clusters for value in cluster)
    return Difference(whole, means[int(0.025 * resamples)], means[int(0.975 * resamples)])
