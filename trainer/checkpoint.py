"""All of a run on disk, at once or not at all.

    checkpoints/step-000025/
        model.safetensors      the policy's weights, with config.json and the tokenizer: a model like any other;
                               or adapter_model.safetensors with adapter_config.json, where an adapter learns
        optimizer.safetensors  AdamW's moments, `parameter.exp_avg` and so on
        moments/               these, where each process had a share of them (`trainer.moments`); format 2
        reference.safetensors  the KL reference, only when it is no longer the start model
        pool.safetensors       the policy as it was, of a run that plays a game: every snapshot of the pool
        critic.safetensors     the value head (and value model), with critic_optimizer.safetensors, where there is one
        reward_head.safetensors  the head of a reward model, with reward_model.json, which says that it is one
        state.json             step, cursor, knobs, and the state of every random generator, in hex
        manifest.json          size and SHA-256 of every file above, and what was measured; written last

Everything is written into `.step-000025.tmp`, synced, and renamed: a folder with its final name is complete. One that
goes is renamed to `.step-000025.gone` first. The newest stay, the best, and the pinned (`ponder.checkpoints`); what a
death left lying goes when the run goes on. When a file does not match the manifest the checkpoint before it is used.
Nothing is pickled. Deliberately left out: what a run consists of (`trainer.run_state` knows).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import re
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ponder.checkpoints import MANIFEST, Manifest, best_step, is_pinned, read_manifest, read_manifests
from ponder.errors import CheckpointError
from ponder.paths import checkpoint_name, saved_steps, sync_path

log = logging.getLogger(__name__)

ROOM_WAIT_S = 1.0
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The last where a limit on the size of files (`ulimit -f`) leaves no room."""

