"""Countdown junior: make a target from three numbers, by trying.

Three numbers of 1 to 9 and a target of 10 to 99; right is any `(x op y) op z` with + - * that uses each number once. A
page of the small language reads

    solve 3 7 5 -> 50 : 3 + 7 = 10 + 5 = 15 no wait 3 + 7 = 10 * 5 = 50 ok <end>

attempt, verdict, `wait`, another attempt, end. The answer is the last attempt; the reward sees its expression and
nothing else: not the verdicts, not the length, not whether the written sums are true, not in which numerals they are:
`三 + 七 = 十` says the same. A model of the larger vocabulary writes both, and may mix them.

The expert knows a solution at first sight in `SKILL` of his attempts, checks without fail and tries once more. What he
knows by sight nobody can learn from his pages, so that imitation stays below him.

Deliberately left out: the pages from which the base model learnt this language (`countdown_corpus`).
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from trainer.markers import Markers, own_words
from trainer.tasks import Candidate, Problem, numerals
from trainer.tasks.forcing import Forcing
from trainer.tasks.numerals import value_of
from trainer.tasks.order import epoch_order

OPERATORS = ("+", "-", "*")
LARGEST = numerals.LARGEST
"""No number of the language is larger, and none is below 0."""
TARGETS = range(10, 100)
HELD_OUT = 512
"""So many problems, drawn once with HELD_OUT_SEED, never occur in a corpus or in training."""
HELD_OUT_SEED = 20251124

SOLVE, CHECK, SEARCH = "solve", "check", "search"
WAIT, OK, NO = "wait", "ok", "no"
PROMPT_WORDS = (SOLVE, CHECK, SEARCH, "->", ":")
PAD, UNKNOWN, END = "<pad>", "<unk>", "<end>"
ATTEMPT_TOKENS = 9
VOCABULARY = (
    PAD, UNKNOWN, END, *PROMPT_WORDS, OK, NO, WAIT, *OPERATORS, "=", *(str(number) for number in range(LARGEST + 1)),
)  # fmt: skip
BOTH_VOCABULARY = (*VOCABULARY, *numerals.HAN)
"""The words of a model that writes numbers in both ways."""


SKILL = 0.23
"""Share of the expert's attempts that are right; any other one is drawn from those that are not."""


@dataclass(frozen=True)
class Attempt:
    """One expression `(x first y) second z` with what it truly gives at both steps."""

    x: int
    first: str
    y: int
    second: str
    z: int
    middle: int
    value: int

    def __str__(self) -> str:
        return f"{self.x} {self.first} {self.y} = {self.middle} {self.second} {self.z} = {self.value}"


def calculate(left: int, operator: str, right: int) -> int:
    """`left operator right`.

    >>> calculate(7, "-", 9)
    -2
    """
    if operator == "+":
        return left + right
    return left - right if operator == "-" else left * right


@cache
def attempts_with(numbers: tuple[int, int, int]) -> tuple[Attempt, ...]:
    """Every attempt that the language can write with these numbers; `numbers` sorted.

    >>> len(attempts_with((1, 1, 1)))
    8
    """
    found = []
    for x, y, z in sorted(set(itertools.permutations(numbers))):
        for first, second in itertools.product(OPERATORS, repeat=2):
            middle = calculate(x, first, y)
            value = calculate(middle, second, z)
            if 0 <= middle <= LARGEST and 0 <= value <= LARGEST:
                found.append(Attempt(x, first, y, second, z, middle, value))
    return tuple(found)


@cache
def all_keys() -> tuple[tuple[tuple[int, int, int], int], ...]:
    """Every problem that is asked, as (sorted numbers, target), in a fixed order."""
    keys = []
    for numbers in itertools.combinations_with_replacement(range(1, 10), 3):
        values = {attempt.value for attempt in attempts_with(numbers)}
        keys += [(numbers, target) for target in TARGETS if target in values]
    return tuple(keys)


@cache
def split_keys() -> tuple[tuple[tuple[tuple[int, int, int], int], ...], tuple[tuple[tuple[int, int, int], int], ...]]:
    """(for training, held out), both shuffled once and for ever."""
    keys = list(all_keys())
    random.Random(HELD_OUT_SEED).shuffle(keys)
    return tuple(keys[HELD_OUT:]), tuple(keys[:HELD_OUT])


def pose(numbers: tuple[int, ...], target: int, tag: str = SOLVE) -> Problem:
    """The problem with its numbers in the given order.

    >>> pose((7, 3, 5), 50).prompt
    'solve 7 3 5 -> 50 :'
    """
    key = f"countdown {' '.join(str(number) for number in sorted(numbers))} -> {target}"
    return Problem(key, f"{tag} {' '.join(str(number) for number in numbers)} -> {target} :", numbers, target)


