"""What the frozen start model sees in each answer: the features that the live reward model reads.

Legend: A answers, N their tokens on one flat axis, D width, F = 2 D features.

    features(q, o) = [mean of h over the answer's tokens, h at its last token],   h the start model's last hidden state

The backbone never learns, so that a feature means the same in every step of a run and a label needs no forward pass.
Where the reference is the start model, too, the same pass gives its log-probs. On disk, beside the checkpoints:

    features/step-000025.safetensors
        features (A, F)   float16, in the order of group and index
        group, index (A,) int32: where in the step each answer is

A file with its final name is whole. The newest `KEPT_STEPS` stay; whoever learns from older answers has taken their
rows by then (`daemon.rm_worker`). Deliberately left out: what is read in the features (`trainer.live_reward`).
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ponder.knobs import Knobs
from ponder.paths import make_private_folder
from trainer.answers import MOST_HALF, Answer
from trainer.pieces import Placed, pieces
from trainer.policy import Policy, hidden_and_logps, last_hidden
from trainer.reference import Reference
from trainer.rows import Rows, lay_out

log = logging.getLogger(__name__)

KEPT_STEPS = 300
SUFFIX = ".safetensors"
_FILE = re.compile(r"step-(\d{6,})\.safetensors")


@dataclass(frozen=True)
class StepFeatures:
    """The features of a step's answers."""

    features_AF: Tensor  # noqa: N815  # shapes ride in names
    places: list[tuple[int, int]]
    """(group, index) of each row."""

    def row(self, group: int, index: int) -> Tensor | None:
        """(F,), or None where there is no such answer."""
        place = (group, index)
        return self.features_AF[self.places.index(place)] if place in self.places else None


@torch.no_grad()
def read_features(answers: Sequence[Answer], policy: Policy, reference: Reference, knobs: Knobs) -> Tensor:
    """(A, F) float16 on the CPU, in the order of the answers; an answer without a token has zeros.

    Writes the reference's log-probs into the answers where the reference is the model that was asked.
    """
    began_s = time.perf_counter()
    model = reference.frozen_start
    found: dict[int, Tensor] = {}
    written = [answer for answer in answers if answer.length]
    for piece in pieces(written, knobs.optim.micro_batch_tokens, policy.layout_for(model)):
        ids = [answer.sampled.ids for answer in piece]
        rows, hidden_PD, logp_N = hidden_and_logps(
            policy, model, [answer.prompt_ids for answer in piece], ids, knobs.sampling.temperature
        )
        lengths = [len(own) for own in ids]
        if logp_N is not None and reference.model is model:
            for answer, logps in zip(piece, torch.split(logp_N, lengths), strict=True):
                answer.reference_logps = answer.sampled.of_own(logps.tolist())
        found.update(zip(map(id, piece), _pool(hidden_PD, rows, lengths), strict=True))
    width = 2 * int(policy.model.config.get_text_config().hidden_size)
    reference.seconds += time.perf_counter() - began_s
    return torch.stack([found.get(id(answer), torch.zeros(width, dtype=torch.float16)) for answer in answers])


@torch.no_grad()
def features_of(
    policy: Policy, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], budget_tokens: int
) -> Tensor:
    """(A, F) as `read_features` has them, where the policy is the start model itself; every answer has a token."""
    texts = [
        Placed(place, list(prompt), len(answer))
        for place, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
    ]
    found: dict[int, Tensor] = {}
    for piece in pieces(texts, budget_tokens, policy.layout):
        ids = [answers[text.place] for text in piece]
        rows = lay_out(
            [text.prompt_ids for text in piece], ids, pad_id=policy.pad_id, device=policy.device, layout=policy.layout,
            keeps_last=True,
        )  # fmt: skip
        hidden_PD = last_hidden(policy, policy.model, rows).flatten(0, 1)
        pooled_AF = _pool(hidden_PD, rows, [len(own) for own in ids])
        found.update({text.place: features_F for text, features_F in zip(piece, pooled_AF, strict=True)})
    return torch.stack([found[place] for place in range(len(answers))])


def _pool(hidden_PD: Tensor, rows: Rows, lengths: Sequence[int]) -> Tensor:
    """The features of these answers; a token's own place is the one that predicts its next."""
    means = [
        hidden_PD[torch.cat([before[1:], last[None]])].float().mean(0)
        for before, last in zip(torch.split(rows.place_N, list(lengths)), rows.last_A, strict=True)
    ]
    features_AF = torch.cat([torch.stack(means), hidden_PD[rows.last_A].float()], 1)
    return features_AF.clamp(-MOST_HALF, MOST_HALF).half().cpu()


# ---- on disk


def features_path(folder: Path, step: int) -> Path:
    """The file of a step's features."""
    return folder / f"step-{step:06d}{SUFFIX}"


def write_features(folder: Path, step: int, places: Sequence[tuple[int, int]], features_AF: Tensor) -> None:
    """Put a step's features on disk, all or none of them, and let go of old ones."""
    make_private_folder(folder)
    order = sorted(range(len(places)), key=lambda row: places[row])
    final = features_path(folder, step)
    draft = final.with_suffix(".draft")
    tensors = {
        "features": features_AF[order].contiguous(),
        "group": torch.tensor([places[row][0] for row in order], dtype=torch.int32),
        "index": torch.tensor([places[row][1] for row in order], dtype=torch.int32),
    }
    try:
        save_file(tensors, draft)
        draft.rename(final)
    except (OSError, SafetensorError) as error:  # a full disk: what is ranked of this step teaches nothing
        draft.unlink(missing_ok=True)
        log.warning("the features of step %d are not kept: %s", step, error)
    for old in kept_steps(folder)[KEPT_STEPS:]:
        with contextlib.suppress(FileNotFoundError):
            features_path(folder, old).unlink()


def kept_steps(folder: Path) -> list[int]:
    """The steps whose features are on disk, newest first."""
    found = [_FILE.fullmatch(path.name) for path in folder.glob(f"step-*{SUFFIX}")]
    return sorted((int(match[1]) for match in found if match), reverse=True)


def load_features(folder: Path, step: int) -> StepFeatures | None:
    """A step's features; None where they are gone, or cannot be read."""
    try:
        tensors = load_file(features_path(folder, step))
        places = list(zip(tensors["group"].tolist(), tensors["index"].tolist(), strict=True))
        return StepFeatures(tensors["features"], places)
    except (OSError, KeyError, SafetensorError):
        return None


def is_finite(features_F: Tensor) -> bool:
    """Whether an answer can be scored by these features."""
    return math.isfinite(features_F.float().sum().item())
