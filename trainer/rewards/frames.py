"""What a reward pool and its workers say to each other: msgpack behind four bytes of length.

    worker -> pool    Ready           once, when the function is imported, or why it cannot be
    pool -> worker    Call            one answer to score
    worker -> pool    Result          its value, or its error

Text travels as bytes with `surrogatepass`: a model may write what is no valid UTF-8. Deliberately left out: reading and
writing, which is blocking on one side and not on the other.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

HEAD_BYTES = 4
MAX_FRAME_BYTES = 256 << 20

Value = float | None | dict[str, float | None]
"""What a reward function returns: a number, None for unscorable, or named parts."""

Meta = dict[str, bool | int | float | str | None]
"""The other columns of a row."""


class Call(Struct, frozen=True, array_like=True):
    """One answer, with all that a reward function may ask for."""

    prompt: bytes
    text: bytes
    answer: bytes
    """What was read out of `text` as its final answer; empty where there is none."""
    reference: bytes
    meta: Meta


class Ready(Struct, frozen=True, array_like=True):
    """The worker has imported its function, or says why it could not: a sentence, and the traceback."""

    error: str = ""
    trace: str = ""


class Result(Struct, frozen=True, array_like=True):
    """What the function returned; with `error` it raised, and `trace` is its traceback."""

    value: Value = None
    error: str = ""
    trace: str = ""
    is_spoilt: bool = False
    """The worker cannot be trusted with another call: it ran out of memory."""


def to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def to_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def encode(message: Struct) -> bytes:
    """The message with its length before it."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(HEAD_BYTES, "little") + body
