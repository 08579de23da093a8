"""A recipe's stages in order: each begins with what the ones before it left.

    run ──► the newest whole checkpoint says which stage is under way
        ──► for each stage from there on
              its sources resolved     `trainer.sources`
              its chapter read         rl, reject, rank: `trainer.loop`     else: `trainer.supervised` with a lesson
        ──► RunEnded

Steps are counted through the whole run. The last checkpoint of every stage is kept, since later stages stand on it.
Deliberately left out: what happens inside a stage.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import msgspec
import torch

from ponder.errors import CheckpointError, PonderError, RankLost
from ponder.events import LOAD, CheckpointSaved, CommandApplied, Ending, RunBroke, RunEnded
from ponder.paths import checkpoint_name
from ponder.recipe import Recipe
from ponder.stage import StageKind, StagePart, stage_in
from trainer.adapter import WithoutAdapter, has_adapter
from trainer.checkpoint import Restored, describe, load_newest, tidy
from trainer.corpus import make_corpus
from trainer.crew import Crew
from trainer.equip import equip
from trainer.imitation import Imitation
from trainer.lesson import Lesson
from trainer.link import Link
from trainer.loop import Chapter
from trainer.memory import explain_want_of_memory, is_want_of_memory
from trainer.parallel import ALONE, Ranks
from trainer.place import Place, Span, spans
from trainer.policy import Policy, load_policy
from trainer.precision import pick_dtype
from trainer.ranking_lesson import RankingLesson
from trainer.ranking_tokens import refuse_too_long
from trainer.rankings import read_rankings
from trainer.reference import freeze
from trainer.reject import Keeper
from trainer.reward_model import RewardModel, load_reward_model, make_reward_model
from trainer.row_file import Collector, set_path
from trainer.scorers import ImplicitScorer, RewardScorer
from trainer.sources import resolved
from trainer.supervised import SupervisedChapter
from trainer.verified_rankings import Ranker

log = logging.getLogger(__name__)


class Stage(Protocol):
    """A chapter that can be read."""

    @property
    def step(self) -> int:
        """The last step that was made."""

    def read(self) -> Ending:
        """From the first step to the last, or as far as is wanted."""


@dataclass(frozen=True)
class Run:
    """What all stages of a run share."""

    recipe: Recipe
    checkpoints: Path
    link: Link
    place: Place
    models_folder: Path
    replay: Sequence[CommandApplied]
    ranks: Ranks = ALONE
    crew: Crew | None = None

    def stage(self, number: int, restored: Restored | None) -> Stage:
        """The chapter of stage `number` (from 0), which goes on from `restored` when that is of this stage."""
        recipe, span = resolved(self.recipe, number, self.checkpoints), self._span(number)
        spare = [span.before for span in spans(self.recipe)[1:]]
        kind = recipe.stage.kind
        torch.manual_seed(recipe.run.seed)
        if kind.samples:
            return Chapter(
                recipe, span, self.checkpoints, self.link, self.place, models_folder=self.models_folder,
                restored=restored, spare=spare, replay=self.replay, make_collector=self._collector(recipe.stage),
                reward_model=self._reward_model(recipe), ranks=self.ranks, crew=self.crew,
            )  # fmt: skip
        lesson = self._lesson(recipe)
        return SupervisedChapter(
            recipe, span, self.checkpoints, self.link, self.place, lesson, restored=restored, spare=spare,
            replay=self.replay,
        )  # fmt: skip

    def _collector(self, stage: StagePart) -> Callable[[Policy], Collector] | None:
        """What makes the set of a stage that only samples."""
        path = set_path(self.checkpoints, stage.title)
        if stage.kind is StageKind.REJECT:
            return lambda _: Keeper(path, stage)
        return (lambda policy: Ranker(path, policy, stage.judge)) if stage.kind is StageKind.RANK else None

    def _reward_model(self, recipe: Recipe) -> RewardModel | None:
        part = recipe.reward_model
        if not part.path:
            return None
        found = load_reward_model(Path(part.path), device=recipe.compute.device, models_folder=self.models_folder)
        found.policy.dtype = pick_dtype(recipe.compute.dtype, found.policy.device)
        return found

    def _lesson(self, recipe: Recipe) -> Lesson:
        policy, seed = equip(self._load(recipe), recipe), recipe.run.seed
        if not recipe.stage.kind.reads_rankings:
            return Imitation(
                policy, make_corpus(recipe, policy), is_pretraining=recipe.stage.kind is StageKind.PRETRAIN
            )
        rankings = read_rankings(recipe.stage.data)
        refuse_too_long(rankings, policy)
        if rankings.undecided:
            log.warning("dropped %d rankings that decide nothing", rankings.undecided)
        if recipe.stage.kind is StageKind.REWARD_MODEL:
            return RankingLesson(RewardScorer(make_reward_model(policy, seed)), rankings, seed)
        reference = WithoutAdapter(policy.model) if has_adapter(policy.model) else freeze(self._load(recipe).model)
        return RankingLesson(ImplicitScorer(policy, reference), rankings, seed)

    def _load(self, recipe: Recipe) -> Policy:
        return load_policy(
            recipe.model, device=recipe.compute.device, models_folder=self.models_folder, seed=recipe.run.seed
        )

    def _span(self, number: int) -> Span:
        """The stage's steps. What it begins with is not measured where the stage that left it did so on the same task,

        nor where the stage before did, whatever it left: a step has one evaluation, of what was learnt until then.
        """
        stages, span = self.recipe.stages, spans(self.recipe)[number]
        left_by = stage_in(stages[number].model.path)
        giver = next((part for part in stages[:number] if part.stage.title == left_by), None)
        is_handed_on = (
            giver is not None and giver.stage.kind is not StageKind.REWARD_MODEL and giver.task == stages[number].task
        )
        is_measured = is_handed_on or (number > 0 and stages[number - 1].stage.kind.leaves_policy)
        return replace(span, is_measured=is_measured)


def run(
    recipe: Recipe,
    checkpoints: Path,
    link: Link,
    *,
    models_folder: Path,
    replay: Sequence[CommandApplied] = (),
    told: Collection[int] | None = None,
    ranks: Ranks = ALONE,
    crew: Crew | None = None,
) -> Ending:
    """Run the recipe's stages to their end, or as far as is wanted.

    Goes on from the newest whole checkpoint in `checkpoints`, if there is one. `replay` are the knob changes that
    earlier attempts of this run applied: those after the checkpoint take effect again at their steps. Steps after the
    checkpoint are told again, with the same content on a CPU; so is the checkpoint, where its step is not in `told`:
    the attempt that saved it died first. Each of several processes, the `ranks`, makes this same call. The `crew` draws
    some of its answers. What cannot go on by trying again, want of memory too, is told as RunBroke, and raised as a
    PonderError.
    """
    torch.set_num_threads(recipe.compute.threads or torch.get_num_threads())
    place = Place(link, recipe.steps)
    place.enter(LOAD, 0)
    whole = Run(recipe, checkpoints, link, place, models_folder, replay, ranks, crew)
    try:
        return _read(whole, told)
    except RankLost:
        raise  # nothing is wrong with the run
    except Exception as raised:
        if is_want_of_memory(raised):
            error: PonderError = explain_want_of_memory(raised, place.phase)
        elif isinstance(raised, PonderError):
            error = raised
        else:
            raise  # a bug, which ends with its traceback
        link.emit(RunBroke(place.step, place.phase, error.message, error.hint))
        raise error from raised.__cause__


def _read(whole: Run, told: Collection[int] | None) -> Ending:
    restored, complaints = load_newest(whole.checkpoints)
    for complaint in complaints:
        log.warning("passed over a checkpoint: %s", complaint)
    if not complaints and whole.ranks.is_first:
        tidy(whole.checkpoints)
    is_own = restored is not None and restored.step > whole.recipe.fork.step
    if restored is not None and is_own and told is not None and restored.step not in told:
        saved = describe(whole.checkpoints / checkpoint_name(restored.step))
        whole.place.untold = CheckpointSaved(restored.step, saved.folder, saved.size_bytes, saved.sha256)
    if len(set(whole.ranks.gather([restored.step if restored else 0]))) > 1:
        raise CheckpointError("the processes of this run do not see the same checkpoints", "try again")
    restored = _at_fork(whole.recipe, restored)
    outcome, step = Ending.FINISHED, 0
    for number, own in _left(whole.recipe, restored):
        chapter = whole.stage(number, own)
        outcome, step = chapter.read(), chapter.step
        if outcome is not Ending.FINISHED:
            break
    whole.link.emit(RunEnded(step, outcome))
    return outcome


def _at_fork(recipe: Recipe, restored: Restored | None) -> Restored | None:
    """Where a fork's way parts from its parent's, the recipe's knobs hold and not those of the checkpoint."""
    fork = recipe.fork
    if not fork.run:
        return restored
    if restored is None or restored.step < fork.step:
        raise CheckpointError(
            f"the checkpoint of step {fork.step}, at which `{fork.run}` was forked, is not whole",
            f"`ponder fork {fork.run}` at another step",
        )
    if restored.step > fork.step:
        return restored
    knobs = msgspec.to_builtins(recipe.stage_after(fork.step).knobs)
    return replace(restored, state={**restored.state, "knobs": knobs})


def _left(recipe: Recipe, restored: Restored | None) -> list[tuple[int, Restored | None]]:
    """The stages that are not over, by number, with the checkpoint that the first of them goes on from."""
    found = spans(recipe)
    if restored is None:
        return [(number, None) for number in range(len(found))]
    step = restored.step
    first = next((number for number, span in enumerate(found) if step < span.last), len(found) - 1)
    belongs = step > found[first].before or first == 0
    return [(first, restored if belongs else None), *((number, None) for number in range(first + 1, len(found)))]
