"""Examples drawn from an endless stream, batch after batch; a checkpoint needs to know how many, and nothing else.

Deliberately left out: the stream, which is a function of the place where it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar


class Counted(Protocol):
    """Something that has tokens."""

    @property
    def total(self) -> int: ...


C = TypeVar("C", bound=Counted)


class Draw(Generic[C]):
    """A place in a stream.

    >>> class Three:
    ...     total = 3
    >>> draw = Draw(lambda place: iter([Three()] * (9 - place)))
    >>> len(draw.take(7)), draw.place
    (3, 3)
    """

    def __init__(self, begin: Callable[[int], Iterator[C]]) -> None:
        """`begin` gives the stream from a place on."""
        self._begin = begin
        self._stream: Iterator[C] | None = None
        self.place = 0
        """Examples drawn so far; set by `move_to` alone."""

    def move_to(self, place: int) -> None:
        """Go on from there."""
        self.place, self._stream = place, None

    def take(self, budget_tokens: int) -> list[C]:
        """The next examples, up to the one with which they have the tokens."""
        if self._stream is None:
            self._stream = self._begin(self.place)
        batch: list[C] = []
        for example in self._stream:
            batch.append(example)
            budget_tokens -= example.total
            if budget_tokens <= 0:
                break
        self.place += len(batch)
        return batch
