"""The supervised stages' chapter: draw examples, learn, measure, save; orders are taken between steps.

    for each step:
        learn      a batch of the lesson's examples, one update              StepDone
        evaluate   held-out examples, and the task's held-out problems       Evaluated
        save       everything, every so often                                CheckpointSaved
        boundary   orders are taken here and nowhere else                    CommandApplied | CommandRefused

The learning rate rises over the warm-up and goes down to the stage's last step as `supervised.schedule` says. A stage
that goes on from a checkpoint is bit-identical, on a CPU, to one that never ended. Deliberately left out: what is
taught (`trainer.lesson`), and reinforcement learning (`trainer.loop`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path

import msgspec
import torch

from ponder import metrics
from ponder.checkpoints import scores_of
from ponder.errors import CheckpointError
from ponder.events import SAVE, CheckpointSaved, CommandApplied, Ending, Evaluated, StepDone
from ponder.knobs import Knobs, Schedule
from ponder.recipe import Recipe
from ponder.watchdog import Action
from trainer.boundary import Boundary
from trainer.checkpoint import Restored, save_checkpoint
from trainer.compute import cost
from trainer.evaluate import evaluate
from trainer.learn import clip_gradient, make_optimizer, update_ratio
from trainer.lesson import Lesson
from trainer.link import Link
from trainer.place import Place, Span
from trainer.sampler import LocalSampler, sampler_of
from trainer.tasks import Task, find_task
from trainer.tensors import copy_into, from_hex, optimizer_tensors, restore_optimizer, restore_weights, to_hex


class Facts(msgspec.Struct, frozen=True):
    """The part of the stage's state that is no tensor: state.json."""

    step: int
    cursor: int
    version: int
    knobs: Knobs
    torch_rng: str
    data: str


