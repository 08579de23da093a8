"""What a run's checkpoints are worth: what each was measured at, which is the best, which are pinned.

    checkpoints/step-000025/manifest.json    files and hashes, the stage, and what the policy measured there
    checkpoints/pinned/step-000025           an empty file: this one stays, however old

A pin is a file of its own beside what it keeps, so that trainer and daemon see it without asking each other, dead or
alive. Deliberately left out: writing, reading and deleting checkpoints, which is the trainer's (`trainer.checkpoint`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from ponder import metrics
from ponder.errors import CheckpointError
from ponder.metrics import METRICS, Better
from ponder.paths import checkpoint_name, saved_steps, sync_path

MANIFEST = "manifest.json"
PINNED = "pinned"
JUDGED_BY = (
    metrics.EVAL_ACCURACY, metrics.EVAL_PAIR_ACCURACY, metrics.EVAL_LOSS, metrics.EVAL_RANKING_LOSS,
    metrics.REWARD_MEAN, metrics.RANKING_LOSS, metrics.LOSS,
)  # fmt: skip
"""By the first of these that was measured one checkpoint is better than another: held-out figures before training's."""


class Manifest(msgspec.Struct, frozen=True):
    """What a complete checkpoint holds."""

    format: int
    step: int
    files: dict[str, tuple[int, str]]
    """Size in bytes and SHA-256 of each file."""
    stage: str = ""
    scores: dict[str, float] = {}
    """What the policy was measured at after this very step, of `JUDGED_BY`."""
    keep: int = 0
    """So many of the newest were to stay when it was written, this one too; 0 where nobody wrote it down."""
    spare: list[int] = []
    """Steps whose checkpoints were to stay besides."""


_decoder = msgspec.json.Decoder(Manifest)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint, or CheckpointError."""
    try:
        return _decoder.decode((folder / MANIFEST).read_bytes())
    except (OSError, msgspec.MsgspecError) as error:
        raise CheckpointError(f"`{folder / MANIFEST}` cannot be read: {error}") from error


def read_manifests(root: Path) -> list[Manifest]:
    """Those of all checkpoints in `root` that can be read, newest first."""
    found = []
    for step in saved_steps(root):
        try:
            found.append(read_manifest(root / checkpoint_name(step)))
        except CheckpointError:  # whoever loads it says so
            continue
    return found


def best_step(manifests: Iterable[Manifest]) -> int | None:
    """The best of the newest one's stage, by the first of `JUDGED_BY` that any was measured at.

    Of equals the newest; None where none was measured. Figures of two stages may have been measured on two tasks.

    >>> def saved(step: int, **scores: float) -> Manifest:
    ...     return Manifest(1, step, {}, "rl", {name.replace("_", "/"): score for name, score in scores.items()})
    >>> best_step([saved(3, reward_mean=0.9), saved(2, eval_accuracy=0.5), saved(1, eval_accuracy=0.2)])
    2
    >>> best_step([saved(3, reward_mean=0.5), saved(2, reward_mean=0.5), saved(1)])
    3
    """
    newest_first = sorted(manifests, key=lambda manifest: -manifest.step)
    rivals = [manifest for manifest in newest_first if manifest.stage == newest_first[0].stage]
    for name in JUDGED_BY:
        sign = -1.0 if METRICS[name].better is Better.DOWN else 1.0
        measured = [manifest for manifest in rivals if name in manifest.scores]
        if measured:
            return max(measured, key=lambda manifest: sign * manifest.scores[name]).step
    return None


def scores_of(figures: Mapping[str, float]) -> dict[str, float]:
    """Of all that was measured, what checkpoints are judged by; a figure that is no number judges nothing."""
    return {name: figures[name] for name in JUDGED_BY if math.isfinite(figures.get(name, math.nan))}


def set_pin(root: Path, step: int, is_to_stay: bool) -> None:
    """Let the checkpoint of `step` stay until it is unpinned, or let the next one push it out; raises OSError."""
    if is_to_stay == is_pinned(root, step):
        return
    if is_to_stay:
        (root / PINNED).mkdir(mode=0o700, exist_ok=True)
        pin_of(root, step).touch(mode=0o600)
    else:
        pin_of(root, step).unlink()
    sync_path(root / PINNED)


def is_pinned(root: Path, step: int) -> bool:
    return os.path.lexists(pin_of(root, step))


def pin_of(root: Path, step: int) -> Path:
    return root / PINNED / checkpoint_name(step)
