"""How much of a text it has said before.

Words are what white space parts; a text without white space (a stream of one symbol, most Chinese) is read by
characters. Deliberately left out: paraphrase, and a weight: the part is a share, and wants a negative one.
"""

from __future__ import annotations

N = 4
"""Words of an n-gram. A sum (`3 + 7 = 10`) has five, and may well be written twice."""
LONG_WORD = 40
"""A text whose words are longer than this in the mean is read by characters."""


def repetition_share(text: str, n: int = N) -> float:
    """The share of the text's n-grams that occurred earlier in it: 1 - distinct / all; 0 for fewer than n + 1 words.

    1 - |set(n-grams)| / |n-grams|: the n-gram repetition of arXiv:2502.03373, eq. of section 4.2, and of open-r1.

    >>> repetition_share("a b c d e f g"), repetition_share("no " * 103)
    (0.0, 0.99)
    """
    units: list[str] | str = text.split()
    if len(units) * LONG_WORD < len(text):
        units = "".join(units)
    count = len(units) - n + 1
    if count < 2:
        return 0.0
    return 1.0 - len({tuple(units[place : place + n]) for place in range(count)}) / count
