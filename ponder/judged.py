"""Who judges a run, by its recipe and what was turned in it; and so who judged each of its curves.

    the task           has a verifier, or none (`ponder.tasks.verified_parts`)
    reward.*           which parts weigh: `correct` a verifier's, `model` and `preference` learnt models', ...
    [[rewards]]        the recipe's own code
    what was turned    a part that was given weight while the run went on judges, too, in the stage in which that was
    [watched]          a loop elsewhere says it (`judges`, `part_judges`), or nobody knows

A stage's judges are all that weighed at any of its steps. Deliberately left out: the words (`ponder.judge`), and who
orders the answers that a reward model learns from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from ponder import metrics
from ponder.choices import LearntFor
from ponder.judge import Judge, JudgedBy, Judges
from ponder.rlhf import PARTS as LEARNT_PARTS
from ponder.tasks import verified_parts

if TYPE_CHECKING:
    from ponder.knobs import KnobValue
    from ponder.recipe import Recipe
    from ponder.wire import KnobChange, RunDetail

PART_JUDGES: dict[str, Judge] = {
    "correct": Judge.VERIFIER, "outcome": Judge.VERIFIER, "perfect": Judge.VERIFIER,
    "model": Judge.MODEL, **dict.fromkeys(LEARNT_PARTS, Judge.MODEL),
    **dict.fromkeys(("format", "length", "overlong", "repetition", "language"), Judge.RULES),
}  # fmt: skip
"""Who gives each part that ponder knows; every other part is a recipe's own."""
UNKNOWN = Judges(is_known=False)
REWARD = "reward."
PART = metrics.PART.removesuffix("*")

Turned = tuple[int, str, "KnobValue"]
"""After which step a knob was turned, its name, its new value."""


@dataclass(frozen=True)
class RunJudges:
    """Who judges in a run: who gives its reward, and so who judged a curve."""

    reward: Judges = UNKNOWN
    said: frozenset[Judge] | None = frozenset()
    """Whom a loop elsewhere names; None where ponder trains, and so knows."""
    own: Mapping[str, Judge] = field(default_factory=dict)
    """Who gives each part that the recipe brings itself, or that a loop elsewhere names apart."""
    unnamed: frozenset[Judge] = frozenset()
    """Whom a loop elsewhere names for all that it does not name apart."""
    is_apart: bool = False
    """Whether learnt scores never weigh for what a verifier judges."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """The run's newest, which tell which of its sources are verified."""

    def of_curve(self, name: str) -> Judges:
        """Who judged this metric."""
        metric = metrics.find_metric(name)
        match metric.judged_by if metric is not None else JudgedBy.NOBODY:
            case JudgedBy.NOBODY:
                return Judges()
            case JudgedBy.VERIFIER:
                return self._one(Judge.VERIFIER)
            case JudgedBy.MODEL:
                return self._one(Judge.MODEL)
        family, _, member = name.partition("/")
        if family in ("part", "part_std"):
            return self._of_part(member)
        if family == "source_reward":
            return self._of_source(self.figures.get(metrics.SOURCE_VERIFIED.replace("*", member)))
        return self.reward

    def seen(self, figures: Mapping[str, float]) -> RunJudges:
        """The same with the run's newest figures; parts of which nobody said anything make the reward unknown."""
        parts = {name.removeprefix(PART) for name in figures if name.startswith(PART)}
        is_whole = self.said is None or bool(self.unnamed) or parts <= self.own.keys()
        return replace(self, reward=self.reward if is_whole else UNKNOWN, figures=figures)

    def _one(self, judge: Judge) -> Judges:
        return Judges(((judge,),)) if self.said is None or judge in self.said else UNKNOWN

    def _of_part(self, part: str) -> Judges:
        if self.said is not None:
            found = {self.own[part]} if part in self.own else self.unnamed
            return Judges((tuple(found),)) if len(found) == 1 else UNKNOWN  # which of several gives it is not said
        return self._one(PART_JUDGES.get(part) or self.own.get(part.partition("/")[0], Judge.CODE))

    def _of_source(self, verified: float | None) -> Judges:
        """The reward of a source's answers, of which that share is verified."""
        if verified is None or self.said is not None:
            return self.reward
        absent = {Judge.VERIFIER} if verified == 0.0 else {Judge.MODEL} if self.is_apart and verified == 1.0 else set()
        return in_turn(tuple(judge for judge in group if judge not in absent) for group in self.reward.in_turn)


