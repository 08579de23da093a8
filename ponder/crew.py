"""What a trainer and its rollout workers say to each other, and what is wrong with an answer that one of them gives.

    worker, DEALER                              trainer, ROUTER; CURVE, a key that may `sample`
    Join                                    ──► Welcome: which model, and what ends an answer; or Turned: why not
    Take, with the version that it has      ──► Work, when there is some; Offer: newer weights; Nothing, after a while
    GetPiece, piece after piece             ──► Piece; Offer, where those weights are gone
    Give, with the Work's number            ──► Taken: learnt from, or why not
    Beat, once a second; Leave                  none

Every frame is msgpack, a Call with a number of the worker's own or a Reply with the same number. A worker says anything
again that got no answer: a Take, while its Work is out, is answered with that Work, and a Work is taken once. Answers
come whole, as little-endian numbers. What a worker says is looked at here before anything is done with it; that its
log-probs are those of the weights is seen when they are learnt from (`trainer.mismatch`). Deliberately left out:
sockets (`daemon.crew_door`, `daemon.crew_line`), and who takes what (`trainer.crew`).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

MOST_BYTES = 64 << 20
"""Of a frame, either way."""
PIECE_BYTES = 1 << 20
WORK_BYTES = 8 << 20
"""So much of what its answers are drawn by one Work brings, but for a single group."""
SLACK = 1e-3
"""By so much may a rounded number be beyond what is possible."""
CHANCE_BYTES = 8

Member = Annotated[str, Meta(min_length=8, max_length=64)]
"""A worker's own name for itself, as long as its program runs."""
Version = Annotated[int, Meta(ge=-1, le=(1 << 62))]
"""Updates before these weights; -1: none yet."""


class Join(Struct, frozen=True, tag="join"):
    """Wants to draw answers. Answered with Welcome or Turned."""


class Beat(Struct, frozen=True, tag="beat"):
    """Is still there, drawing."""


class GetPiece(Struct, frozen=True, tag="get_piece"):
    """Some of the weights' bytes. Answered with Piece, or Offer: there are others now."""

    version: Version
    offset: Annotated[int, Meta(ge=0, le=1 << 50)]


class Take(Struct, frozen=True, tag="take"):
    """Has these weights, and time. Answered with Work or Offer, when there is one."""

    version: Version


class Drawn(Struct, frozen=True, array_like=True):
    """One answer: of each token its id, `<I`, its log-prob and the entropy that it was drawn from, `<f`."""

    ids: bytes
    logps: bytes
    entropies: bytes
    has_ended: bool


class Give(Struct, frozen=True, tag="give"):
    """The answers to a Work, in its order. Answered with Taken."""

    work: int
    version: Version
    answers: Annotated[list[Drawn], Meta(max_length=1 << 16)]


class Leave(Struct, frozen=True, tag="leave"):
    """Ends, and what it has taken is anybody's."""


Message = Join | Beat | GetPiece | Take | Give | Leave


class Call(Struct, frozen=True):
    """What a worker says."""

    protocol: int
    number: int
    member: Member
    message: Message


class Likeness(Struct, frozen=True):
    """A model that another machine can build, but for its weights."""

    config: Annotated[str, Meta(max_length=1 << 20)]
    """transformers' config, as JSON."""
    end_ids: list[int]
    pad_id: int
    vocabulary: int
    dtype: str
    """What it computes in."""
    has_plain_head: bool


class Welcome(Struct, frozen=True, tag="welcome"):
    run: str
    likeness: Likeness


class Turned(Struct, frozen=True, tag="turned"):
    """Is not let in. The code `join`: Join first, for the model is another one than it was."""

    code: str
    message: str
    hint: str = ""


class Offer(Struct, frozen=True, tag="offer"):
    """The newest weights, as safetensors; `digest` is BLAKE2b, 32 bytes, in hex."""

    version: Version
    size_bytes: int
    digest: str


