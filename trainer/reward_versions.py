"""The versions of a live reward model: as files, and as what scores a batch.

    reward_model/
        basis.safetensors            mean (F,), components (D, F), sample (N, D), float64: made once for a run
        version-000012.safetensors   weights (H, D), threshold (H,), offset (H,), deviation (1,), float64
                                     in its header: version, labels, is_open, step, figures, the basis' SHA-256

A file with its final name is whole and on the disk itself; its SHA-256 names it for ever. Nothing is pickled.
Deliberately left out: how a version is fitted (`trainer.live_reward`), and when one is taken (`trainer.live_judge`).
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from msgspec import Struct
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ponder.errors import StoreError
from ponder.paths import explain_file_error, make_private_folder, sync_path
from trainer.live_reward import Basis, Fit

FORMAT = 1
CARD = "ponder"
"""The key of a file's header that holds its card."""
BASIS = "basis.safetensors"
_VERSION = re.compile(r"version-(\d{6,})\.safetensors")
TENSORS = ("mean", "components", "weights", "threshold", "offset", "deviation")


class Card(Struct, frozen=True):
    """What a version says about itself."""

    version: int
    labels: int
    is_open: bool
    step: int
    """The run's newest step when it was fitted."""
    basis: str
    """SHA-256 of the file of its basis."""
    figures: dict[str, float] = {}
    deep: int = 0
    """The deep reward model that acts in place of the heads (`trainer.deep_reward`); 0: none."""
    deep_sha256: str = ""
    """Of its file."""
    format: int = FORMAT


@dataclass(frozen=True)
class Version:
    """A version with its basis: all that scores an answer."""

    number: int
    is_open: bool
    """Whether it may act."""
    labels: int
    tensors: Mapping[str, Tensor]
    """As `TENSORS`, float64."""
    deep: int = 0
    """The deep reward model that acts in place of the heads; 0: none."""
    deep_sha256: str = ""

    def raw(self, features_AF: Tensor) -> Tensor:
        """(A, H): what each head says of these answers, float64."""
        of = self.tensors
        scores_AH: Tensor = (features_AF.double() - of["mean"]) @ of["components"].T @ of["weights"].T
        return scores_AH

    def judge(self, raw_AH: Tensor) -> tuple[Tensor, Tensor]:
        """(how many deviations above the sample's mean, how far the heads disagree on the same scale), both (A,)."""
        above_AH = (raw_AH - self.tensors["offset"]) / self.tensors["deviation"]
        return above_AH.mean(1), above_AH.std(1, correction=0)


def version_path(folder: Path, version: int) -> Path:
    """The file of a version."""
    return folder / f"version-{version:06d}.safetensors"


def newest_version(folder: Path) -> int:
    """The number of the newest version in the folder; 0 where there is none."""
    found = (_VERSION.fullmatch(path.name) for path in folder.glob("version-*"))
    return max((int(match[1]) for match in found if match), default=0)


def write_basis(folder: Path, basis: Basis) -> str:
    """Put the basis on disk; its SHA-256."""
    tensors = {"mean": basis.mean_F, "components": basis.components_DF, "sample": basis.sample_ND}
    return write_tensors(folder / BASIS, tensors, {})


def load_basis(folder: Path) -> tuple[Basis, str] | None:
    """The run's basis and its SHA-256; None where there is none yet."""
    path = folder / BASIS
    if not path.is_file():
        return None
    tensors = load_tensors(path)
    return Basis(tensors["mean"], tensors["components"], tensors["sample"]), sha256_of(path)


def write_version(folder: Path, version: int, fit: Fit, step: int, basis: str) -> str:
    """Put a version on disk; its SHA-256."""
    card = Card(version, fit.labels, fit.is_open, step, basis, fit.figures, fit.deep, fit.deep_sha256)
    tensors = {
        "weights": fit.weights_HD, "threshold": fit.threshold_H, "offset": fit.offset_H,
        "deviation": torch.tensor([fit.deviation], dtype=torch.float64),
    }  # fmt: skip
    return write_tensors(version_path(folder, version), tensors, {CARD: msgspec.json.encode(card).decode()})


def load_version(folder: Path, version: int, sha256: str = "") -> Version:
    """The version with its basis; StoreError where it is not there, not whole, or not the one that is meant."""
    path = version_path(folder, version)
    if sha256 and path.is_file() and sha256_of(path) != sha256:
        raise StoreError(f"`{path}` is not the version that was told of", "the next ranking makes a new one")
    tensors, card = load_tensors(path), read_card(path)
    known = load_basis(folder)
    if known is None or known[1] != card.basis:
        raise StoreError(f"`{folder / BASIS}` is not the one that version {version} was made with", "put it back")
    basis = known[0]
    whole = {"mean": basis.mean_F, "components": basis.components_DF, **tensors}
    tensors = {name: whole[name] for name in TENSORS}
    return Version(card.version, card.is_open, card.labels, tensors, card.deep, card.deep_sha256)


def read_card(path: Path) -> Card:
    """What the version in this file says about itself."""
    try:
        with safe_open(path, "pt") as file:
            card = msgspec.json.decode(file.metadata()[CARD], type=Card)
    except (OSError, KeyError, TypeError, SafetensorError, msgspec.MsgspecError) as error:
        raise StoreError(f"`{path}` cannot be read: {error}", "the next ranking makes a new version") from error
    if card.format != FORMAT:
        raise StoreError(f"`{path}` has the format {card.format}", f"this ponder reads format {FORMAT}")
    return card


def sha256_of(path: Path) -> str:
    """Of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def aligned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies that begin where torch lets them: a product with what lies elsewhere may have another last bit."""
    return {name: tensor.clone() for name, tensor in tensors.items()}


def load_tensors(path: Path) -> dict[str, Tensor]:
    """A file's tensors; StoreError where it cannot be read."""
    try:
        return aligned(load_file(path))
    except (OSError, SafetensorError) as error:
        raise StoreError(f"`{path}` cannot be read: {error}", "the run's folder must stay as it is") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: dict[str, str]) -> str:
    """Put a file on disk, all or nothing of it; its SHA-256."""
    make_private_folder(path.parent)
    draft = path.with_suffix(".draft")
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, draft, header)
        found = sha256_of(draft)
        sync_path(draft)
        draft.rename(path)
        sync_path(path.parent)
    except OSError as error:
        raise explain_file_error(error, path) from error
    except SafetensorError as error:
        raise StoreError(f"`{path}` cannot be written: {error}", "free some disk space", "disk_full") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
    return found
