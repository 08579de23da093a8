"""A disk that is full at whichever write of a checkpoint: nothing half-written is seen, and it goes on."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ponder.errors import CheckpointError
from ponder.events import SAVE, WAIT_FOR_DISK, CheckpointSaved, Progress, StepDone, TrainerEvent
from ponder.recipe import Recipe
from tests.trainer.test_loop import go, of
from trainer import checkpoint
from trainer.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint
from trainer.link import ListLink


class Disk:
    """Fails at its write number `full_at`, and at the `refusals - 1` writes that are tried then."""

    def __init__(self, full_at: int, refusals: int = 3, number: int = errno.ENOSPC) -> None:
        self.full_at, self.refusals, self.number = full_at, refusals, number
        self.writes = self.waits = 0

    def write(self) -> None:
        self.writes += 1
        if self.writes >= self.full_at and self.refusals:
            self.refusals -= 1
            raise OSError(self.number, os.strerror(self.number))

    def save_tensors(self, tensors: dict[str, torch.Tensor], path: Path) -> None:
        try:
            self.write()
        except OSError as error:
            path.write_bytes(b"half")
            raise SafetensorError(f"Error while serializing: I/O error: full (os error {error.errno})") from error
        save_file(tensors, path)

    def sync(self, _: Path) -> None:
        self.write()

    def wait(self, _: float) -> None:
        self.waits += 1


class Part:
    """What of a model or a tokenizer a checkpoint needs: files of its own in the folder."""

    def __init__(self, disk: Disk, name: str) -> None:
        self.disk, self.name = disk, name

    def save_pretrained(self, folder: Path, state_dict: object = None) -> None:  # noqa: ARG002  # a model's
        (folder / self.name).write_bytes(b"hal")
        self.disk.write()
        (folder / self.name).write_bytes(b"whole")


def save(root: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "save_file", disk.save_tensors)
    monkeypatch.setattr(checkpoint, "sync_path", disk.sync)
    monkeypatch.setattr("trainer.checkpoint.time.sleep", disk.wait)
    save_checkpoint(
        root, 2,
        model=cast("PreTrainedModel", Part(disk, "config.json")),
        tokenizer=cast("PreTrainedTokenizerBase", Part(disk, "tokenizer.json")),
        tensors={"model": {"w": torch.arange(4.0)}, "optimizer": {"m": torch.ones(3)}},
        files={"other": b"o"}, state={"step": 2}, keep=2,
    )  # fmt: skip


def test_a_checkpoint_waits_for_room_whichever_write_finds_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Disk(full_at=1000)
    save(tmp_path / "whole", whole, monkeypatch)
    for full_at in range(1, whole.writes + 1):
        root, disk = tmp_path / str(full_at), Disk(full_at)
        save(root, disk, monkeypatch)
        assert disk.waits == 3
        ((step, folder),) = list_checkpoints(root)
        restored = load_checkpoint(folder)
        assert (step, restored.state) == (2, {"step": 2})
        assert restored.tensors["model"]["w"].tolist() == [0, 1, 2, 3]
        assert [path.name for path in root.iterdir()] == [folder.name]


def test_another_failure_ends_the_waiting_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for full_at in (1, 3, 6):
        with pytest.raises(CheckpointError, match="cannot write the checkpoint"):
            save(tmp_path, Disk(full_at, number=errno.EACCES), monkeypatch)
        assert list(tmp_path.iterdir()) == []


def test_a_run_that_may_write_no_longer_file_waits_and_says_so(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's own refusal, by a limit on the size of files."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(event: TrainerEvent) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))

    def make_room(_: float) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    monkeypatch.setattr("trainer.checkpoint.time.sleep", make_room)
    link = ListLink(fill)
    try:
        go(recipe, tmp_path, link)
    finally:
        make_room(0)
    phases = [event.phase for event in link.passing if isinstance(event, Progress) and event.step == 2]
    place = phases.index(WAIT_FOR_DISK)
    assert phases[place - 1 : place + 2] == [SAVE, WAIT_FOR_DISK, SAVE]
    assert phases.count(WAIT_FOR_DISK) == 1
    assert [event.step for event in of(link, CheckpointSaved)] == [2, 4]
    assert load_checkpoint(tmp_path / "step-000002").step == 2
