"""How sure a live reward model may be: by what its differences of scores are divided before they are promises.

    newest random rankings, with the scores that a version had given before anybody ranked them ──► a temperature

A model is surer of what it learnt from than of what comes next, so that only rankings which it had not seen can tell;
and it is never made surer than it is. Deliberately left out: the fit of a temperature (`ponder.calibration`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import combinations

from ponder.calibration import LEAST_PAIRS, fit_temperature
from ponder.ranking import Stream, Verdict, said_of
from ponder.rlhf import PREFERENCE_RAW
from ponder.wire import RankingRow

FRESH = 50
"""So many of the newest random rankings say how right and how sure the reward model is now."""


class Promises:
    """The newest rankings that tell."""

    def __init__(self) -> None:
        self._pairs: deque[list[tuple[float, float]]] = deque(maxlen=FRESH)

    def add(self, rows: Iterable[RankingRow]) -> None:
        """See them, oldest first."""
        for row in rows:
            if row.stream is Stream.RANDOM and row.verdict is Verdict.RANKED and (pairs := list(_pairs(row))):
                self._pairs.append(pairs)

    @property
    def temperature(self) -> float:
        """At least 1; 1 while too little is known."""
        pairs = [pair for ranking in self._pairs for pair in ranking]
        return max(1.0, fit_temperature(pairs)) if len(pairs) >= LEAST_PAIRS else 1.0


def _pairs(row: RankingRow) -> Iterator[tuple[float, float]]:
    """(score of one answer less that of another, whether it was found better) where one version scored both."""
    for one, other in combinations(row.answers, 2):
        seen = said_of([one.rank, other.rank], 0, 1)
        scores = [answer.scores.get(PREFERENCE_RAW) for answer in (one, other) if not answer.is_rewritten]
        if seen is None or len(scores) < 2 or not one.reward_model or one.reward_model != other.reward_model:
            continue
        if scores[0] is not None and scores[1] is not None:
            yield scores[0] - scores[1], seen
