"""Where a run is: the steps that belong to a stage, and what it does right now.

Steps are counted through a run, over all its stages. Deliberately left out: which stages there are (`ponder.chain`).
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from itertools import pairwise

import torch
import transformers

from ponder import knobs as knob_words
from ponder.chain import last_steps
from ponder.events import LOAD, SAVE, WAIT_FOR_DISK, CheckpointSaved, Progress, RunStarted, StageStarted
from ponder.recipe import Recipe
from trainer.link import Link
from trainer.policy import Policy


@dataclass(frozen=True)
class Span:
    """A stage's steps within its run: those after `before`, up to `last`."""

    before: int
    last: int
    total: int
    """Steps of the whole run."""
    number: int = 1
    """The stage's place among the stages, from 1."""
    count: int = 1
    is_measured: bool = False
    """Whether it is not measured before its first step: its policy was, on the same task, or that step has a figure."""

    @property
    def is_last(self) -> bool:
        return self.number == self.count


def spans(recipe: Recipe) -> list[Span]:
    """The span of each stage of the recipe.

    >>> from ponder.recipe import builtin_recipes, read_recipe
    >>> spans(read_recipe(builtin_recipes()["countdown-zero"]))
    [Span(before=0, last=140, total=140, number=1, count=1, is_measured=False)]
    """
    stages = recipe.stages
    ends = list(last_steps(stages).values())
    return [
        Span(before, last, ends[-1], number, len(stages))
        for number, (before, last) in enumerate(pairwise([0, *ends]), 1)
    ]


class Place:
    """Where the run is, told as passing progress; what breaks, breaks here."""

    def __init__(self, link: Link, steps: int) -> None:
        self.step, self.phase = 0, LOAD
        self._link, self._steps = link, steps
        self._has_started = False
        self.untold: CheckpointSaved | None = None
        """The checkpoint that the attempt goes on from, where nobody was told of it."""

    def enter(self, phase: str, step: int) -> None:
        self.phase, self.step = phase, step
        self._link.preview(Progress(step, phase, step, self._steps))

    def wait_for_disk(self, is_full: bool) -> None:
        """A checkpoint waits for room, or no longer."""
        self.enter(WAIT_FOR_DISK if is_full else SAVE, self.step)

    def tell_start(
        self,
        recipe: Recipe,
        span: Span,
        policy: Policy,
        *,
        resumed_from: int | None,
        data: str = "",
        markers: str = "",
    ) -> None:
        """That the attempt has begun, once; and that the stage has, in a recipe of several."""
        stage = recipe.stage
        step = resumed_from if resumed_from is not None else span.before
        if not self._has_started:
            self._link.emit(
                RunStarted(
                    step=step,
                    steps=span.total,
                    stage=stage.title,
                    model=recipe.model.path,
                    parameters=policy.parameters,
                    device=str(policy.device),
                    threads=torch.get_num_threads(),
                    resumed_from=step if step else resumed_from,
                    data=data,
                    warnings=recipe.warnings,
                    versions={
                        "python": platform.python_version(),
                        "torch": str(torch.__version__),
                        "transformers": transformers.__version__,
                        **({"markers": markers} if markers else {}),
                    },
                )
            )
            self._has_started = True
            if self.untold is not None:
                self._link.emit(self.untold)
        if span.count > 1 and resumed_from is None:
            self._link.emit(
                StageStarted(
                    step=span.before,
                    name=stage.title,
                    kind=str(stage.kind),
                    number=span.number,
                    count=span.count,
                    steps=stage.steps,
                    model=recipe.model.path,
                    parameters=policy.parameters,
                    knobs=knob_words.flatten(recipe.knobs),
                )
            )
