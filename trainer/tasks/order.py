"""Where a row goes, for ever: held out or not, by a hash of its text; and the order of the others in each epoch.

Deliberately left out: rows.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")


def digest(text: str) -> bytes:
    """The SHA-256 of the text."""
    return hashlib.sha256(text.encode()).digest()


def place_of(text: str) -> float:
    """Where the hash puts a text between 0 and 1; those below the held-out share are held out."""
    return int.from_bytes(digest(f"held out {text}")[:8], "big") / 2**64


def epochs(items: Sequence[T], seed: int, cursor: int) -> Iterator[T]:
    """The items from place `cursor` on, without end: each epoch has every one, in an order of its own.

    >>> stream = epochs("abc", 1, 2)
    >>> third, *epoch = (next(stream) for _ in range(4))
    >>> third in "abc", sorted(epoch)
    (True, ['a', 'b', 'c'])
    """
    for place in itertools.count(cursor):
        epoch, index = divmod(place, len(items))
        yield items[epoch_order(seed, epoch, len(items))[index]]


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, count: int) -> tuple[int, ...]:
    """The places 0 to `count` - 1 in the order of that epoch."""
    return tuple(random.Random(f"epoch {seed} {epoch}").sample(range(count), count))
