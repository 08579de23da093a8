"""Every knob that is declared live acts on a running run: from the step after the boundary on, and not before.

Those of loss, divergence and critic stand in `test_live_knobs`, those of games in `test_live_game`, those of supervised
stages in `test_supervised`; the last test here holds the lists complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any  # Any: a spy passes on what it is given

import pytest
import torch
from torch import Tensor

from ponder import metrics, watchdog
from ponder.events import (
    CheckpointSaved,
    CommandApplied,
    Evaluated,
    GroupScored,
    Preview,
    PreviewAnswer,
    Rollout,
    StepDone,
    WatchdogFired,
)
from ponder.knobs import DECLARATIONS, KnobValue
from ponder.recipe import Recipe, dump_recipe, parse_recipe
from ponder.wire import Action, KnobOrder
from tests.trainer.conftest import RECIPE
from tests.trainer.test_live_game import CHANGES as GAME
from tests.trainer.test_live_knobs import CHANGES
from tests.trainer.test_loop import go, of, ordering, what_was_learnt
from tests.trainer.test_supervised import CHANGES as SUPERVISED
from trainer import head
from trainer.link import ListLink
from trainer.rewards import judge
from trainer.stream import Stream
from trainer.tasks import Problem
from trainer.tasks.countdown import Countdown

LEARNT: list[tuple[str, KnobValue]] = [
    ("sampling.temperature", 0.5),
    ("mismatch.truncate", 0.5),
    ("mismatch.gate", 1.0),
    ("kl.estimator", "k1"),
    ("optim.lr", 0.05),
    ("optim.warmup_steps", 100),
    ("optim.weight_decay", 0.5),
    ("optim.grad_clip", 0.001),
    ("optim.micro_batch_tokens", 16),
    ("optim.layout", "padded"),
    ("reward.correct", 5.0),
    ("reward.format", 5.0),
    ("reward.length", 2.0),
    ("reward.overlong_share", 0.9),
    ("reward.repetition", -1.0),
    ("reward.language", 1.0),
    ("reward.script", "han"),
    ("reward.own", 3.0),
    ("reward.shuffled", True),
]
"""What changes groups or figures of the next steps."""

Told = Callable[[ListLink], object]
"""Something that a run tells of the steps after the change."""

TOLD: list[tuple[str, KnobValue, Told, object]] = [
    ("sampling.prompts_per_step", 2, lambda link: len(_groups(link)), 4),
    ("sampling.group_size", 3, lambda link: {len(group.rollouts) for group in _groups(link)}, {3}),
    ("sampling.max_new_tokens", 5, lambda link: max(_lengths(link)), 5),
    ("evaluation.every_steps", 1, lambda link: [event.step for event in of(link, Evaluated)], [0, 2, 3, 4]),
    ("evaluation.final_problems", 5, lambda link: _last_evaluation(link), 5.0),
    ("evaluation.after_update", True, lambda link: [metrics.KL_AFTER in step for step in _steps(link)], [True] * 2),
    (
        "evaluation.cause_every",
        1,
        lambda link: [metrics.EVAL_CAUSE in e.metrics for e in of(link, Evaluated)][2:],
        [True],
    ),
    ("saving.every_steps", 1, lambda link: [event.step for event in of(link, CheckpointSaved)], [2, 3, 4]),
    (
        "stream.alternatives",
        2,
        lambda link: {len(one.alternatives) // one.length_tokens for one in _rollouts(link)},
        {2},
    ),
    ("stream.previews", 1, lambda link: {one.index for step in (3, 4) for one in _previews(link, step)}, {0}),
]
"""What changes something that can be named."""

FIRES: list[tuple[str, KnobValue, str]] = [
    ("watchdog.kl_budget", 0.0, watchdog.KL),
    ("watchdog.length_growth", 1.0, watchdog.LENGTH),
    ("watchdog.clip_ratio", 0.0, watchdog.LENGTH),
    ("watchdog.dead_steps", 1, watchdog.DEAD),
]


@pytest.fixture
def every_part_differs() -> Iterator[None]:
    """A task in which correctness and form go by the length of the text."""
    with differing_parts():
        yield


@contextmanager
def differing_parts() -> Iterator[None]:
    def score(_: Countdown, __: Problem, text: str) -> dict[str, float | None]:
        return {"correct": float(len(text) % 2), "format": len(text) % 3 / 2}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Countdown, "score", score)
        patch.setattr(judge, "repetition_share", lambda text: len(text) % 7 / 7)
        yield


@pytest.fixture(scope="module")
def wide(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """The tiny recipe with a part of its own, and every part weighed."""
    mine = tmp_path_factory.mktemp("own") / "mine.py"
    mine.write_text("def score(text):\n    return len(text) % 5\n")
    own = f'[[rewards]]\nname = "mine"\nfunction = "{mine}:score"\nweight = 0.1\n'
    overrides = {"reward.overlong": "1", "reward.language": "0.5", "sampling.group_size": "2"}
    return parse_recipe(RECIPE.format(model=tiny_folder) + own, "tiny.toml", overrides)


@pytest.fixture(scope="module")
def wide_untouched(wide: Recipe, tmp_path_factory: pytest.TempPathFactory) -> ListLink:
    """What `wide` tells when no knob is turned: the same beside each knob."""
    with differing_parts():
        return go(wide, tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def untouched(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ListLink:
    """What `recipe` tells when no knob is turned."""
    return go(parse_recipe(RECIPE.format(model=tiny_folder), "tiny.toml"), tmp_path_factory.mktemp("plain"))


def turned(recipe: Recipe, folder: Path, name: str, value: KnobValue) -> ListLink:
    """The run with the knob turned at the boundary after step 2."""
    orders: dict[int, list[Action]] = {2: [KnobOrder(name, value)]}
    link = go(recipe, folder, ordering(orders))
    assert [(event.name, event.step) for event in of(link, CommandApplied)] == [(name, 2)]
    return link


@pytest.mark.parametrize(("name", "value"), LEARNT, ids=[name for name, _ in LEARNT])
@pytest.mark.usefixtures("every_part_differs")
def test_it_changes_the_next_step_and_not_the_one_before(
    wide: Recipe, wide_untouched: ListLink, tmp_path: Path, name: str, value: KnobValue
) -> None:
    changed = turned(wide, tmp_path, name, value)
    assert _until(wide_untouched, 2) == _until(changed, 2)
    assert what_was_learnt(wide_untouched, after=2) != what_was_learnt(changed, after=2)


@pytest.mark.parametrize(("name", "value", "told", "wanted"), TOLD, ids=[name for name, *_ in TOLD])
def test_it_does_what_it_says(
    recipe: Recipe, untouched: ListLink, tmp_path: Path, name: str, value: KnobValue, told: Told, wanted: object
) -> None:
    assert told(turned(recipe, tmp_path, name, value)) == wanted
    assert told(untouched) != wanted


def test_how_many_problems_an_evaluation_along_the_way_asks(recipe: Recipe, tmp_path: Path) -> None:
    orders: dict[int, list[Action]] = {1: [KnobOrder("evaluation.problems", 3)]}
    first, middle, last = of(go(recipe, tmp_path, ordering(orders)), Evaluated)
    assert [event.metrics[metrics.EVAL_PROBLEMS] for event in (first, middle, last)] == [8, 3, 8]


def test_how_many_answers_to_each_an_evaluation_draws(recipe: Recipe, tmp_path: Path) -> None:
    orders: dict[int, list[Action]] = {1: [KnobOrder("evaluation.samples", 2)]}
    first, middle, last = of(go(recipe, tmp_path, ordering(orders)), Evaluated)
    assert ["eval/pass@2" in event.metrics for event in (first, middle, last)] == [False, True, True]


def test_how_many_checkpoints_stay(recipe: Recipe, tmp_path: Path) -> None:
    calm = {f"watchdog.{rule}": "off" for rule in watchdog.RULES}  # the last good checkpoint would stay, too
    turned(parse_recipe(dump_recipe(recipe), "tiny.toml", calm), tmp_path, "saving.keep", 1)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-000004"]


def test_groups_without_spread_are_left_out(recipe: Recipe, tmp_path: Path) -> None:
    flat = parse_recipe(dump_recipe(recipe), "tiny.toml", {"reward.length": "0"})
    steps = of(turned(flat, tmp_path, "policy.drop_flat_groups", True), StepDone)
    assert {step.metrics[metrics.GROUPS_MIXED] for step in steps} == {0.0}
    assert [step.metrics[metrics.SKIPPED] for step in steps] == [0.0, 0.0, 1.0, 1.0]


def test_how_many_rounds_are_drawn(recipe: Recipe, tmp_path: Path) -> None:
    orders: dict[int, list[Action]] = {
        2: [
            KnobOrder("policy.drop_flat_groups", True),
            KnobOrder("reward.length", 0.0),
            KnobOrder("sampling.max_rounds", 3),
        ]
    }
    steps = of(go(recipe, tmp_path, ordering(orders)), StepDone)
    assert [step.metrics[metrics.GROUPS_DRAWN] for step in steps[:2]] == [3, 3]
    assert steps[2].metrics[metrics.GROUPS_DRAWN] > 3


def test_how_many_positions_have_logits_at_once(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    original = head._score

    def spy(hidden_ND: Tensor, *rest: Any) -> object:
        sizes.append(len(hidden_ND))
        return original(hidden_ND, *rest)

    monkeypatch.setattr(head, "_score", spy)
    steps_seen: list[int] = []
    link = ordering({2: [KnobOrder("optim.head_chunk_tokens", 4)]})
    put = link.on_event

    def watch(event: object) -> None:
        if isinstance(event, StepDone):
            steps_seen.append(max(sizes))
            sizes.clear()
        if put is not None:
            put(event)  # type: ignore[arg-type]  # every event is a TrainerEvent

    link.on_event = watch
    go(recipe, tmp_path, link)
    assert min(steps_seen[:2]) > 4 and steps_seen[2:] == [4, 4]


def test_how_often_previews_are_sent(recipe: Recipe) -> None:
    def sent(per_second: int) -> int:
        clock = iter(place / 100 for place in range(1000))
        link = ListLink()
        knobs = parse_recipe(
            RECIPE.format(model=recipe.model.path), "tiny.toml", {"stream.previews_per_second": per_second}
        ).knobs
        stream = Stream(link, _OneWord(), knobs, step=1, prompts=["p"], now=lambda: next(clock), used=lambda: 0.0)  # type: ignore[arg-type]
        for _ in range(100):  # a second of tokens
            stream.listen(torch.tensor([0]), torch.tensor([1]), torch.tensor([False]), torch.tensor([True]))
        return len(link.passing)

    assert sent(50) > 40 and sent(5) < 7


@pytest.mark.parametrize(("name", "value", "rule"), FIRES, ids=[name for name, *_ in FIRES])
def test_a_limit_of_the_watchdog_makes_its_rule_fire(
    tiny_folder: Path, tmp_path: Path, name: str, value: KnobValue, rule: str
) -> None:
    ready = {
        "watchdog.patience": "1", "watchdog.clip_ratio": "0", "watchdog.length_growth": "1", "watchdog.kl_budget": "0",
        "reward.length": "0" if rule == watchdog.DEAD else "1", "reward.format": "0", "reward.correct": "0",
        "optim.lr": "0.05",
    }  # fmt: skip
    blunt = {
        "watchdog.clip_ratio": "1",
        "watchdog.length_growth": "100",
        "watchdog.kl_budget": "1000",
        "watchdog.dead_steps": "50",
    }
    recipe = parse_recipe(RECIPE.format(model=tiny_folder), "tiny.toml", {**ready, name: blunt[name]})
    fired = of(turned(recipe, tmp_path / "turned", name, value), WatchdogFired)
    assert [event.step for event in fired if event.rule == rule] and min(
        event.step for event in fired if event.rule == rule
    ) > 2
    assert rule not in {event.rule for event in of(go(recipe, tmp_path / "plain"), WatchdogFired)}


def test_every_live_knob_has_a_test_in_which_it_acts() -> None:
    named = {name for name, *_ in [*LEARNT, *TOLD, *FIRES, *CHANGES, *GAME]} | {name for _, name, _ in SUPERVISED} | {
        "reward.model",  # test_preference_runs
        "reward.preference", "reward.combine",  # test_live_reward
        "reward.learnt_for",  # test_mixed
        "kl.lift_mb",  # test_turn_figures
        "evaluation.samples",
        "sampling.max_rounds", "policy.drop_flat_groups", "evaluation.problems", "saving.keep",
        "optim.head_chunk_tokens",
        "stream.previews_per_second",
    }  # fmt: skip
    rest = {name for name, knob in DECLARATIONS.items() if knob.is_live} - named
    # test_watchdog feeds its rules with their limits; what is asked is the daemon's, the rest test_live_reward's
    assert all(name.startswith(("watchdog.", "rlhf.")) for name in rest), rest


# ---- what a run told of the steps after the change


class _OneWord:
    def pieces(self, ids: list[int]) -> list[str]:
        return ["word "] * len(ids)


def _until(link: ListLink, step: int) -> list[object]:
    told: list[object] = [event for event in link.events if isinstance(event, GroupScored) and event.step <= step]
    for event in of(link, StepDone)[:step]:
        told.append({name: value for name, value in event.metrics.items() if not name.startswith(metrics.MACHINE)})
    return told


def _groups(link: ListLink) -> list[GroupScored]:
    return [event for event in of(link, GroupScored) if event.step > 2]


def _lengths(link: ListLink) -> list[int]:
    return [rollout.length_tokens for group in _groups(link) for rollout in group.rollouts]


def _steps(link: ListLink) -> list[dict[str, float]]:
    return [event.metrics for event in of(link, StepDone)[2:]]


def _last_evaluation(link: ListLink) -> float:
    return of(link, Evaluated)[-1].metrics[metrics.EVAL_PROBLEMS]


def _rollouts(link: ListLink) -> list[Rollout]:
    return [one for group in _groups(link) for one in group.rollouts]


def _previews(link: ListLink, step: int) -> list[PreviewAnswer]:
    return [one for event in link.passing if isinstance(event, Preview) and event.step == step for one in event.answers]
