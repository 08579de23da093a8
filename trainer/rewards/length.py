"""How long an answer is, as two parts of a reward. Deliberately left out: what long answers are good for."""

from __future__ import annotations


def length_share(length_tokens: int, max_new_tokens: int) -> float:
    """The answer's share of the token limit; a negative weight shortens.

    >>> length_share(20, 80)
    0.25
    """
    return length_tokens / max_new_tokens


def soft_overlong(length_tokens: int, max_new_tokens: int, buffer_share: float) -> float:
    """The soft overlong punishment: 0 up to the buffer before the limit, then linearly down to -1 at the limit.

    R_length(y) = 0                                         |y| <= L_max - L_cache
                = ((L_max - L_cache) - |y|) / L_cache       L_max - L_cache < |y| <= L_max
                = -1                                        L_max < |y|

    DAPO, arXiv:2503.14476, eq. 13; L_max is the token limit, L_cache = `buffer_share` of it (the paper: 4096 of
    20480, 0.2). `buffer_share` is above 0.

    >>> [soft_overlong(length, 100, 0.2) for length in (80, 90, 100, 101)]
    [0.0, -0.5, -1.0, -1.0]
    """
    buffer = max_new_tokens * buffer_share
    return max(-1.0, min(0.0, (max_new_tokens - buffer - length_tokens) / buffer))
