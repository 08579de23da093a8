"""Rankings as people gave them into labels that can be fitted: each answer's features are found, and kept.

    features/step-000025.safetensors      what the trainer writes, for a while
    reward_model/ranked/7.safetensors     a ranking's own rows, copied when it is first seen: they outlive the step's

Answers stand in the order of step, group and index, so that nothing depends on the order in which they were shown.
An imported ranking's answers were never sampled: the start model reads them when it is first seen.
A ranking whose features are gone, or whose step was done again and came out otherwise, teaches nothing and is counted.
Deliberately left out: asking for rankings (`daemon.rm_worker`), and the fit (`trainer.live_reward`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ponder.paths import make_private_folder
from ponder.ranking import Stream, Verdict
from ponder.wire import RankingRow
from trainer.features import kept_steps, load_features
from trainer.live_reward import Basis, Label, make_basis
from trainer.reward_versions import load_basis, write_basis

SAMPLE_ROWS = 256
"""The basis is made of the run's first answers, at least so many."""
ROWS = "features"


@dataclass
class Ranked:
    """The rankings of a run that stand, as labels."""

    features: Path
    """The folder that the trainer writes."""
    folder: Path
    """The folder of the live reward model."""
    basis: Basis | None = None
    basis_sha256: str = ""
    labels: dict[int, Label] = field(default_factory=dict)
    """By the ranking's number."""
    lost: set[int] = field(default_factory=set)
    """Rankings of which nothing can be learnt."""
    waiting: dict[int, RankingRow] = field(default_factory=dict)
    """Rankings that came before there was a basis."""
    read: Callable[[RankingRow], Tensor | None] | None = None
    """Has an imported ranking's answers read by the start model, (K, F), for nobody else has; None: they are lost."""

    def find_basis(self, dimensions: int) -> bool:
        """Whether there is a basis: that of the folder, or one made of the first answers, once there are enough."""
        if self.basis is None:
            known = load_basis(self.folder)
            if known is None:
                sample = self._sample()
                if sample is None:
                    return False
                write_basis(self.folder, make_basis(sample, dimensions))
                known = load_basis(self.folder)
            if known is None:
                raise AssertionError("written above")
            self.basis, self.basis_sha256 = known
        self.add(list(self.waiting.values()))
        return True

    def add(self, rows: Iterable[RankingRow]) -> None:
        """Learn from these, too; each is looked at once."""
        for row in rows:
            if row.id in self.labels or row.id in self.lost or row.verdict is Verdict.SKIPPED:
                continue
            found = self._rows(row)
            if found is None:
                self.lost.add(row.id)
            elif self.basis is None:
                self.waiting[row.id] = row
            else:
                self.waiting.pop(row.id, None)
                self.labels[row.id] = _label(row, self.basis.project(found))

    def drop(self, ids: Sequence[int]) -> bool:
        """Forget those that were taken back; whether there was one."""
        known = [number for number in ids if number in self.labels or number in self.waiting]
        for number in known:
            self.labels.pop(number, None)
            self.waiting.pop(number, None)
        return bool(known)

    def first(self, most: int) -> list[Label]:
        """The labels, oldest first: so many of them, or all where `most` is 0."""
        numbers = sorted(self.labels)
        return [self.labels[number] for number in (numbers[:most] if most else numbers)]

    # ---- inside

    def _sample(self) -> Tensor | None:
        rows: list[Tensor] = []
        for step in reversed(kept_steps(self.features)):
            found = load_features(self.features, step)
            if found is not None:
                rows.append(found.features_AF[found.features_AF.float().isfinite().all(1)])
            if sum(map(len, rows)) >= SAMPLE_ROWS:
                return torch.cat(rows)
        return None

    def _rows(self, row: RankingRow) -> Tensor | None:
        """(K, F) float16 in the order of `in_order`; kept for the next time."""
        path = self.folder / "ranked" / f"{row.id}.safetensors"
        with contextlib.suppress(OSError, KeyError, SafetensorError):
            return load_file(path)[ROWS]
        features_KF = self.read(row) if self.read and row.stream is Stream.IMPORTED else self._stored(row)
        if features_KF is None or not features_KF.float().isfinite().all():
            return None
        make_private_folder(path.parent)
        draft = path.with_suffix(".draft")
        with contextlib.suppress(OSError, SafetensorError):  # a full disk: the step's file has them for a while
            save_file({ROWS: features_KF}, draft)
            draft.rename(path)
        return features_KF

    def _stored(self, row: RankingRow) -> Tensor | None:
        """Those that the trainer wrote."""
        found: list[Tensor] = []
        steps = {step: load_features(self.features, step) for step in {answer.step for answer in row.answers}}
        for answer in in_order(row):
            step = steps[row.answers[answer].step]
            features_F = step.row(row.answers[answer].group, row.answers[answer].index) if step else None
            if features_F is None or row.answers[answer].is_rewritten:
                return None
            found.append(features_F)
        return torch.stack(found)


def said_bad(row: RankingRow) -> list[bool]:
    """Which answers are not acceptable at all, in the order of `in_order`."""
    is_all_bad = row.verdict is Verdict.ALL_BAD
    return [is_all_bad or row.answers[place].is_flagged for place in in_order(row)]


def in_order(row: RankingRow) -> list[int]:
    """Places of the answers in the order of step, group and index."""
    return sorted(
        range(len(row.answers)),
        key=lambda place: (row.answers[place].step, row.answers[place].group, row.answers[place].index),
    )


def _label(row: RankingRow, components_KD: Tensor) -> Label:
    answers = [row.answers[place] for place in in_order(row)]
    return Label(
        row.ranking, row.prompt, row.step, components_KD, [answer.rank for answer in answers], said_bad(row),
        row.stream.is_unbiased,
    )  # fmt: skip
