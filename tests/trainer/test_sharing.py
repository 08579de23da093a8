"""What several processes cannot learn together is refused before step 1, and says which key to turn."""

from __future__ import annotations

import pytest

from ponder.errors import RecipeError
from ponder.knobs import Knobs, KnobValue, with_value
from trainer.parallel import Ranks
from trainer.sharing import refuse_alone
from trainer.tasks.copying import Copying


def refuse(name: str, value: KnobValue, count: int = 2, *, is_sharded: bool = True) -> None:
    refuse_alone(Copying(), with_value(Knobs(), name, value), Ranks(0, count), is_sharded=is_sharded)


@pytest.mark.parametrize(
    "name, value",
    [
        ("kl.refresh_steps", 400), ("policy.updates_per_batch", 2), ("policy.minibatches", 4), ("kl.where", "reward"),
    ],
)  # fmt: skip
def test_a_policy_that_is_shared_out_refuses_what_came_out_differently(name: str, value: KnobValue) -> None:
    refuse(name, value, is_sharded=False)
    refuse(name, value, 1)
    with pytest.raises(RecipeError) as refused:
        refuse(name, value)
    assert name in refused.value.hint and "ddp" in refused.value.hint


def test_more_processes_than_prompts_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"sampling\.prompts_per_step"):
        refuse("sampling.prompts_per_step", 8, 9, is_sharded=False)
