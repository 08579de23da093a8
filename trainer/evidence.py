"""What the tokens say of a turn: how open the choice was at its marker, and how the answer went on.

Free, for the sampler has told each token's entropy and log-probability. A fork is a token with more entropy than
80 % of those that were drawn with it (arXiv:2506.01939 takes the same share); a run's own percentile would call every
early token a fork and no late one, for entropy falls as a policy learns. Deliberately left out: the reference, which is
asked while learning (`trainer.learn`).
"""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from ponder.events import Mark

FORK_SHARE = 0.8
WINDOW_TOKENS = 16


def fork_threshold(entropies: Iterable[Sequence[float]]) -> float:
    """The entropy that a fork is above: of 80 % of all these tokens, by nearest rank.

    >>> fork_threshold([[0.1, 0.2], [0.3, 0.4, 2.0]])
    0.4
    """
    pooled = sorted(value for some in entropies for value in some if math.isfinite(value))
    return pooled[math.ceil(FORK_SHARE * len(pooled)) - 1] if pooled else math.inf


def token_at(place: int, offsets: Sequence[int]) -> int:
    """The token that holds the character at `place`, -1 for none; `offsets` tell where each begins.

    A token may begin with the space before a word.
    """
    return bisect.bisect_right(offsets, place) - 1


def is_fork(place: int, *, offsets: Sequence[int], entropies: Sequence[float], threshold: float) -> bool:
    """Whether the token that holds the character at `place` is a fork."""
    token = token_at(place, offsets)
    return token >= 0 and entropies[token] > threshold


def with_evidence(
    mark: Mark, offsets: Sequence[int], entropies: Sequence[float], logps: Sequence[float], threshold: float
) -> Mark:
    """The mark with what its first token says."""
    token = token_at(mark.start, offsets)
    if token < 0:
        return mark
    surprises = [-logp for logp in logps]
    return replace(
        mark,
        token=token,
        entropy=entropies[token],
        surprise=surprises[token],
        entropy_z=_z(entropies, token),
        surprise_z=_z(surprises, token),
        entropy_before=_mean(entropies[max(0, token - WINDOW_TOKENS) : token]),
        entropy_after=_mean(entropies[token : token + WINDOW_TOKENS]),
        is_fork=entropies[token] > threshold,
    )


def with_lifts(marks: Sequence[Mark], logps: Sequence[float], reference_logps: Sequence[float] | None) -> list[Mark]:
    """The marks with what training made of the probability of each one's first token, where the reference was asked."""
    if reference_logps is None:
        return [*marks]
    return [
        replace(mark, lift=logps[mark.token] - reference_logps[mark.token]) if mark.token >= 0 else mark
        for mark in marks
    ]


def _z(values: Sequence[float], place: int) -> float:
    spread = statistics.pstdev(values)
    return (values[place] - _mean(values)) / spread if spread > 0 else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
