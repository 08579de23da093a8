"""Answers laid out as the rows of a forward pass: padded, or packed several to a row.

Legend: B rows, T positions, N answer tokens of all answers on one flat axis, in the order of the answers.

    padded    one answer a row, filled on the right, where causal attention cannot look: no mask, no positions
    packed    several answers a row, each with positions from 0: transformers then keeps them apart by itself, as long
              as it is given positions, no mask and no cache (`masking_utils.find_packed_sequence_indices`)

What is left of a packed row is filled with positions 0, each a sequence of its own. A packed row attends through a
dense T x T mask, so rows stay short (`ROW_TOKENS`) unless one answer is longer. Deliberately left out: whether a model
honours restarted positions (`trainer.policy` tries it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ROW_TOKENS = 256
"""A packed row is filled up to so many positions, or to the longest answer."""


@dataclass(frozen=True)
class Rows:
    """What is forwarded, and where in it the answers' tokens are predicted."""

    ids_BT: Tensor  # noqa: N815  # shapes ride in names
    position_BT: Tensor | None  # noqa: N815
    """None where every row is one sequence from 0."""
    place_N: Tensor  # noqa: N815
    """On the flattened B T axis, the position whose logits predict each answer token."""


def lay_out(
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    *,
    pad_id: int,
    device: torch.device,
    packs: bool,
) -> Rows:
    """The rows of these answers, each after its prompt."""
    texts = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    lengths = [len(text) for text in texts]
    rows = pack(lengths) if packs else [[place] for place in range(len(texts))]
    longest = max(sum(lengths[place] for place in row) for row in rows)
    ids: list[list[int]] = []
    positions: list[list[int]] = []
    start_of: dict[int, int] = {}
    for number, row in enumerate(rows):
        ids.append([])
        positions.append([])
        for place in row:
            start_of[place] = number * longest + len(ids[-1])
            ids[-1] += texts[place]
            positions[-1] += range(lengths[place])
        gap = longest - len(ids[-1])
        ids[-1] += [pad_id] * gap
        positions[-1] += [0] * gap
    places = [
        start_of[place] + position
        for place, (prompt, text) in enumerate(zip(prompts, texts, strict=True))
        for position in range(len(prompt) - 1, len(text) - 1)
    ]
    return Rows(
        torch.tensor(ids, device=device),
        torch.tensor(positions, device=device) if packs else None,
        torch.tensor(places, device=device),
    )


def pack(lengths: Sequence[int]) -> list[list[int]]:
    """Which answers share a row: the longest first, each into the fullest row that still takes it.

    >>> pack([30, 200, 100, 20])
    [[1, 0, 3], [2]]
    """
    capacity = max([*lengths, ROW_TOKENS])
    rows: list[list[int]] = []
    room: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        fitting = [row for row, left in enumerate(room) if left >= lengths[place]]
        row = min(fitting, key=lambda row: room[row], default=len(rows))
        if row == len(rows):
            rows.append([])
            room.append(capacity)
        rows[row].append(place)
        room[row] -= lengths[place]
    return rows


def count_positions(lengths: Sequence[int], *, packs: bool) -> int:
    """Positions that are forwarded for answers of these lengths (prompts included), padding and all.

    >>> count_positions([30, 200, 100, 20], packs=False), count_positions([30, 200, 100, 20], packs=True)
    (800, 500)
    """
    if not packs:
        return len(lengths) * max(lengths)
    rows = pack(lengths)
    return len(rows) * max(sum(lengths[place] for place in row) for row in rows)
