"""Whether a data set's prompts fit into a policy's context; told before the run starts, with the row.

Most prompts are not even tokenised: a token is at least a byte, so what has few bytes has few tokens. Deliberately left
out: tasks that make their own prompts, and a token limit that is raised while the run goes on.
"""

from __future__ import annotations

import logging

from ponder.errors import RecipeError
from trainer.policy import Policy
from trainer.tasks import Problem
from trainer.tasks.dataset import Dataset

log = logging.getLogger(__name__)


def fit_to_policy(task: Dataset, policy: Policy, max_new_tokens: int) -> Dataset:
    """The task with prompts that leave room for an answer; RecipeError names the first that does not."""
    context = policy.context_tokens
    if context is None:
        return task
    room = context - max_new_tokens
    frame = len(policy.prompt_ids(" ", " "))
    if room < frame:
        raise RecipeError(
            f"`sampling.max_new_tokens` cannot be `{max_new_tokens}`: the model's context has {context} tokens",
            "choose fewer, or a model with a longer context",
        )

    def count_tokens(problem: Problem) -> int:
        longest = frame + max(len(problem.prompt.encode()), len(problem.plain.encode()))
        return longest if longest <= room else len(policy.prompt_ids(problem.prompt, problem.plain))

    fitted = task.fitted(count_tokens, room, context)
    if fitted.dropped:
        log.warning("dropped %d of the data's questions, whose prompts are too long for the model", fitted.dropped)
    return fitted
