"""When the deep reward model learns, and whether it takes the heads' place.

    rankings ──► every `rlhf.deep_every` that it does not know: a fresh one learns, in a thread, while the heads go on
    a version ──► both are asked about the same held-out rankings; the deep one acts where

        its own gate is open, as the heads' must be, and
        of the held-out rankings of which the two order other shares of pairs, it is right about more: the whole
        interval is above a half. It acts until the whole interval is below

A ranking is one trial, not its pairs, which hang together. When a ranking that it learnt from is taken back it is
forgotten at once. Deliberately left out: how it learns (`trainer.deep_reward`), and asking for rankings
(`daemon.rm_worker`).
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from ponder.ranking import Verdict, count_agreement
from ponder.recipe import Recipe
from ponder.rlhf import (
    DEEP_ACTS,
    DEEP_BETTER,
    DEEP_HELD_OUT,
    DEEP_SECONDS,
    DEEP_WORSE,
    HEADS_HELD_OUT,
    HEADS_OPEN,
    HELD_OUT,
    Deep,
    Rlhf,
)
from ponder.shares import wilson_interval
from ponder.tasks import DatasetOptions, check_task
from ponder.wire import RankingRow
from trainer.deep_reward import DeepReward, Lesson, learn_deep, load_deep, newest_deep, write_deep
from trainer.features import features_of
from trainer.live_reward import Fit, Label, agreement_figures, is_gate_open, is_held_out
from trainer.policy import Policy
from trainer.ranked import in_order, said_bad
from trainer.reward_versions import Card
from trainer.tasks.dataset import dress


class Cancelled(Exception):
    """Learning ends: a ranking was taken back."""


@dataclass
class School:
    """The deep reward model of a run, as its worker knows it."""

    kind: Deep
    folder: Path
    load: Callable[[], Policy]
    """A fresh start model each time."""
    seed: int
    budget_tokens: int
    template: str = ""
    """The task's, which says how a model without a chat template was asked."""
    deep: DeepReward | None = None
    number: int = 0
    """Of its file; 0 while it has none, because it never acted."""
    sha256: str = ""
    acts: bool = False
    rows: dict[int, RankingRow] = field(default_factory=dict)
    """Rankings that stand, by their numbers."""
    _lessons: dict[int, Lesson] = field(default_factory=dict)
    _thread: threading.Thread | None = None
    _found: queue.SimpleQueue[DeepReward | BaseException] = field(default_factory=queue.SimpleQueue)
    _is_cancelled: bool = False

    def resume(self, card: Card) -> None:
        """Go on with what the newest version acts by."""
        if card.deep:
            self.deep = load_deep(self.load(), self.folder, card.deep, card.deep_sha256, self.seed)
            self.number, self.sha256, self.acts = card.deep, card.deep_sha256, True

    def add(self, rows: Iterable[RankingRow]) -> None:
        """Know these rankings, too."""
        self.rows.update({row.id: row for row in rows if row.verdict is not Verdict.SKIPPED})

    def drop(self, numbers: Collection[int]) -> bool:
        """Forget rankings that were taken back, and who learnt from one; whether anybody is forgotten."""
        gone = [number for number in numbers if self.rows.pop(number, None) is not None]
        for number in gone:
            self._lessons.pop(number, None)
        self._is_cancelled = self._is_cancelled or bool(gone)
        if self.deep is None or self.deep.learnt.isdisjoint(numbers):
            return False
        self.deep, self.number, self.sha256, self.acts = None, 0, "", False
        return True

    @property
    def is_done(self) -> bool:
        """Whether one has learnt and waits to be looked at."""
        return not self._found.empty()

    def look(self) -> bool:
        """Take one that has learnt; whether there was one. Raises what ended its learning."""
        if self._found.empty():
            return False
        self._thread, found = None, self._found.get()
        if isinstance(found, Cancelled):
            return False
        if isinstance(found, BaseException):
            raise found
        if self._is_cancelled:
            return False
        self.deep, self.number, self.sha256 = found, 0, ""
        return True

    def begin(self, knobs: Rlhf, step: int) -> None:
        """Have a fresh one learn, where none is learning and there are enough rankings that none knows."""
        known = len(self.deep.learnt) if self.deep else 0
        rows = [self.rows[number] for number in sorted(self.rows)][: knobs.max_rankings or None]
        learnable = sum(not is_held_out(row.prompt) for row in rows)
        if self._thread is not None or learnable - known < knobs.deep_every:
            return
        self._is_cancelled = False
        self._thread = threading.Thread(target=self._learn, args=(rows, knobs, step), daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for the one that learns."""
        if self._thread is not None:
            self._thread.join()

    def weigh(self, fit: Fit, labels: dict[int, Label], knobs: Rlhf) -> Fit:
        """The fit as the better of the two acts; what both are worth is in its figures."""
        figures = {name: value for name, value in fit.figures.items() if not name.startswith(HELD_OUT)}
        heads = {name: value for name, value in fit.figures.items() if name.startswith(HELD_OUT)}
        if self.deep is None:
            return fit
        both = self._both(fit, labels)
        deep = agreement_figures([(scores, label.ranks) for label, _, scores in both], HELD_OUT)
        better, worse = _trials(both)
        low, high = wilson_interval(better, better + worse)
        is_open = is_gate_open(deep, HELD_OUT, knobs.gate, was_open=self.acts)
        is_open = is_open and fit.figures["rankings"] >= knobs.min_rankings
        self.acts = is_open and (high if self.acts else low) > 0.5
        figures |= {
            **_renamed(heads, HEADS_HELD_OUT), **_renamed(deep, DEEP_HELD_OUT), HEADS_OPEN: float(fit.is_open),
            DEEP_BETTER: float(better), DEEP_WORSE: float(worse), DEEP_SECONDS: self.deep.seconds,
            DEEP_ACTS: float(self.acts),
        }  # fmt: skip
        if not self.acts:
            return replace(fit, figures=figures | heads)
        if not self.number:
            self.number = newest_deep(self.folder) + 1
            self.sha256 = write_deep(self.folder, self.number, self.deep)
        return replace(fit, is_open=True, figures=figures | deep, deep=self.number, deep_sha256=self.sha256)

    # ---- inside

    def _both(self, fit: Fit, labels: dict[int, Label]) -> list[tuple[Label, list[float], list[float]]]:
        """The held-out rankings that were drawn blindly, with the scores of the heads and of the deep one."""
        if self.deep is None:
            raise AssertionError("asked before")
        weight_D = fit.weights_HD.mean(0)
        found = []
        for number, label in sorted(labels.items()):
            if not (label.is_held_out and label.is_unbiased and label.says_something and number in self.rows):
                continue
            scores = self.deep.scores(self._lesson(self.deep.reward_model.policy, number), self.budget_tokens)
            if scores is not None:
                found.append((label, (label.components_KD @ weight_D).tolist(), scores))
        return found

    def _lesson(self, policy: Policy, number: int) -> Lesson:
        if number not in self._lessons:
            self._lessons[number] = to_lesson(policy, self.rows[number], self.template)
        return self._lessons[number]

    def _learn(self, rows: Sequence[RankingRow], knobs: Rlhf, step: int) -> None:
        began_s = time.thread_time()
        try:
            policy = self.load()
            lessons = [to_lesson(policy, row, self.template) for row in rows]
            found = learn_deep(
                policy, self.kind, lessons, knobs, step, self.seed, budget_tokens=self.budget_tokens, rest=self._rest
            )
            found.seconds = time.thread_time() - began_s
            self._found.put(found)
        except BaseException as error:  # a border: whoever looks raises it where it is seen
            self._found.put(error)

    def _rest(self) -> None:
        if self._is_cancelled:
            raise Cancelled


def open_school(recipe: Recipe, folder: Path, load: Callable[[], Policy]) -> School | None:
    """Of the stage in which people rank; None where only heads learn."""
    if recipe.rlhf.deep is Deep.OFF:
        return None
    budget_tokens = recipe.optim.micro_batch_tokens
    return School(recipe.rlhf.deep, folder, load, recipe.run.seed, budget_tokens, template_of(recipe))


def read_imported(load: Callable[[], Policy], recipe: Recipe) -> Callable[[RankingRow], Tensor | None]:
    """How the answers of imported rankings are read; the start model is loaded with the first."""
    policies: list[Policy] = []

    def read(row: RankingRow) -> Tensor | None:
        if not policies:
            policies.append(load())
        lesson = to_lesson(policies[0], row, template_of(recipe))
        if lesson.longest > (policies[0].context_tokens or math.inf):
            return None
        prompts = [lesson.prompt_ids] * len(lesson.answers)
        return features_of(policies[0], prompts, lesson.answers, recipe.optim.micro_batch_tokens)

    return read


def template_of(recipe: Recipe) -> str:
    """That of the task's prompts; empty where it has none."""
    options = check_task(recipe.task.name, recipe.task.options)
    return options.template if isinstance(options, DatasetOptions) else ""


def to_lesson(policy: Policy, row: RankingRow, template: str) -> Lesson:
    """A ranking as the policy reads it."""
    plain = dress(row.prompt, template)[1] if template else ""
    answers = [row.answers[place] for place in in_order(row)]
    return Lesson(
        row.id, row.prompt, row.step, policy.prompt_ids(row.prompt, plain),
        [policy.answer_ids(answer.text, has_ended=not answer.is_truncated) for answer in answers],
        [answer.rank for answer in answers], said_bad(row), row.stream.is_unbiased,
    )  # fmt: skip


def _trials(both: Sequence[tuple[Label, list[float], list[float]]]) -> tuple[int, int]:
    """(rankings about which the deep one is right more often, less often)."""
    better = worse = 0
    for label, heads, deep in both:
        difference = count_agreement(deep, label.ranks)[0] - count_agreement(heads, label.ranks)[0]
        better, worse = better + (difference > 0), worse + (difference < 0)
    return better, worse


def _renamed(figures: dict[str, float], word: str) -> dict[str, float]:
    return {word + name.removeprefix(HELD_OUT): value for name, value in figures.items()}
