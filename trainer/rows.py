"""Answers laid out as the rows of a forward pass: padded, packed several to a row, or behind prompts that they share.

Legend: B rows, T positions, N answer tokens of all answers on one flat axis, in the order of the answers.

    padded    one answer a row, filled on the right, where causal attention cannot look: no mask, no positions
    packed    several answers a row, each with positions from 0: transformers then keeps them apart by itself, as long
              as it is given positions, no mask and no cache (`masking_utils.find_packed_sequence_indices`)
    shared    one long row, no padding: each prompt once, then the answers, each with positions that go on from its
              prompt's; blocks tell attention who sees whom (`trainer.attention`)

What is left of a packed row is filled with positions 0, each a sequence of its own. A packed row attends through a
dense T x T mask, so rows stay short (`ROW_TOKENS`) unless one answer is longer. An answer's last token is forwarded
only where something is asked at it. Deliberately left out: whether a model can do what a layout needs
(`trainer.policy` tries it).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ponder.choices import Layout
from trainer.attention import Blocks, make_block

ROW_TOKENS = 256
"""A packed row is filled up to so many positions, or to the longest answer."""
BLOCK_TOKENS, BLOCK_SLACK = 256, 1.125
"""A block of attention takes on longer sequences while its rectangle is at most so many times its tokens, or small."""

Ids = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Rows:
    """What is forwarded, and where in it the answers' tokens are predicted. Places are on the flattened B T axis."""

    ids_BT: Tensor  # noqa: N815  # shapes ride in names
    position_BT: Tensor | None  # noqa: N815
    """None where every row is one sequence from 0."""
    place_N: Tensor  # noqa: N815
    """The position whose logits predict each answer token."""
    last_A: Tensor  # noqa: N815
    """That of each answer's last token, where `keeps_last` was asked."""
    blocks: Blocks | None = None
    """For attention, where prompts are shared."""
    order: tuple[Sequence[int], Sequence[int]] = ((), ())
    """There, too: whose prompts stand on the row, one after the other, and then whose answers."""


class Written(Protocol):
    """A prompt, and what stands behind it."""

    @property
    def prompt_ids(self) -> list[int]: ...

    @property
    def length(self) -> int:
        """Tokens behind the prompt."""


class Text(NamedTuple):
    """The barest `Written`."""

    prompt_ids: list[int]
    length: int


def lay_out(
    prompts: Ids, answers: Ids, *, pad_id: int, device: torch.device, layout: Layout, keeps_last: bool = False
) -> Rows:
    """The rows of these answers, each after its prompt; with `keeps_last` their last tokens are forwarded, too."""
    lengths = [len(answer) for answer in answers]
    read = answers if keeps_last else [answer[:-1] for answer in answers]
    if layout is Layout.SHARED:
        return _share(prompts, read, torch.tensor(lengths, device=device))
    texts = [[*prompt, *answer] for prompt, answer in zip(prompts, read, strict=True)]
    sizes = [len(text) for text in texts]
    packs = layout is Layout.PACKED
    rows = pack(sizes) if packs else [[place] for place in range(len(texts))]
    longest = max(sum(sizes[place] for place in row) for row in rows)
    ids: list[list[int]] = []
    positions: list[list[int]] = []
    starts = [0] * len(texts)
    for number, row in enumerate(rows):
        ids.append([])
        positions.append([])
        for place in row:
            starts[place] = number * longest + len(ids[-1])
            ids[-1] += texts[place]
            positions[-1] += range(sizes[place])
        gap = longest - len(ids[-1])
        ids[-1] += [pad_id] * gap
        positions[-1] += [0] * gap
    behind_A = torch.tensor([start + len(prompt) for start, prompt in zip(starts, prompts, strict=True)], device=device)
    length_A = torch.tensor(lengths, device=device)
    return Rows(
        torch.tensor(ids, device=device),
        torch.tensor(positions, device=device) if packs else None,
        _predicting(behind_A - 1, behind_A, length_A),
        behind_A + length_A - 1,
    )


