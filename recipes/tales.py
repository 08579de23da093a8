"""Little tales, and the prompts that ask for them: what the recipe `rlhf-tales` is made of.

There is no right answer to any of them. Deliberately left out: what people like in a tale.
"""

from __future__ import annotations

import random

WHO = ("cat", "dog", "fox", "hen", "cow", "pig", "owl", "bee", "ant", "bear", "frog", "goat")
WHERE = ("sea", "hill", "barn", "wood", "town", "lake", "farm", "road", "cave", "park")
MOODS = ("happy", "sad", "cold", "proud")
DEEDS = ("sat down", "ran home", "sang a song", "fell asleep", "found a friend", "saw the moon", "ate a pear")
MANY = 4000
MOST_SENTENCES = 3


def prompts() -> list[dict[str, str]]:
    """All prompts, and nothing else."""
    return [{"prompt": ask(who, where)} for who in WHO for where in WHERE]


def tales() -> list[dict[str, str]]:
    """Prompts with a tale each, the same for ever; a prompt comes many times, with other tales."""
    draw = random.Random("tales")
    return [tell(draw, draw.choice(WHO), draw.choice(WHERE)) for _ in range(MANY)]


def ask(who: str, where: str) -> str:
    """The prompt."""
    return f"A {who} at the {where}:"


def tell(draw: random.Random, who: str, where: str) -> dict[str, str]:
    """A tale of one to three sentences."""
    sentences = [
        draw.choice((f"The {who} was {draw.choice(MOODS)}.", f"The {who} {draw.choice(DEEDS)}."))
        for _ in range(draw.randint(1, MOST_SENTENCES))
    ]
    return {"prompt": ask(who, where), "response": " ".join(sentences)}