FORMAT, SHARED_FORMAT = 1, 2
MOMENTS = "moments"
TENSORS = ".safetensors"
GONE = ".gone"


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was written."""

    folder: str
    size_bytes: int
    sha256: str


class Room:
    """Waits for room on a full disk, and says so once; `tell_full` hears when that begins, and when it is over."""

    def __init__(self, tell_full: Callable[[bool], None]) -> None:
        self._tell_full, self._is_waited_for = tell_full, False

    def wait(self, who_waits: str) -> None:
        if not self._is_waited_for:
            log.warning("the disk is full: %s for room", who_waits)
            self._tell_full(True)
        self._is_waited_for = True
        time.sleep(ROOM_WAIT_S)

    def end(self) -> None:
        """What waited, if it did, is written."""
        if self._is_waited_for:
            self._tell_full(False)


@dataclass(frozen=True)
class Restored:
    """A checkpoint that was read: tensors by file, and the state."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    """By file: `model` or `adapter_model`, `optimizer`, and what else was saved beside them."""
    state: dict[str, object]
    shares: Path | None = None
    """Where the moments lie, of which each process had a share."""
    scores: dict[str, float] = field(default_factory=dict)


def save_checkpoint(
    root: Path,
    step: int,
    *,
    model: PreTrainedModel,
    weights: Mapping[str, Tensor] | None = None,
    tokenizer: PreTrainedTokenizerBase,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, object],
    keep: int,
    files: Mapping[str, bytes] | None = None,
    shares: Path | None = None,
    spare: Collection[int] = (),
    stage: str = "",
    scores: Mapping[str, float] | None = None,
    tell_full: Callable[[bool], None] = lambda _: None,
) -> Saved:
    """Write the checkpoint of `step` below `root`, atomically; keep the newest `keep`, the best, the pinned, `spare`.

    `weights` are the model's where it does not have them all itself; `shares` is the folder with the moments of which
    each process has written a share: it becomes a part of the checkpoint. `scores` say how good the policy of `stage`
    is after this step (`ponder.checkpoints`).
    Where the disk is full it waits for room, as the journal does: nothing is lost, and the run goes on by itself.
    `tell_full` hears when that begins, and when it is over.
    """
    final = root / checkpoint_name(step)
    draft = root / f".{final.name}.tmp"
    room = Room(tell_full)
    while True:
        try:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            model.save_pretrained(draft, state_dict=dict(weights) if weights else None)
            tokenizer.save_pretrained(draft)
            _write_rest(draft, tensors, files or {}, state)
            if shares:
                shares.rename(draft / MOMENTS)
            written = {str(path.relative_to(draft)): (path.stat().st_size, _sha256(path)) for path in _files(draft)}
            manifest = msgspec.json.encode(
                Manifest(
                    SHARED_FORMAT if shares else FORMAT, step, written, stage, dict(scores or {}), keep, sorted(spare)
                )
            )
            _seal(draft, manifest)
            shutil.rmtree(final, ignore_errors=True)
            draft.rename(final)
            sync_path(root)
            break
        except (OSError, SafetensorError) as error:
            if shares and (draft / MOMENTS).exists():
                (draft / MOMENTS).rename(shares)
            shutil.rmtree(draft, ignore_errors=True)
            if not is_full_disk(error):
                raise CheckpointError(
                    f"cannot write the checkpoint `{final}`: {getattr(error, 'strerror', None) or error}",
                    "free some space, or set PONDER_HOME",
                ) from error
            room.wait(f"the checkpoint `{final}` waits")
    room.end()
    _let_go(root, keep, spare)
    size = sum(size for size, _ in written.values()) + len(manifest)
    return Saved(final.name, size, hashlib.sha256(manifest).hexdigest())


def _write_rest(
    draft: Path,
    tensors: Mapping[str, Mapping[str, Tensor]],
    files: Mapping[str, bytes],
    state: Mapping[str, object],
) -> None:
    """All beside the model but shares and the manifest."""
    for name, group in tensors.items():
        save_file({key: value.detach().contiguous() for key, value in group.items()}, draft / f"{name}.safetensors")
    for other, content in files.items():
        (draft / other).write_bytes(content)
    (draft / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")


def _seal(draft: Path, manifest: bytes) -> None:
    """Write the manifest, and return when everything is on the disk itself."""
    (draft / MANIFEST).write_bytes(manifest)
    for path in [*draft.rglob("*"), draft]:
        sync_path(path)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def tidy(root: Path) -> None:
    """Do what a trainer that died while it saved did not come to: let go of old checkpoints, and of its draft."""
    for draft in root.glob(".step-*.tmp"):
        shutil.rmtree(draft, ignore_errors=True)
    manifests = read_manifests(root)
    if manifests and manifests[0].keep:
        _let_go(root, manifests[0].keep, manifests[0].spare)


def _let_go(root: Path, keep: int, spare: Collection[int]) -> None:
    """Delete what need not stay.

    A person may pin one in the same moment: it is set aside first, looked at once more, and put back if it is pinned.
    """
    old = list_checkpoints(root)[keep:]
    best = best_step(read_manifests(root)) if old else None
    for step, folder in old:
        if step != best and step not in spare and not is_pinned(root, step):
            with contextlib.suppress(OSError):  # it stays, then
                folder.rename(root / f".{folder.name}{GONE}")
    for aside in root.glob(f".step-*{GONE}"):
        folder = root / aside.name[1:].removesuffix(GONE)
        if is_pinned(root, int(folder.name.removeprefix("step-"))) and not folder.exists():
            with contextlib.suppress(OSError):
                aside.rename(folder)
        else:
            shutil.rmtree(aside, ignore_errors=True)


def is_full_disk(error: OSError | SafetensorError) -> bool:
    """Whether only room is missing; safetensors has the system's number in its words only.

    >>> is_full_disk(OSError(28, "No space left")), is_full_disk(SafetensorError("I/O error: (os error 28)"))
    (True, True)
    >>> is_full_disk(PermissionError(13, "no")), is_full_disk(SafetensorError("I/O error: (os error 13)"))
    (False, False)
    """
    if isinstance(error, OSError):
        return error.errno in FULL
    said = re.search(r"\(os error (\d+)\)", str(error))
    return said is not None and int(said[1]) in FULL


def list_checkpoints(root: Path) -> list[tuple[int, Path]]:
    """(step, folder) of every complete-looking checkpoint, newest first."""
    return [(step, root / checkpoint_name(step)) for step in saved_steps(root)]


def load_newest(root: Path) -> tuple[Restored | None, list[str]]:
    """The newest checkpoint whose files match its manifest, and why newer ones were passed over.

    None when there is no checkpoint at all. Raises CheckpointError when there are some and none is whole.
    """
    complaints: list[str] = []
    checkpoints = list_checkpoints(root)
    for _, folder in checkpoints:
        try:
            return load_checkpoint(folder), complaints
        except CheckpointError as error:
            complaints.append(error.message)
    if complaints:
        raise CheckpointError(f"no checkpoint in `{root}` is whole: {complaints[0]}", "start the run anew")
    return None, []


def load_checkpoint(folder: Path) -> Restored:
    """The checkpoint in `folder`; CheckpointError when a file is missing or was changed."""
    manifest = read_manifest(folder)
    for name, (size, sha256) in manifest.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size or _sha256(path) != sha256:
            raise CheckpointError(f"`{path}` is not what was saved", "the checkpoint before it is used")
    if manifest.format not in (FORMAT, SHARED_FORMAT):
        raise CheckpointError(
            f"`{folder}` has the format {manifest.format}", f"this ponder reads formats {FORMAT} and {SHARED_FORMAT}"
        )
    try:
        tensors = {
            name.removesuffix(TENSORS): load_file(folder / name)
            for name in manifest.files
            if name.endswith(TENSORS) and "/" not in name
        }
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"`{folder}` cannot be read: {error}") from error
    shares = folder / MOMENTS if manifest.format == SHARED_FORMAT else None
    return Restored(manifest.step, tensors, state, shares, manifest.scores)


def describe(folder: Path) -> Saved:
    """What was told of the checkpoint in `folder` when it was saved."""
    manifest = (folder / MANIFEST).read_bytes()
    size = sum(size for size, _ in read_manifest(folder).files.values()) + len(manifest)
    return Saved(folder.name, size, hashlib.sha256(manifest).hexdigest())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