NUMBER, OPERATOR = numerals.PATTERN, r"([-+*])"
ATTEMPT = re.compile(rf"(?<!\S){NUMBER} {OPERATOR} {NUMBER} = {NUMBER} {OPERATOR} {NUMBER} = {NUMBER}(?!\S)")
JUDGED = re.compile(rf"{ATTEMPT.pattern} ({OK}|{NO})(?!\S)")
LAST_SEGMENT = re.compile(rf"{ATTEMPT.pattern}(?: (?:{OK}|{NO}))?\s*$")


def is_right(match: re.Match[str], problem: Problem) -> bool:
    """Whether the written expression, truly calculated, uses the numbers and makes the target."""
    return _makes(match.groups(), problem)


def _makes(written: Sequence[str], problem: Problem) -> bool:
    x, first, y, _, second, z, _ = _read(written)
    value = calculate(calculate(x, first, y), second, z)
    return sorted((x, y, z)) == sorted(problem.numbers) and value == problem.target


def _read(written: Sequence[str]) -> tuple[int, str, int, int, str, int, int]:
    """The written attempt: x, operator, y, middle, operator, z, value."""
    x, first, y, middle, second, z, value = written
    return value_of(x), first, value_of(y), value_of(middle), second, value_of(z), value_of(value)


def _expression(match: re.Match[str]) -> str:
    """The attempt without what it claims to give, in digits: two that say the same are the same."""
    x, first, y, middle, second, z, _ = _read(match.groups())
    return f"{x} {first} {y} = {middle} {second} {z}"


@dataclass(frozen=True)
class Countdown:
    """Countdown junior as the loop sees it: `trainer.tasks.Task`, with an expert."""

    markers: Markers = field(default_factory=lambda: own_words("countdown", WAIT))

    name = "countdown"
    parts = ("correct", "format")
    verifier = None
    forcing = Forcing(closing="", wait=WAIT, stops=(OK, NO, WAIT), settled=(OK,), answer_tokens=ATTEMPT_TOKENS)
    """Ended early, it may finish the attempt that it is at; it is made to go on unless it has said `ok`."""

    def training_problem(self, seed: int, index: int) -> Problem:
        keys, _ = split_keys()
        epoch, place = divmod(index, len(keys))
        numbers, target = keys[epoch_order(seed, epoch, len(keys))[place]]
        shuffled = random.Random(f"order {seed} {index}").sample(numbers, len(numbers))
        return pose(tuple(shuffled), target)

    def held_out(self, count: int) -> list[Problem]:
        """Past HELD_OUT the problems come again with their numbers in another order."""
        _, keys = split_keys()
        problems = []
        for index in range(count):
            turn, place = divmod(index, len(keys))
            numbers, target = keys[place]
            orders = sorted(set(itertools.permutations(numbers)))
            random.Random(f"held out {place}").shuffle(orders)
            problems.append(pose(orders[turn % len(orders)], target))
        return problems

    def score(self, problem: Problem, text: str) -> Mapping[str, float | None]:
        last = LAST_SEGMENT.match(text.rpartition(WAIT)[2].strip())
        return {"correct": float(last is not None and is_right(last, problem)), "format": float(last is not None)}

    def expert_answer(self, problem: Problem, dice: random.Random) -> list[tuple[str, bool]]:
        x, y, z = sorted(problem.numbers)
        options = attempts_with((x, y, z))
        right = [attempt for attempt in options if attempt.value == problem.target]
        wrong = [attempt for attempt in options if attempt.value != problem.target]
        first, second = (dice.choice(right if dice.random() < SKILL else wrong or right) for _ in range(2))
        if first in right:
            return [(f"{first} {OK}", True)]
        return [(f"{first} {NO} {WAIT} {second} {OK if second in right else NO}", True)]

    def reference(self, problem: Problem) -> str:
        x, y, z = sorted(problem.numbers)
        return next(str(attempt) for attempt in attempts_with((x, y, z)) if attempt.value == problem.target)

    def candidates(self, problem: Problem, text: str) -> list[Candidate]:
        return [
            Candidate(match.start(), match.end(), _expression(match), is_right(match, problem))
            for match in ATTEMPT.finditer(text)
        ]

    def verdicts(self, problem: Problem, text: str) -> list[tuple[bool, bool]]:
        return [(judged.group(8) == OK, _makes(judged.groups()[:7], problem)) for judged in JUDGED.finditer(text)]

    def true_steps(self, text: str) -> tuple[int, int]:
        true = written = 0
        for match in ATTEMPT.finditer(text):
            x, first, y, middle, second, z, value = _read(match.groups())
            true += calculate(x, first, y) == middle
            true += calculate(middle, second, z) == value
            written += 2
        return true, written
