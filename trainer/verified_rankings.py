"""Rankings that no person made: a policy's own answers, ordered by what a task's verifier says.

    problems ──► a group of answers each ──► scored ──► right above wrong, equal rewards tied ──► Ranking

Of equal texts one stays. What could not be scored is left out, and so is an answer whose text would not be read back as
the tokens that were sampled: nothing is learnt from tokens that nobody drew. A group in which all are equal ranks
nothing. Deliberately left out: files (`trainer.rankings.write_rankings`), and people.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import torch

from ponder.errors import RecipeError
from ponder.knobs import Knobs
from trainer.answers import Answer, read_answers
from trainer.policy import Policy
from trainer.preferences import MOST_ANSWERS
from trainer.ranking_tokens import answer_to_ids
from trainer.rankings import Ranking
from trainer.rewards.judge import Judge
from trainer.sampler import Sampler
from trainer.tasks import Task


def rank_by_verifier(
    policy: Policy, sampler: Sampler, task: Task, judge: Judge, knobs: Knobs, *, prompts: int, seed: int
) -> list[Ranking]:
    """Rankings of the policy's answers to the first `prompts` training problems of `seed`; fewer, where all are equal.

    Group size, temperature and token limit are those of `knobs.sampling`, a reward's parts weigh what `knobs.reward`
    says. All randomness grows from `seed`. Raises RecipeError when a group is larger than a ranking may be.
    """
    sampling = knobs.sampling
    if sampling.group_size > MOST_ANSWERS:
        raise RecipeError(
            f"`sampling.group_size` cannot be `{sampling.group_size}` for rankings", f"it takes 2 .. {MOST_ANSWERS}"
        )
    generator = torch.Generator(device=policy.device)
    generator.manual_seed(zlib.crc32(f"rank {seed}".encode()))
    rankings: list[Ranking] = []
    for start in range(0, prompts, sampling.prompts_per_step):
        places = range(start, min(start + sampling.prompts_per_step, prompts))
        problems = [task.training_problem(seed, place) for place in places]
        ids = [policy.prompt_ids(problem.prompt, problem.plain) for problem in problems]
        sampled = sampler.sample(
            ids, group_size=sampling.group_size, max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature, generator=generator,
        )  # fmt: skip
        answers = read_answers(
            policy, task, problems, ids, sampled,
            max_new_tokens=sampling.max_new_tokens, weights=knobs.reward, judge=judge,
        )  # fmt: skip
        for place in range(len(problems)):
            group = answers[place * sampling.group_size : (place + 1) * sampling.group_size]
            ranking = rank_group(policy, group)
            if ranking is not None:
                rankings.append(ranking)
    return rankings


def rank_group(policy: Policy, group: Sequence[Answer]) -> Ranking | None:
    """The answers to one problem in the order of their rewards; None where that says nothing."""
    problem = group[0].problem
    rewards: dict[tuple[str, bool], float] = {}
    for answer in group:
        has_ended = not answer.is_truncated
        is_read_back = answer_to_ids(policy, answer.text, has_ended=has_ended) == answer.sampled.ids
        if answer.scored.reward is not None and is_read_back:
            rewards[answer.text, has_ended] = answer.scored.reward
    best_first = sorted(set(rewards.values()), reverse=True)
    if len(best_first) < 2:
        return None
    texts, ended = zip(*rewards, strict=True)
    ranks = tuple(best_first.index(reward) + 1 for reward in rewards.values())
    return Ranking(problem.prompt, texts, ranks, ended, problem.plain)
