"""What several processes cannot learn together is refused before step 1, and says which key to turn."""

from __future__ import annotations

import pytest

from ponder.errors import RecipeError
from ponder.knobs import Knobs, with_value
from trainer.parallel import Ranks
from trainer.sharing import refuse_alone
from trainer.tasks.copying import Copying


def test_more_processes_than_prompts_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"sampling\.prompts_per_step"):
        refuse_alone(Copying(), with_value(Knobs(), "sampling.prompts_per_step", 8), Ranks(0, 9))