class Piece(Struct, frozen=True, tag="piece"):
    version: Version
    offset: int
    data: bytes


class Asked(Struct, frozen=True, array_like=True):
    """One prompt, and what its answers are drawn by: float64 in [0, 1), all answers' first tokens first."""

    prompt_ids: list[int]
    chances: bytes


class Settings(Struct, frozen=True, array_like=True):
    """How answers are drawn."""

    group_size: int
    max_new_tokens: int
    temperature: float


class Work(Struct, frozen=True, tag="work"):
    """Groups to draw."""

    number: int
    settings: Settings
    groups: list[Asked]


class Nothing(Struct, frozen=True, tag="nothing"):
    """There is nothing to do just now: Take again."""


class Taken(Struct, frozen=True, tag="taken"):
    """What became of a Work's answers; the reason is empty where they are learnt from."""

    work: int
    reason: str = ""


Answer = Welcome | Turned | Offer | Piece | Work | Taken | Nothing


class Reply(Struct, frozen=True):
    """What the trainer answers to a Call of the same number."""

    number: int
    message: Answer


class Envelope(Struct, frozen=True):
    """What every version of a Call has."""

    protocol: int
    number: int


encode = msgspec.msgpack.Encoder().encode
decode_call = msgspec.msgpack.Decoder(Call).decode
"""Raises what msgspec raises on rubbish, as the next two."""
decode_envelope = msgspec.msgpack.Decoder(Envelope).decode
decode_reply = msgspec.msgpack.Decoder(Reply).decode


def pack(ids: Sequence[int], logps: Sequence[float], entropies: Sequence[float], *, has_ended: bool) -> Drawn:
    """An answer for its journey."""
    count = len(ids)
    return Drawn(
        struct.pack(f"<{count}I", *ids), struct.pack(f"<{count}f", *logps), struct.pack(f"<{count}f", *entropies),
        has_ended,
    )  # fmt: skip


def unpack(drawn: Drawn) -> tuple[list[int], list[float], list[float]]:
    """Its ids, log-probs and entropies; struct.error where a number is not whole."""
    ids = [number for (number,) in struct.iter_unpack("<I", drawn.ids)]
    logps, entropies = (
        [number for (number,) in struct.iter_unpack("<f", data)] for data in (drawn.logps, drawn.entropies)
    )
    return ids, logps, entropies


def fault_of(answers: Sequence[Drawn], work: Work, likeness: Likeness) -> str:
    """Why these cannot be answers to the work; empty where they can."""
    wanted = len(work.groups) * work.settings.group_size
    if len(answers) != wanted:
        return f"{len(answers)} answers of {wanted}"
    for place, drawn in enumerate(answers):
        if why := _fault(drawn, work.settings.max_new_tokens, likeness):
            return f"answer {place}: {why}"
    return ""


def _fault(drawn: Drawn, most: int, likeness: Likeness) -> str:
    if len(drawn.ids) > 4 * most:
        return f"longer than {most} tokens"
    try:
        ids, logps, entropies = unpack(drawn)
    except struct.error:
        return "its numbers are cut off"
    if not ids or not len(ids) == len(logps) == len(entropies):
        return f"{len(ids)} tokens, {len(logps)} log-probs, {len(entropies)} entropies"
    if max(ids) >= likeness.vocabulary:
        return f"a token {max(ids)} of {likeness.vocabulary}"
    ends = set(likeness.end_ids)
    if (ids[-1] in ends) != drawn.has_ended or ends.intersection(ids[:-1]):
        return "it ends where it does not"
    if not drawn.has_ended and len(ids) < most:
        return "it stops before its end"
    if not all(map(math.isfinite, logps)) or max(logps) > SLACK:
        return "a log-prob that none can be"
    if not all(map(math.isfinite, entropies)):
        return "an entropy that none can be"
    if min(entropies) < -SLACK or max(entropies) > math.log(likeness.vocabulary) + SLACK:
        return "an entropy that none can be"
    return ""
