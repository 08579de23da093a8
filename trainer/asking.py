"""Which problems a step asks: the task's own in their order, but for those in quarantine.

Deliberately left out: how they become prompts (`trainer.policy`), and the problems themselves (`trainer.tasks`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from ponder.errors import RecipeError
from trainer.run_state import RunState
from trainer.tasks import Problem, Task

MOST_PASSED_OVER = 10_000
"""So many prompts in a row may be in quarantine before it is said that none is left."""


def next_problem(state: RunState, task: Task, seed: int) -> Problem:
    """The next one; the cursor moves behind it. RecipeError where none is left."""
    for cursor, problem in _admitted(state, task, seed):
        state.cursor = cursor
        return state.pool.seat(problem, seed, cursor, state.knobs.selfplay) if state.pool else problem
    raise RecipeError(
        f"the last {MOST_PASSED_OVER:,} prompts are all in quarantine: there is nothing left to ask",
        "go on from a checkpoint of before: `ponder rewind RUN STEP`",
    )


class ComingPrompts:
    """The prompts of steps to come, each made into tokens once: what the call before foresaw is remembered."""

    def __init__(self, state: RunState, task: Task, seed: int) -> None:
        self._state, self._task, self._seed = state, task, seed
        self._known: dict[tuple[str, str], list[int]] = {}
        """The tokens of a prompt and its plain text."""

    def __call__(self, steps: int) -> list[list[int]]:
        """Those of so many steps after this one, should each ask once; those that would not fit are left out."""
        sampling, context = self._state.knobs.sampling, self._state.policy.context_tokens
        coming = islice(_admitted(self._state, self._task, self._seed), steps * sampling.prompts_per_step)
        asked = [(problem.prompt, problem.plain) for _, problem in coming]
        before, self._known = self._known, {}
        for said in asked:
            self._known[said] = before.get(said) or self._known.get(said) or self._state.policy.prompt_ids(*said)
        prompts = [self._known[said] for said in asked]
        return [prompt for prompt in prompts if context is None or len(prompt) + sampling.max_new_tokens <= context]


def _admitted(state: RunState, task: Task, seed: int) -> Iterator[tuple[int, Problem]]:
    """Those that are not in quarantine, each with the cursor behind it."""
    for place in range(state.cursor, state.cursor + MOST_PASSED_OVER):
        problem = task.training_problem(seed, place)
        if problem.key not in state.quarantined:
            yield place + 1, problem
