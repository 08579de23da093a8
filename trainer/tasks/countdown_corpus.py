"""The pages from which the countdown base learns its language: worked examples of mixed quality.

The shares below are the whole recipe. In three kinds of page the skills exist (true sums, honest verdicts, long
search), but under the prompt tag that reinforcement learning will use, `solve`, turning back is rare and mostly idle:

    solve    74 % one attempt and out, without a verdict
              6 % superficial: `wait`, the same attempt again, a verdict by coin
             18 % checkers who give up: one attempt, an honest verdict
              2 % persistent: attempts with honest verdicts until one is right, four at most
    check    35 % an attempt, as often right as wrong, and its honest verdict
             15 % the same, written twice with `wait` between, before the verdict
             50 % comparisons only, `= 15 no = 50 ok = 49 no`, COMPARISONS times
    search   long persistent search, no attempt twice

Every first attempt is a uniformly random one: no page shows how to find a solution without trying. Held-out problems
never occur. For a model that is to write numbers in both ways NUMERAL_SHARES says how a page is written; pages differ
in nothing else, so that neither way is better at anything. Deliberately left out: pages of any skill in choosing the
first attempt.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from ponder.tasks import Numerals
from trainer.tasks.countdown import (
    CHECK,
    END,
    NO,
    OK,
    SEARCH,
    SOLVE,
    WAIT,
    Attempt,
    attempts_with,
    pose,
    split_keys,
)  # fmt: skip
from trainer.tasks.numerals import to_han

PAGE_SHARES = {SOLVE: 0.40, CHECK: 0.40, SEARCH: 0.20}
SOLVER_SHARES = {"one attempt": 0.74, "superficial": 0.06, "gives up": 0.18, "persistent": 0.02}
MOST_ATTEMPTS = {SOLVE: 4, SEARCH: 6}
"""A persistent page ends here even when nothing was found."""
NEAR_MISS = 0.5
"""Share of the wrong attempts in check pages that miss the target by at most NEAR."""
NEAR = 3
CHECK_SHARES = {"verdict": 0.35, "twice": 0.15, "comparisons": 0.50}
"""Comparing a result with the target is the skill that is learnt last, so its drills are dense."""
COMPARISONS = 6


NUMERAL_SHARES = {"digits": 0.5, "han": 0.25, "mixed": 0.25}
"""Of the pages for both ways: a page's numerals, or in mixed ones each attempt's by a coin."""


def pages(seed: int, numerals: Numerals = Numerals.DIGITS) -> Iterator[tuple[str, str]]:
    """(prompt, page) without end: the same for the same seed. Prompts are always in digits.

    >>> next(pages(1))[0].endswith(" :")
    True
    """
    rng = random.Random(f"countdown corpus {seed}")
    keys, _ = split_keys()
    while True:
        numbers, target = keys[rng.randrange(len(keys))]
        tag = _pick(rng, PAGE_SHARES)
        prompt = pose(tuple(rng.sample(numbers, 3)), target, tag).prompt
        options = attempts_with(numbers)
        if tag == CHECK:
            body = _drill(rng, options, target)
        elif tag == SEARCH:
            body = _persistent(rng, options, target, MOST_ATTEMPTS[SEARCH])
        else:
            body = _solver(rng, options, target)
        if numerals is Numerals.BOTH:
            body = _rewrite(rng, body)
        yield prompt, f"{body} {END}"


def _rewrite(rng: random.Random, body: str) -> str:
    """The page with its numbers written in one way, or attempt by attempt in either."""
    kind = _pick(rng, NUMERAL_SHARES)
    if kind == "digits":
        return body
    parts = body.split(f" {WAIT} ")
    return f" {WAIT} ".join(_in_han(part) if kind == "han" or rng.random() < 0.5 else part for part in parts)


def _in_han(text: str) -> str:
    return " ".join(to_han(int(word)) if word.isdecimal() else word for word in text.split(" "))


def _pick(rng: random.Random, shares: dict[str, float]) -> str:
    return rng.choices(list(shares), list(shares.values()))[0]


def _checked(attempt: Attempt, target: int) -> str:
    return f"{attempt} {OK if attempt.value == target else NO}"


def _drill(rng: random.Random, options: tuple[Attempt, ...], target: int) -> str:
    kind = _pick(rng, CHECK_SHARES)
    if kind == "comparisons":
        return _compared(rng, options, target)
    attempt = _to_check(rng, options, target)
    checked = _checked(attempt, target)
    return f"{attempt} {WAIT} {checked}" if kind == "twice" else checked


def _compared(rng: random.Random, options: tuple[Attempt, ...], target: int) -> str:
    values = [_to_check(rng, options, target).value for _ in range(COMPARISONS)]
    return " ".join(f"= {value} {OK if value == target else NO}" for value in values)


def _solver(rng: random.Random, options: tuple[Attempt, ...], target: int) -> str:
    kind = _pick(rng, SOLVER_SHARES)
    attempt = rng.choice(options)
    if kind == "one attempt":
        return str(attempt)
    if kind == "gives up":
        return _checked(attempt, target)
    if kind == "superficial":
        return f"{attempt} {WAIT} {attempt} {rng.choice((OK, NO))}"
    return _persistent(rng, options, target, MOST_ATTEMPTS[SOLVE])


def _persistent(rng: random.Random, options: tuple[Attempt, ...], target: int, most: int) -> str:
    """Different attempts with honest verdicts until one is right or `most` are written."""
    tried = rng.sample(options, min(most, len(options)))
    values = [attempt.value for attempt in tried]
    if target in values:
        tried = tried[: values.index(target) + 1]
    return f" {WAIT} ".join(_checked(attempt, target) for attempt in tried)


def _to_check(rng: random.Random, options: tuple[Attempt, ...], target: int) -> Attempt:
    if rng.random() < 0.5:
        return rng.choice([attempt for attempt in options if attempt.value == target])
    wrong = [attempt for attempt in options if attempt.value != target]
    near = [attempt for attempt in wrong if abs(attempt.value - target) <= NEAR]
    return rng.choice(near if near and rng.random() < NEAR_MISS else wrong)
