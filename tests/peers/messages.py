"""Any message of the house, invented from its declaration: every field filled within its bounds, often at one of them.

Randomness comes from the caller: a seeded generator in the fuzz tests, Hypothesis's own where a failure is to be made
small. Deliberately left out: numbers that are no numbers, and text that cannot be encoded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from functools import cache
from random import Random
from typing import TypeVar, cast

import msgspec
from msgspec import inspect

T = TypeVar("T")
INT64 = 1 << 63
WORDS = ("", "a", "countdown-zero-1", "optim.lr", "漢字", "\x1b]52;c;eA==\x07", "\u202e", "\x00", "[/]", "x" * 70)


@cache
def declared(kind: Hashable) -> inspect.Type:
    """What msgspec knows of a type."""
    return inspect.type_info(kind)


def invent(kind: type[T], random: Random) -> T:
    """A message of this type, as a peer that keeps to the protocol might send it."""
    value = _value(declared(cast(Hashable, kind)), random)
    assert isinstance(value, kind)
    return value


def _value(kind: inspect.Type, random: Random) -> object:
    match kind:
        case inspect.StructType(cls=cls, fields=fields):
            given = [field for field in fields if field.required or random.random() < 0.6]
            return cls(**{field.name: _value(field.type, random) for field in given})
        case inspect.UnionType(types=types):
            return _value(random.choice(types), random)
        case inspect.Metadata(type=inner):
            return _value(inner, random)
        case inspect.EnumType(cls=enum):
            return random.choice(list(enum))
        case inspect.ListType(item_type=item, min_length=low, max_length=high):
            length = min(max(random.choice((0, 0, 1, 1, 2, 5)), low or 0), 5 if high is None else high)
            return [_value(item, random) for _ in range(length)]
        case inspect.TupleType(item_types=items):
            return tuple(_value(item, random) for item in items)
        case inspect.DictType(key_type=key, value_type=value):
            return {_value(key, random): _value(value, random) for _ in range(random.choice((0, 1, 3)))}
        case inspect.IntType():
            return _integer(kind, random)
        case inspect.StrType():
            return _text(kind, random)
        case inspect.FloatType(ge=low, le=high):
            number = random.choice((0.0, -0.0, 1.5, -1e300, 5e-324, float("inf"), random.uniform(-1, 1)))
            return min(max(number, -math.inf if low is None else low), math.inf if high is None else high)
        case inspect.BoolType():
            return random.random() < 0.5
        case inspect.BytesType():
            return bytes(random.randrange(256) for _ in range(random.choice((0, 1, 8, 40))))
        case inspect.NoneType():
            return None
        case _:
            raise TypeError(f"nobody has said how to invent a {kind}")


def _integer(kind: inspect.IntType, random: Random) -> int:
    low = max(-INT64 if kind.ge is None else kind.ge, -INT64)
    high = min(INT64 - 1 if kind.le is None else kind.le, INT64 - 1)
    return random.choice((low, high, min(max(low, 0), high), min(max(low, 1), high), random.randint(low, high)))


def _text(kind: inspect.StrType, random: Random) -> str:
    if kind.pattern is not None:
        alternatives = re.fullmatch(r"\^\((.+)\)\$", kind.pattern)
        assert alternatives is not None, f"nobody has said how to fit {kind.pattern}"
        words: list[str] = alternatives[1].split("|")
        return random.choice(words)
    word = random.choice(WORDS) + random.choice(("", "é", str(random.randrange(100))))
    return word[: kind.max_length].ljust(kind.min_length or 0, "z")


def structs_of(module: object) -> list[type[msgspec.Struct]]:
    """Every message that a module declares."""
    return [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == vars(module)["__name__"]
    ]
