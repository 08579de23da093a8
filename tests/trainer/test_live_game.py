"""What is turned in a run that plays a game acts from the step after the boundary on, and not before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ponder import metrics
from ponder.events import CommandApplied, GroupScored, StepDone
from ponder.knobs import KnobValue
from ponder.recipe import Recipe, parse_recipe
from ponder.wire import Action, KnobOrder
from tests.trainer.test_loop import go, of, ordering
from trainer.link import ListLink

PLAYING = """
[run]
name = "game"
seed = 3
[model]
path = "new:nim"
[task]
name = "nim"
[stage]
kind = "rl"
steps = 4
[compute]
device = "cpu"
[sampling]
prompts_per_step = 6
group_size = 2
max_new_tokens = 40
[reward]
outcome = 1.0
[selfplay]
opponent = "self"
pool = 3
every_steps = 2
[evaluation]
every_steps = 0
problems = 4
final_problems = 4
"""


def seats(link: ListLink) -> set[str]:
    """Who sat opposite after the change."""
    return {group.prompt_id.partition(" against ")[2] for group in of(link, GroupScored) if group.step > 2}


def figures(link: ListLink, name: str) -> list[float]:
    """Of the steps after the change."""
    return [event.metrics[name] for event in of(link, StepDone) if event.step > 2]


CHANGES: list[tuple[str, KnobValue, Callable[[ListLink], object], object]] = [
    ("selfplay.opponent", "random", seats, {"random"}),
    ("selfplay.present_share", 1.0, seats, {"self"}),
    ("selfplay.pool", 1, lambda link: figures(link, metrics.POOL), [1.0, 1.0]),
    ("selfplay.every_steps", 1, lambda link: figures(link, metrics.POOL), [3.0, 3.0]),
    ("reward.outcome", 5.0, lambda link: figures(link, metrics.REWARD_MIN), [-5.0, -5.0]),
]


@pytest.fixture(scope="module")
def playing() -> Recipe:
    return parse_recipe(PLAYING, "game.toml")


@pytest.fixture(scope="module")
def untouched(playing: Recipe, tmp_path_factory: pytest.TempPathFactory) -> ListLink:
    """What the run tells when nothing is turned."""
    return go(playing, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(("name", "value", "told", "wanted"), CHANGES, ids=[name for name, *_ in CHANGES])
def test_it_does_what_it_says(
    playing: Recipe,
    untouched: ListLink,
    tmp_path: Path,
    name: str,
    value: KnobValue,
    told: Callable[[ListLink], object],
    wanted: object,
) -> None:
    orders: dict[int, list[Action]] = {2: [KnobOrder(name, value)]}
    link = go(playing, tmp_path, ordering(orders))
    assert [(event.name, event.step) for event in of(link, CommandApplied)] == [(name, 2)]
    assert told(link) == wanted
    assert told(untouched) != wanted
