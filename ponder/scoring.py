"""Scores of answers, one by one: what they say of an order, when they can be meant, and the keys they are typed with.

They come to a ranking with ties and are kept beside rankings, so that both ways of judging can be compared. Nothing
learns from them. Deliberately left out: the comparison (`daemon.both_ways`), and the screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from ponder.errors import Refused
from ponder.ranking import TIE, Ranks, TypedKeys, Verdict, checked_ranks, dense

LOWEST_SCORE, HIGHEST_SCORE = 1, 9
"""One digit an answer; the highest is best."""


def ranks_of_scores(scores: Sequence[int]) -> list[int | None]:
    """The ranking that scores come to, the highest first; equal ones tie.

    >>> ranks_of_scores([3, 9, 3, 5])
    [3, 1, 3, 2]
    """
    return dense([-score for score in scores])


def checked_scores(scores: Sequence[int], ranks: Ranks, verdict: Verdict, answers: int) -> list[int | None]:
    """The ranks that scores come to; raises Refused when they are no scores, or say something beside them.

    Where the answers were skipped there are none.
    """
    if verdict is Verdict.SKIPPED and not scores:
        return checked_ranks(ranks, verdict, answers)
    if len(scores) != answers:
        raise Refused("bad_request", f"{answers} answers have {answers} scores, not {len(scores)}", "score each answer")
    if any(not LOWEST_SCORE <= score <= HIGHEST_SCORE for score in scores):
        message = f"a score is {LOWEST_SCORE} to {HIGHEST_SCORE}"
        raise Refused("bad_request", message, f"{HIGHEST_SCORE} is best")
    if ranks or verdict is not Verdict.RANKED:
        raise Refused("bad_request", "scores say their order themselves", "leave `ranks` empty, say `ranked`")
    return checked_ranks(ranks_of_scores(scores), verdict, answers)


@dataclass(frozen=True)
class ScoreKeys(TypedKeys):
    """What the keys typed so far say of `answers` answers: a digit for each, in the order in which they are shown.

    Asked as `ponder.ranking.Keystrokes` is.

    >>> keys = ScoreKeys(3).type("39")
    >>> keys.scores, keys.can_commit, keys.press("3").ranks, keys.press("0").complaint
    ([3, 9], False, [2, 1, 2], 'a score is 1 to 9')
    """

    def _press(self, key: str) -> Self:
        if key == TIE:
            return self._refuse("scores tie by themselves: give both the same")
        if not (len(key) == 1 and key in "0123456789"):
            return self
        if not LOWEST_SCORE <= int(key) <= HIGHEST_SCORE:
            return self._refuse(f"a score is {LOWEST_SCORE} to {HIGHEST_SCORE}")
        return self._refuse("every answer has its score") if self.is_complete else self._with((*self.typed, key))

    @property
    def scores(self) -> list[int]:
        """Of the first answers, as they are shown."""
        return [int(key) for key in self.typed]

    @property
    def is_tying(self) -> bool:
        """Never: no key waits for another."""
        return False

    @property
    def placed(self) -> list[int]:
        """The display places that have a score, from 0."""
        return list(range(len(self.typed)))

    @property
    def is_complete(self) -> bool:
        return len(self.typed) == self.answers

    @property
    def can_commit(self) -> bool:
        """Whether every answer has its score: one that has none says nothing."""
        return self.is_complete

    @property
    def ranks(self) -> list[int | None]:
        """The rank of each answer that has a score."""
        return [*ranks_of_scores(self.scores), *[None] * (self.answers - len(self.typed))]