def _share(prompts: Ids, answers: Ids, length_A: Tensor) -> Rows:
    """One row: each prompt once, then the answers, short ones first. `length_A` counts last tokens, read or not."""
    device = length_A.device
    owner = {tuple(prompt): place for place, prompt in enumerate(prompts)}
    texts = sorted(owner, key=lambda text: (len(text), text))
    number = {text: place for place, text in enumerate(texts)}
    prompt_A = torch.tensor([number[tuple(prompt)] for prompt in prompts], device=device)
    size_P = torch.tensor([len(text) for text in texts], device=device)
    order = sorted(range(len(answers)), key=lambda place: len(answers[place]))
    order_A = torch.tensor(order, device=device)
    size_A = torch.tensor([len(answer) for answer in answers], device=device)
    start_P = size_P.cumsum(0) - size_P
    start_A = torch.empty_like(size_A)
    start_A[order_A] = size_P.sum() + size_A[order_A].cumsum(0) - size_A[order_A]
    ids = list(chain(chain.from_iterable(texts), chain.from_iterable(answers[place] for place in order)))
    ends = torch.cat([size_P, size_A[order_A]])
    begins = torch.cat([start_P, start_A[order_A] - size_P[prompt_A[order_A]]])
    position_T = torch.arange(len(ids), device=device) - begins.repeat_interleave(ends)
    none_P = torch.zeros_like(size_P)
    blocks = [make_block(start_P[part], size_P[part], none_P[part], none_P[part]) for part in _blocks(size_P)]
    for part in _blocks(size_A[order_A]):
        rows = order_A[part]
        of = prompt_A[rows]
        blocks.append(make_block(start_A[rows], size_A[rows], start_P[of], size_P[of]))
    last_of_prompt_A = start_P[prompt_A] + size_P[prompt_A] - 1
    return Rows(
        torch.tensor([ids], device=device),
        position_T[None],
        _predicting(last_of_prompt_A, start_A, length_A),
        start_A + length_A - 1,
        Blocks(blocks),
        ([owner[text] for text in texts], order),
    )


def lay_out_prompts(length_P: Tensor) -> tuple[Tensor, Blocks]:
    """Where each prompt begins on a row of prompts alone, and who sees whom there; short ones stand first."""
    order_P = length_P.argsort(stable=True)
    size_P = length_P[order_P]
    start_P = torch.empty_like(length_P)
    start_P[order_P] = size_P.cumsum(0) - size_P
    none_P = torch.zeros_like(size_P)
    parts = list(_blocks(size_P))
    return start_P, Blocks([make_block(start_P[order_P[p]], size_P[p], none_P[p], none_P[p]) for p in parts])


def _predicting(before_A: Tensor, start_A: Tensor, length_A: Tensor) -> Tensor:
    """The place that predicts each token of answers that begin at `start_A`; at `before_A` their first one."""
    first_A = length_A.cumsum(0) - length_A
    token_N = torch.arange(int(length_A.sum()), device=length_A.device) - first_A.repeat_interleave(length_A)
    return torch.where(
        token_N == 0, before_A.repeat_interleave(length_A), start_A.repeat_interleave(length_A) + token_N - 1
    )


def _blocks(size_R: Tensor) -> Iterator[Tensor]:
    """Which sequences make a block of attention, those of like length together, empty ones none; sizes rise."""
    part: list[int] = []
    tokens = 0
    for place, size in enumerate(size_R.tolist()):
        if size == 0:
            continue
        area = (len(part) + 1) * size
        if part and area > max(BLOCK_TOKENS, BLOCK_SLACK * (tokens + size)):
            yield torch.tensor(part, device=size_R.device)
            part, tokens = [], 0
        part.append(place)
        tokens += size
    if part:
        yield torch.tensor(part, device=size_R.device)


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


def count_positions(texts: Sequence[Written], layout: Layout) -> tuple[int, int]:
    """(positions that are forwarded for these texts, how many of them are no padding), last tokens left out.

    >>> texts = [Text([1] * 10, length - 9) for length in (30, 200, 100, 20)]
    >>> [count_positions(texts, layout) for layout in (Layout.PADDED, Layout.PACKED, Layout.SHARED)]
    [(800, 350), (500, 350), (320, 320)]
    """
    behind = [max(0, text.length - 1) for text in texts]
    if layout is Layout.SHARED:
        filled = sum(behind) + sum(map(len, {tuple(text.prompt_ids) for text in texts}))
        return filled, filled
    sizes = [len(text.prompt_ids) + size for text, size in zip(texts, behind, strict=True)]
    if layout is Layout.PADDED:
        return len(sizes) * max(sizes), sum(sizes)
    rows = pack(sizes)
    return len(rows) * max(sum(sizes[place] for place in row) for row in rows), sum(sizes)