def run_judges(recipe: Recipe, turned: Iterable[Turned] = ()) -> RunJudges:
    """Who judges in a run of the recipe in which this was turned."""
    if recipe.watched.producer:
        unnamed, parts = frozenset(recipe.watched.judges), recipe.watched.part_judges
        said = unnamed | set(parts.values())
        reward = in_turn([tuple(judge for judge in Judge if judge in said)]) if said else UNKNOWN
        return RunJudges(reward, said, parts, unnamed=unnamed)
    stages = recipe.stages
    weighed: dict[str, dict[str, list[KnobValue]]] = {part.stage.title: {} for part in stages}
    for step, name, value in turned:
        weighed[recipe.stage_after(step).stage.title].setdefault(name, []).append(value)
    rewarding = [part for part in stages if part.stage.kind.samples]
    groups = [_stage_judges(part, weighed[part.stage.title]) for part in rewarding]
    own = {one.name: Judge.CODE for part in stages for one in part.rewards}
    is_apart = all(
        LearntFor.ALL not in (part.reward.learnt_for, *weighed[part.stage.title].get("reward.learnt_for", []))
        for part in rewarding
    )
    return RunJudges(in_turn(groups), None, own, is_apart=is_apart)


def judges_of(detail: RunDetail, changes: Iterable[KnobChange] = ()) -> RunJudges:
    """The same of a stored run and all that was asked of its knobs; unknown where its recipe cannot be read."""
    turned = tuple((one.applied_step, one.name, one.new) for one in changes if one.applied_step is not None)
    return _read(detail.recipe, turned).seen(detail.newest)


@lru_cache(maxsize=32)
def _read(text: str, turned: tuple[Turned, ...]) -> RunJudges:
    """Screens ask again and again, and a recipe takes milliseconds to read."""
    from ponder.errors import PonderError
    from ponder.recipe import parse_recipe

    try:
        return run_judges(parse_recipe(text, "the stored recipe"), turned)
    except PonderError:
        return RunJudges()


def why_steps(recipe: Recipe) -> str:
    """Why a stage needs an end, where a learnt model alone judges it; else empty."""
    if set(_stage_judges(recipe, {})) != {Judge.MODEL}:
        return ""
    return (
        "nothing but a reward model judges it, which no verifier corrects: the longer a policy learns from that alone, "
        "the further it goes from what people meant (arXiv:2210.10760), so that it needs a budget"
    )


def in_turn(groups: Iterable[tuple[Judge, ...]]) -> Judges:
    """Judges of one stage after another; who judges on is said once, and who judges nothing not at all."""
    kept: list[tuple[Judge, ...]] = []
    for group in groups:
        if group and group not in kept[-1:]:
            kept.append(group)
    return Judges(tuple(kept))


def _stage_judges(part: Recipe, turned: Mapping[str, list[KnobValue]]) -> tuple[Judge, ...]:
    """All whose word weighed in the stage at any time."""
    if not part.stage.kind.samples:
        return ()
    given = {*verified_parts(part.task.name, part.task.options), *(name for name, judge in PART_JUDGES.items()
             if judge is not Judge.VERIFIER)}  # fmt: skip
    weights = msgspec.structs.asdict(part.reward)
    found = {
        judge
        for name, judge in PART_JUDGES.items()
        if name in given and any([weights.get(name), *turned.get(REWARD + name, [])])
    }
    if any([part.reward.own, *turned.get("reward.own", [])]):
        found |= {Judge.CODE for one in part.rewards if one.weight}
        found |= {Judge.CODE if one.function else Judge.RULES for one in part.monitors if one.part.weight}
    return tuple(judge for judge in Judge if judge in found)
