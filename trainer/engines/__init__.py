"""Which engine draws a run's answers: the one that the recipe names, behind the Protocol of `trainer.sampler`.

    local   trainer.sampler         ponder's own: previews token by token, alternatives, worlds that answer
    cb      trainer.engines.cb      transformers' continuous batching on the policy's own module
    vllm    trainer.engines.vllm    a server, which gets the weights after each update

`local` may have a crew (`trainer.engines.crewed`): programs on other machines that draw some of its answers. The
others tell answers when they are whole, keep no alternatives and hear no world. Deliberately left out: what is done
about their rounding (`trainer.mismatch`).
"""

from __future__ import annotations

from collections.abc import Callable

from ponder.choices import Engine
from ponder.errors import RecipeError
from ponder.recipe import Recipe
from trainer.crew import Crew
from trainer.parallel import ALONE, Ranks
from trainer.policy import Policy
from trainer.sampler import Sampler, sampler_of
from trainer.sharing import SharedSampler
from trainer.tasks import Environment, Task


def make_sampler(
    policy: Policy, recipe: Recipe, task: Task, version: Callable[[], int], ranks: Ranks = ALONE,
    crew: Crew | None = None,
) -> Sampler:  # fmt: skip
    """What samples the policy in this stage; `version` tells how often its weights have changed.

    Of several processes each draws its share, by `local` alone (`ponder.compute`).

    Raises RecipeError where the engine cannot do what the recipe asks.
    """
    engine, budget = recipe.sampling.engine, recipe.optim.micro_batch_tokens
    if recipe.workers.most and isinstance(task, Environment):
        raise RecipeError(
            f"`{task.name}` answers the policy in the middle of a text, which workers elsewhere cannot hear",
            "set `workers.most` to 0",
        )
    if crew and recipe.workers.most:
        from trainer.engines.crewed import CrewedSampler

        return CrewedSampler(policy, crew, recipe.workers, version)
    if engine is Engine.LOCAL:
        return sampler_of(policy) if ranks.count == 1 else SharedSampler(sampler_of(policy), ranks)
    if isinstance(task, Environment):
        raise RecipeError(
            f"`{task.name}` answers the policy in the middle of a text, which the engine `{engine}` cannot hear",
            "set `sampling.engine` to `local`",
        )
    if engine is Engine.CB:
        from trainer.engines.cb import CbSampler

        return CbSampler(policy, budget)
    from trainer.engines.vllm import open_server

    return open_server(policy, recipe, version)