class SupervisedChapter:
    """One supervised stage."""

    def __init__(
        self, recipe: Recipe, span: Span, checkpoints: Path, link: Link, place: Place, lesson: Lesson,
        *, restored: Restored | None, spare: Collection[int], replay: Sequence[CommandApplied],
    ) -> None:  # fmt: skip
        self.recipe, self.span, self.checkpoints, self.link, self.place = recipe, span, checkpoints, link, place
        self.lesson, self.spare, self.data = lesson, spare, lesson.fingerprint
        self.step, self.version = span.before, 0
        self.optimizer = make_optimizer(lesson.parameters().values(), recipe.knobs)
        self.knobs = self._restore(restored) if restored else recipe.knobs
        self.resumed_from = restored.step if restored else None
        self.boundary = Boundary(link, self.knobs, steps=span.total, replay=replay)
        self.seconds: dict[str, float] = {}
        self.scores: dict[str, float] = restored.scores if restored else {}
        """What the policy of this very step is worth."""
        self.skipped_in_a_row = 0

    def read(self) -> Ending:
        """From the first step to the last, or as far as is wanted."""
        span = self.span
        self.place.tell_start(
            self.recipe, span, self.lesson.policy, resumed_from=self.resumed_from, data=self.lesson.summary
        )
        if self.step == span.before and not (self._is_measured or (span.before == 0 and self._is_new)):
            self._evaluate(is_final=False)
        self._take_orders()
        while self.step < span.last and not self.boundary.wants_stop:
            self._learn()
            every, saving = self.knobs.evaluation.every_steps, self.knobs.saving.every_steps
            is_last = self.step == span.last
            if is_last or (every and self.step % every == 0):
                self._evaluate(is_final=is_last)
            if is_last or (saving and self.step % saving == 0):
                self._save()
            if not is_last or span.is_last:
                self._take_orders()
        if self.boundary.ends_as is None or self.step == span.last:
            return Ending.FINISHED
        self._save()
        return self.boundary.ends_as

    @property
    def _is_measured(self) -> bool:
        """Whether the stage before has measured all that this one's policy can be measured by."""
        return self.span.is_measured and self.lesson.speaks

    @property
    def _is_new(self) -> bool:
        """A model that was drawn at random has nothing to be measured yet."""
        return self.recipe.model.path.startswith("new:")

    @cached_property
    def _task(self) -> Task:
        """Read once: it may be a data set."""
        return find_task(self.recipe.task.name, self.recipe.task.options, self.recipe.reflection)

    @cached_property
    def _sampler(self) -> LocalSampler:
        return sampler_of(self.lesson.policy)

    def _learn(self) -> None:
        self.step += 1
        self.place.enter("learn", self.step)
        knobs, started_s = self.knobs, time.perf_counter()
        lr = scheduled(
            knobs.optim.lr, self.step - self.span.before, self.recipe.stage.steps, knobs.optim.warmup_steps,
            knobs.supervised.schedule,
        )  # fmt: skip
        for group in self.optimizer.param_groups:
            group["lr"], group["weight_decay"] = lr, knobs.optim.weight_decay
        self.optimizer.zero_grad(set_to_none=True)
        figures = self.lesson.learn(knobs)
        norm = clip_gradient(self.lesson.parameters().values(), knobs.optim.grad_clip)
        is_finite = math.isfinite(norm)
        if is_finite:
            self.optimizer.step()
            self.version += 1
            figures |= {metrics.GRAD_NORM: norm, metrics.UPDATE_RATIO: update_ratio(self.optimizer)}
        seconds = time.perf_counter() - started_s
        tokens = figures.pop(metrics.TOKENS_PER_SECOND, 0.0)
        figures |= {
            metrics.LR: lr, metrics.STEP_S: seconds, metrics.LEARN_S: seconds, **self.seconds,
            metrics.TRAINED_PER_SECOND: tokens / seconds, metrics.SKIPPED: float(not is_finite),
            metrics.NONFINITE_GRADIENTS: float(not is_finite),
            **cost(self.lesson.policy.model, read=0, learnt=round(tokens), tokens=round(tokens)),
        }  # fmt: skip
        self.skipped_in_a_row = 0 if is_finite else self.skipped_in_a_row + 1
        self.seconds, self.scores = {}, scores_of(figures)
        self.link.emit(StepDone(self.step, self.version, figures))

    def _evaluate(self, *, is_final: bool) -> None:
        """Held-out examples, and problems of the task where the policy speaks."""
        self.place.enter("evaluate", self.step)
        started_s = time.perf_counter()
        knobs = self.knobs
        figures = self.lesson.measure(knobs)
        if self.lesson.speaks:
            wants_many = is_final or self.step == self.span.before
            task_figures, _ = evaluate(
                self.lesson.policy,
                self._sampler,
                self._task,
                knobs,
                problems=knobs.evaluation.final_problems if wants_many else knobs.evaluation.problems,
                seed=self.recipe.run.seed,
                step=self.step,
            )
            figures = {**task_figures, **figures}
        self.seconds[metrics.EVALUATE_S] = time.perf_counter() - started_s
        if figures:
            self.scores = {**self.scores, **scores_of(figures)}
            self.link.emit(Evaluated(self.step, figures, is_final and self.span.is_last))

    def _take_orders(self) -> None:
        """Take what waits; a stage that has learnt nothing for too long holds until somebody has looked."""
        guard = self.knobs.watchdog
        is_lost = self.skipped_in_a_row >= guard.patience and self.step < self.span.total
        if is_lost and guard.nonfinite not in (Action.OFF, Action.WARN):
            what = f"the gradient was not finite {self.skipped_in_a_row} steps in a row: nothing was learnt in them"
            self.boundary.hold(self.step, what)
            self.skipped_in_a_row = 0
        self.boundary.take(self.step, self._save)
        self.knobs = self.boundary.knobs

    def _save(self) -> None:
        if self.step == self.span.before > 0:
            return  # what the stage before has left is the checkpoint of this step, and later stages stand on it
        self.place.enter(SAVE, self.step)
        started_s = time.perf_counter()
        lesson = self.lesson
        facts = Facts(self.step, lesson.draw.place, self.version, self.knobs, to_hex(torch.get_rng_state()), self.data)
        saved = save_checkpoint(
            self.checkpoints,
            self.step,
            model=lesson.policy.model,
            tokenizer=lesson.policy.tokenizer,
            tensors={
                "optimizer": optimizer_tensors(self.optimizer, lesson.parameters()),
                **lesson.extra_tensors(),
            },
            state=msgspec.to_builtins(facts),
            keep=self.knobs.saving.keep,
            files=lesson.extra_files(),
            spare=self.spare,
            stage=self.recipe.stage.title,
            scores=self.scores,
            tell_full=self.place.wait_for_disk,
        )
        self.seconds[metrics.SAVE_S] = time.perf_counter() - started_s
        self.link.emit(CheckpointSaved(self.step, saved.folder, saved.size_bytes, saved.sha256))

    def _restore(self, restored: Restored) -> Knobs:
        """Become what was saved; the knobs of then."""
        facts = msgspec.convert(restored.state, Facts)
        lesson = self.lesson
        if facts.data != self.data:
            raise CheckpointError(
                "the data is not that which the checkpoint was made with",
                "put the old file back, or start a new run from the checkpoint's folder as `model.path`",
            )
        restore_weights(lesson.policy.model, restored.tensors)
        for name, tensors in lesson.extra_tensors().items():
            copy_into(tensors, restored.tensors[name])
        restore_optimizer(self.optimizer, lesson.parameters(), restored.tensors["optimizer"])
        self.step, self.version = facts.step, facts.version
        lesson.draw.move_to(facts.cursor)
        torch.set_rng_state(from_hex(facts.torch_rng))
        return facts.knobs


def scheduled(lr: float, step: int, steps: int, warmup_steps: int, schedule: Schedule = Schedule.LINEAR) -> float:
    """The learning rate of a stage's step, counted from 1: up over the warm-up, then as the schedule says.

    >>> [round(scheduled(1.0, step, 10, 2), 2) for step in (1, 2, 10)]
    [0.5, 0.9, 0.1]
    >>> [round(scheduled(1.0, step, 10, 2, Schedule.COSINE), 2) for step in (1, 2, 6, 10)]
    [0.5, 0.98, 0.5, 0.02]
    """
    up = min(1.0, step / warmup_steps) if warmup_steps else 1.0
    done = (step - 1) / steps
    down = {
        Schedule.LINEAR: 1 - done,
        Schedule.COSINE: (1 + math.cos(math.pi * done)) / 2,
        Schedule.CONSTANT: 1.0,
    }[schedule]
    return lr * up * down
