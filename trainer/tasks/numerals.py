"""Two ways to write a number of 0 to 99: `17` and `十七`. What is said of a sum does not hang on which.

Deliberately left out: larger numbers, and who writes how (`trainer.tasks.countdown_corpus`).
"""

from __future__ import annotations

DIGITS = "零一二三四五六七八九"
TEN = "十"
LARGEST = 99
NOTHING = -1_000_000
PATTERN = rf"(\d{{1,2}}|[{DIGITS}{TEN}]{{1,3}})"
"""A numeral of either kind; some that it finds are none, such as `十十`."""


def to_han(number: int) -> str:
    """A number of 0 to 99 in Chinese numerals.

    >>> [to_han(number) for number in (0, 7, 10, 17, 20, 99)]
    ['零', '七', '十', '十七', '二十', '九十九']
    """
    tens, ones = divmod(number, 10)
    if tens == 0:
        return DIGITS[ones]
    return f"{DIGITS[tens] if tens > 1 else ''}{TEN}{DIGITS[ones] if ones else ''}"


HAN = tuple(map(to_han, range(LARGEST + 1)))
VALUES = {word: number for number in range(LARGEST + 1) for word in (str(number), HAN[number], f"{number:02}")}


def value_of(word: str) -> int:
    """What a numeral of either kind says; where it says nothing, what no sum gives.

    >>> value_of("17"), value_of("十七"), value_of("十十") == NOTHING
    (17, 17, True)
    """
    return VALUES.get(word, NOTHING)
