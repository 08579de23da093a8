"""The rewards of the comparison with TRL: pure functions of an answer's text, the very same code on both sides.

ponder calls them in a reward worker, as any user's code; TRL in its own process. Graded, so that no group is flat.
Imports nothing but the standard library.
"""

from __future__ import annotations

import re


def vowels(text: str) -> float:
    """The share of words that end in `a`: one in five for a model that has learnt nothing.

    >>> vowels("ba ce da di")
    0.5
    """
    words = text.split()
    return sum(word.endswith("a") for word in words) / len(words) if words else 0.0


def short_and_right(text: str, reference: str) -> float:
    """1 where the wanted number stands in the text, less up to a half for its length in characters.

    >>> short_and_right("He has 19 apples.", "19") > short_and_right("He has 20 apples.", "19")
    True
    """
    return float(reference in re.findall(r"\d+", text)) - min(len(text), 400) / 800
