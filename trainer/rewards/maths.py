"""Whether a text ends with the mathematical expression that was asked for, by the library `math-verify`.

It parses LaTeX and plain expressions (`antlr`, `sympy`) and compares them as mathematics: 1/2 is 0.5, {1, 2} is {2, 1}.
It runs in a reward worker, where an expression that takes for ever or all memory (9^9^9^9) costs that answer its score
and nothing else; the library's own time limits need signals and are off. Deliberately left out: proofs.
"""

from __future__ import annotations

import logging
from functools import lru_cache

from math_verify import parse, verify

logging.getLogger("math_verify").setLevel(logging.ERROR)
logging.getLogger("latex2sympy2_extended").setLevel(logging.ERROR)


def score(text: str, answer: str, reference: str) -> float | None:
    """1 when what is stated equals `reference`, else 0; None when `reference` is no mathematics.

    `answer` is what the text marks as its answer; without one, the library looks for the last expression of `text`.
    """
    gold = _gold(reference)
    if not gold:
        return None
    found = list(_gold(answer)) if answer else parse(text, parsing_timeout=None)
    return float(bool(verify(list(gold), found, timeout_seconds=None)))


@lru_cache(maxsize=64)
def _gold(reference: str) -> tuple[object, ...]:
    """A bare expression as mathematics; read as LaTeX first, since data sets write it without dollars."""
    as_latex = tuple(parse(f"${reference}$", parsing_timeout=None))
    return as_latex or tuple(parse(reference, parsing_timeout=None))
