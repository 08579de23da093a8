"""What a run's past is for another run: the recipe as it was at a step, and the files that lay there.

    plan_fork    which checkpoint, and the parent's recipe folded with what was applied up to it and what is to change
    share_past   checkpoints up to it and sets into the new run's folder: linked or copied, at once or not at all

A checkpoint is never written to again, so that two runs may hold the same file; a set grows, and is copied. Older
checkpoints come along, because later stages and the watchdog's way back stand on them. Deliberately left out: the store
and the queue (`daemon.handlers`), and what the trainer makes of it (`trainer.stages`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from daemon.saved import choose_step
from ponder import chain, knobs, wire
from ponder.errors import KnobError, RecipeError, Refused, StoreError
from ponder.events import CommandApplied
from ponder.knobs import KnobValue
from ponder.paths import (
    CHECKPOINTS,
    Paths,
    checkpoint_name,
    explain_file_error,
    make_private_folder,
    reward_model_beside,
    saved_steps,
    sets_beside,
    sync_path,
)  # fmt: skip
from ponder.presets import check_together
from ponder.recipe import ForkPart, Recipe, RunPart, check_judge, dump_recipe, parse_recipe

STEPS = "stage.steps"
"""What a fork may change beside live knobs."""


@dataclass(frozen=True)
class Fork:
    """A new run that shares a past."""

    step: int
    recipe: str
    changes: list[CommandApplied]
    """The knobs that it begins with changed; the recipe holds them already."""


def forkable_steps(paths: Paths, row: wire.RunRow) -> list[int]:
    """Steps of the run's own way whose checkpoints are on disk, newest first."""
    return [step for step in saved_steps(paths.checkpoints(row.name)) if step >= (row.forked_at or 0)]


def plan_fork(parent: wire.RunDetail, applied: Sequence[wire.KnobChange], request: wire.ForkRun, paths: Paths) -> Fork:
    """The fork that is asked for; raises the PonderError that says why it cannot be. `applied` come newest first."""
    row = parent.row
    step = choose_step(row.name, forkable_steps(paths, row), request.step)
    whole = parse_recipe(parent.recipe, f"the recipe of {row.name}")
    stage, place, before = stage_then(whole, applied, step)
    changed, changes = _changed(stage, step, request.changes)
    if before + changed.stage.steps <= step:
        raise Refused(
            "over", f"nothing is left to do after step {step} of `{row.name}`",
            f"`--set {STEPS}={2 * stage.stage.steps}` makes it longer",
        )  # fmt: skip
    parts = [*whole.stages[:place], changed, *whole.stages[place + 1 :]]
    run = _named(whole.run, request.name)
    parts = [msgspec.structs.replace(part, run=run, fork=ForkPart(row.name, step)) for part in parts]
    return Fork(step, dump_recipe(whole.with_stages(parts)), changes)


def stage_then(whole: Recipe, applied: Sequence[wire.KnobChange], step: int) -> tuple[Recipe, int, int]:
    """The stage that goes on after `step`, with what was applied in it up to there; its place, and where it begins.

    `applied` come newest first.
    """
    stage = whole.stage_after(step)
    place, before = _place_of(whole, stage)
    for change in reversed(applied):
        if change.applied_step is not None and before <= change.applied_step <= step:
            stage = _with_knob(stage, change.name, change.new)
    return stage, place, before


def _place_of(whole: Recipe, stage: Recipe) -> tuple[int, int]:
    """The stage's place, from 0, and the step after which it begins."""
    names = [part.stage.title for part in whole.stages]
    place = names.index(stage.stage.title)
    return place, [0, *chain.last_steps(whole.stages).values()][place]


def _changed(stage: Recipe, step: int, wanted: Mapping[str, KnobValue]) -> tuple[Recipe, list[CommandApplied]]:
    """The stage with the changes that are wanted, and each told; they hold as long as a live change: for this stage."""
    changes: list[CommandApplied] = []
    for name, value in wanted.items():
        if name == STEPS:
            stage = _with_steps(stage, value)
            continue
        knob = knobs.find_knob(name)
        if not knob.is_live:
            raise Refused("not_live", f"`{name}` is part of the past that a fork shares", "set it in a new run")
        old = knobs.get_value(stage.knobs, name)
        stage = _with_knob(stage, name, value)
        new = knobs.get_value(stage.knobs, name)
        changes.append(CommandApplied(wire.new_id(), step, "set", name, old, new))
    try:
        check_together(stage.knobs)
        if stage.stage.kind.samples:
            check_judge(stage.knobs, stage.reward_model)
    except RecipeError as error:
        raise KnobError(error.message, error.hint) from None
    return stage, changes


def _with_knob(stage: Recipe, name: str, value: KnobValue) -> Recipe:
    changed = knobs.with_value(stage.knobs, name, value)
    group = name.partition(".")[0]
    return msgspec.structs.replace(stage, **{group: getattr(changed, group)})


def _with_steps(stage: Recipe, value: KnobValue) -> Recipe:
    try:
        part = msgspec.convert(msgspec.to_builtins(stage.stage) | {"steps": value}, type(stage.stage), strict=False)
    except msgspec.ValidationError:
        raise KnobError(f"`{STEPS}` cannot be `{value}`", "it takes a number of steps") from None
    return msgspec.structs.replace(stage, stage=part)


def _named(run: RunPart, name: str) -> RunPart:
    try:
        return msgspec.convert(msgspec.to_builtins(run) | ({"name": name} if name else {}), RunPart)
    except msgspec.ValidationError:
        raise KnobError(f"a run cannot be called `{name}`", "lower-case letters, digits, `.`, `_` and `-`") from None


def share_past(source: Path, step: int, folder: Path) -> None:
    """Lay a run's past up to `step` into a folder that is made for it; when that fails, nothing is left there."""
    make_private_folder(folder)
    try:
        sets, checkpoints = sets_beside(source / CHECKPOINTS), source / CHECKPOINTS
        if sets.is_dir():
            shutil.copytree(sets, sets_beside(folder / CHECKPOINTS))
        if (versions := reward_model_beside(checkpoints)).is_dir():
            target = reward_model_beside(folder / CHECKPOINTS)
            shutil.copytree(versions, target, copy_function=_link_or_copy, ignore=shutil.ignore_patterns("*.draft"))
        draft = folder / f".{CHECKPOINTS}.draft"
        for saved in saved_steps(checkpoints):
            if saved <= step:
                name = checkpoint_name(saved)
                _share(checkpoints / name, draft / name, is_needed=saved == step)
        sync_path(draft)
        draft.rename(folder / CHECKPOINTS)
        sync_path(folder)
        sync_path(folder.parent)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise explain_file_error(error, folder) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _share(source: Path, target: Path, *, is_needed: bool) -> None:
    """Link a checkpoint's files, or copy them; one that its run deletes meanwhile is left out where it may be."""
    try:
        shutil.copytree(source, target, copy_function=_link_or_copy)
        sync_path(target)
    except (FileNotFoundError, shutil.Error) as error:
        shutil.rmtree(target, ignore_errors=True)
        if is_needed:
            raise StoreError(
                f"the checkpoint `{source}` was deleted meanwhile: its run keeps the newest only",
                "fork at a newer step, or keep more of them with `ponder set saving.keep=N`",
            ) from error


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one that knows no links
        shutil.copy2(source, target)
