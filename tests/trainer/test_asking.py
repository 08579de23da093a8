"""Which prompts come: those that the next steps ask, in their order, and each made into tokens once."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import cast

import pytest

from ponder.knobs import Knobs, with_value
from tests.trainer.models import policy_of
from trainer.asking import ComingPrompts, next_problem
from trainer.policy import Policy
from trainer.run_state import RunState
from trainer.tasks import find_task

SEED, STEPS, A_STEP = 5, 4, 3


@pytest.fixture
def state() -> RunState:
    """All of a run that asking looks at."""
    knobs = with_value(Knobs(), "sampling.prompts_per_step", A_STEP)
    looked_at = SimpleNamespace(policy=policy_of("qwen2"), knobs=knobs, cursor=0, quarantined=set(), pool=None)
    return cast(RunState, looked_at)


def test_each_prompt_to_come_is_made_into_tokens_once_and_is_what_is_asked_then(
    state: RunState, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, made = find_task("countdown", {}), Counter[str]()
    whole = type(state.policy).prompt_ids

    def counted(policy: Policy, prompt: str, plain: str = "") -> list[int]:
        made[prompt] += 1
        return whole(policy, prompt, plain)

    monkeypatch.setattr(type(state.policy), "prompt_ids", counted)
    coming = ComingPrompts(state, task, SEED)
    foreseen: list[list[int]] = []
    asked: list[list[int]] = []
    for step in range(6):
        asked += [whole(state.policy, next_problem(state, task, SEED).prompt) for _ in range(A_STEP)]
        if step == 3:  # one that was foreseen is not to be asked any more
            refused = task.training_problem(SEED, state.cursor + 1)
            state.quarantined.add(refused.key)
        prompts = coming(STEPS)
        assert len(prompts) == STEPS * A_STEP
        foreseen.append(prompts[0])
        if step == 3:
            assert whole(state.policy, refused.prompt) not in prompts
    assert foreseen[:-1] == [asked[A_STEP * step] for step in range(1, 6)], "the first of the step after"
    assert len(made) > (STEPS + 4) * A_STEP and set(made.values()) == {1}
    assert len(coming._known) <= STEPS * A_STEP, "and nothing is remembered for ever"
