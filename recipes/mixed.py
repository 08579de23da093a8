"""Two kinds of prompts in one run: sums, which a verifier judges, and tales, which nobody can verify.

Deliberately left out: what people like in a tale (`recipes/tales.py` tells the tales).
"""

from __future__ import annotations

import random

from recipes.tales import WHERE, WHO, ask, tell

LARGEST = 6
MANY = 4000


def prompts() -> list[dict[str, str | int | None]]:
    """All sums with their answers, and as many prompts for tales, which have none."""
    sums: list[dict[str, str | int | None]] = [
        {"prompt": _sum(one, other), "answer": one + other, "source": "sums"}
        for one in range(LARGEST + 1)
        for other in range(LARGEST + 1)
    ]
    tales: list[dict[str, str | int | None]] = [
        {"prompt": ask(who, where), "answer": None, "source": "tales"} for who in WHO for where in WHERE
    ]
    return [*sums, *tales]


def pages() -> list[dict[str, str]]:
    """What the model learns to write first: tales of every mood, and sums that are wrong every other time."""
    draw = random.Random("mixed")
    return [_page(draw) for _ in range(MANY)]


def _page(draw: random.Random) -> dict[str, str]:
    if draw.random() < 0.5:
        return tell(draw, draw.choice(WHO), draw.choice(WHERE))
    one, other = draw.randint(0, LARGEST), draw.randint(0, LARGEST)
    said = one + other if draw.random() < 0.5 else draw.randint(0, 2 * LARGEST)
    return {"prompt": _sum(one, other), "response": f"{said}"}


def _sum(one: int, other: int) -> str:
    return f"{one} + {other} ="
