"""Runs of several stages: one that is never interrupted, of which all that lay on disk at any checkpoint is kept."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

import torch
from safetensors.torch import load_file

from ponder import metrics
from ponder.events import CheckpointSaved, Evaluated, StepDone, TrainerEvent
from ponder.recipe import Recipe
from trainer.link import ListLink
from trainer.stages import run

NO_MODELS = Path("no-models")
Told = tuple[Path, list[TrainerEvent]]
"""A run's folder and its events."""


def go(recipe: Recipe, folder: Path, link: ListLink | None = None) -> list[TrainerEvent]:
    """Run the recipe in the folder; its events."""
    link = link or ListLink()
    run(recipe, folder / "checkpoints", link, models_folder=NO_MODELS)
    return link.events


def read_whole(recipe: Recipe, folder: Path) -> Told:
    """A run that is never interrupted; below `kept` lies each checkpoint, and the sets as they were then."""

    def keep(event: TrainerEvent) -> None:
        if isinstance(event, CheckpointSaved):
            shutil.copytree(folder / "checkpoints" / event.folder, folder / "kept" / event.folder)
            if (folder / "sets").is_dir():
                shutil.copytree(folder / "sets", folder / "kept" / f"sets-{event.step}")

    return folder, go(recipe, folder, ListLink(keep))


def lay_out_kept(whole: Path, step: int, ends: Collection[int], folder: Path) -> None:
    """What lay on disk after `step`, in another folder; `ends` are the last steps of the stages."""
    for kept in {step} | {end for end in ends if end < step}:
        shutil.copytree(whole / f"kept/step-{kept:06d}", folder / f"checkpoints/step-{kept:06d}")
    if (whole / f"kept/sets-{step}").is_dir():
        shutil.copytree(whole / f"kept/sets-{step}", folder / "sets")


def of(events: list[TrainerEvent], *kinds: type) -> list[TrainerEvent]:
    """The events of these kinds."""
    return [event for event in events if isinstance(event, kinds)]


def figures_of(
    events: list[TrainerEvent], kinds: tuple[type, ...] = (StepDone, Evaluated)
) -> list[tuple[int, dict[str, float]]]:
    """(step, figures) of steps and evaluations, or of one of the two, without the machine's."""
    return [
        (event.step, {name: value for name, value in event.metrics.items() if not name.startswith(metrics.MACHINE)})
        for event in events
        if isinstance(event, StepDone | Evaluated) and isinstance(event, kinds)
    ]


def same(one: Path, other: Path) -> bool:
    """Whether two checkpoints hold the same tensors, to the bit."""
    first, second = _tensors(one), _tensors(other)
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {f"{path.name} {name}": t for path in folder.glob("*.safetensors") for name, t in load_file(path).items()}
