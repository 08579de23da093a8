"""Made-up answers of a chosen size, with the words of real prose and some sums, for benchmarks of the store.

The words are those of docs/, as frequent as they are there, so that an index of texts has the work that it has with
real answers. The same seed gives the same answers. Deliberately left out: answers that mean something.
"""

from __future__ import annotations

import random
import struct
from pathlib import Path
from zlib import crc32

from ponder.events import Finish, GroupScored, Mark, Outcome, Rollout

DOCS = Path(__file__).parent.parent / "docs"
GROUP_SIZE = 8
VOCABULARY = 32_000
SHARE_OF_SUMS = 0.15
SHARE_REFLECTING = 0.3
OUTCOMES = (Outcome.RESCUED, Outcome.MOVED, Outcome.MOVED, Outcome.STUCK, Outcome.CONFIRMED, Outcome.HARMED)


def read_words() -> list[str]:
    """The words of the documentation, in order."""
    return " ".join(page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))).split()


def make_text(rng: random.Random, words: list[str], characters: int) -> str:
    """About so many characters of prose and sums."""
    chosen: list[str] = []
    length = 0
    while length < characters:
        if rng.random() < SHARE_OF_SUMS:
            a, b = rng.randrange(1000), rng.randrange(1000)
            chosen.append(f"{a} + {b} = {a + b}")
        else:
            chosen.append(rng.choice(words))
        length += len(chosen[-1]) + 1
    return " ".join(chosen)


def make_rollout(rng: random.Random, words: list[str], index: int, characters: int) -> Rollout:
    """An answer with one token a word, log-probs and entropies, two reward parts, and a mark if it reflects."""
    text = make_text(rng, words, characters)
    ids = [crc32(word.encode()) % VOCABULARY for word in text.split()]
    numbers = [abs(rng.gauss(0.0, 0.7)) for _ in ids]
    is_correct = rng.random() < 0.5
    marks = []
    if rng.random() < SHARE_REFLECTING:
        start = text.find(" ") + 1
        marks.append(Mark(start, start + 4, "wait", rng.choice(OUTCOMES), "12", "21", 1, rng.uniform(0.1, 2.5)))
    return Rollout(
        index=index,
        text=text,
        length_tokens=len(ids),
        finish=Finish.END,
        reward=float(is_correct),
        advantage=rng.gauss(0.0, 1.0),
        parts={"correct": float(is_correct), "format": 1.0},
        is_correct=is_correct,
        answer=text[-4:],
        answer_start=len(text) - 4,
        marks=marks,
        token_ids=struct.pack(f"<{len(ids)}I", *ids),
        logps=struct.pack(f"<{len(ids)}e", *[-number for number in numbers]),
        entropies=struct.pack(f"<{len(ids)}e", *numbers),
    )


def make_groups(count: int, characters: int, seed: int = 0) -> list[GroupScored]:
    """So many groups of GROUP_SIZE answers, all of step 0; 256 problems come again and again."""
    rng, words = random.Random(seed), read_words()
    return [
        GroupScored(
            step=0,
            group=number,
            policy_version=0,
            prompt_id=f"problem {number % 256}",
            prompt=f"solve problem {number % 256}",
            reference="21",
            rollouts=[make_rollout(rng, words, index, characters) for index in range(GROUP_SIZE)],
        )
        for number in range(count)
    ]
