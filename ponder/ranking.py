"""The words of the human loop: why answers are shown, what a person says of them, and the keys it is said with.

    ranks      1 is best, equal ranks are a tie, None is worse than every rank; one an answer, in the order shown
    tiers      the places of each rank, the best first; the unranked are the last tier

A ranking says in which order the tiers come and nothing about the order inside one. Deliberately left out: what is
learnt from rankings (`trainer.preferences`), which answers are shown (`daemon.rank_desk`), and the screen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from ponder.errors import Refused

Ranks = Sequence[int | None]

FEWEST_SHOWN = 2
MOST_SHOWN = 9
"""A digit for each answer."""

TIE = "="
BACK = "backspace"

GUIDELINES = """\
Put the answers in order, best first: the one that you would rather have been given.
1. Right beats wrong, and a wrong step that is noticed beats one that is not.
2. Of two that are equally right, the one that is easier to follow; length alone is worth nothing.
3. What only looks good (filler, repetition, begging for a good mark) is worse than a plain answer: flag it.
Equal is an answer too. Nothing usable among them: say that all are bad. Cannot tell: skip.
"""
"""What an annotator is told where a run's folder has no `guidelines.md`."""

REASONS = (
    "wrong",
    "right, but not for these reasons",
    "hard to follow",
    "too long",
    "too short",
    "not what was asked",
    "made up",
    "repeats itself",
    "broken form",
)
"""What a person can say at one key of why some answers are worse; a digit for each."""


class Stream(StrEnum):
    """Why these answers are shown."""

    RANDOM = "random"
    """Answers of a batch, drawn blindly: the reward model learns from it, and statistics may be made of it."""
    AUDIT = "audit"
    """An answer of now against one of `rlhf.lag` steps ago: whether what the reward model promised came true."""
    INFORMATIVE = "informative"
    """Where the reward model's heads disagree most."""
    HUNT = "hunt"
    """What looks most like a hack: the highest score, the longest, the most repetitive."""
    GOLD = "gold"
    """Where a verifier knows which answer is right: whether the annotator finds it."""
    REPEAT = "repeat"
    """What this annotator ranked before: whether the same is said again."""
    BOTH = "both"
    """What this annotator put in order before, to be scored one by one as well."""

    IMPORTED = "imported"
    """Ranked elsewhere, of answers that no policy of this run gave; nobody is asked for it."""

    @property
    def is_unbiased(self) -> bool:
        """Whether it was drawn blindly, so that agreement and calibration may be read off it."""
        return self in (Stream.RANDOM, Stream.AUDIT)


class Verdict(StrEnum):
    """What a person said of the answers as a whole."""

    RANKED = "ranked"
    ALL_BAD = "all_bad"
    """None of them is acceptable; nothing is said of their order."""
    SKIPPED = "skipped"
    """The person did not want to tell, or could not."""


class BrakeState(StrEnum):
    """What audits say of the reward model's promises."""

    OFF = "off"
    """Nobody looks."""
    BLIND = "blind"
    """Nobody has judged an audit lately, or none was ever judged: whether they come true is not known."""
    GREEN = "green"
    """They come true."""
    AMBER = "amber"
    """Half-way to the alarm: more audits are asked for."""
    RED = "red"
    """They no longer come true."""


# ---- ranks


def tiers(ranks: Ranks) -> list[list[int]]:
    """The places of each rank, the best first; unranked ones come last.

    >>> tiers([2, 1, None, 2, None])
    [[1], [0, 3], [2, 4]]
    """
    known = sorted({rank for rank in ranks if rank is not None})
    found = [[place for place, rank in enumerate(ranks) if rank == wanted] for wanted in known]
    unranked = [place for place, rank in enumerate(ranks) if rank is None]
    return [*found, unranked] if unranked else found


def best_rank(ranks: Ranks) -> int | None:
    """The rank of the best, where something is worse.

    >>> best_rank([2, 1, None]), best_rank([1, 1]), best_rank([None, None])
    (1, None, None)
    """
    return min((rank for rank in ranks if rank is not None), default=None) if len(tiers(ranks)) > 1 else None


def decided_pairs(ranks: Ranks) -> list[tuple[int, int]]:
    """(better, worse) places of every pair that the ranking decides.

    >>> decided_pairs([1, 2, 2, None])
    [(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)]
    """
    found = tiers(ranks)
    return [
        (better, worse)
        for place, tier in enumerate(found)
        for better in tier
        for lower in found[place + 1 :]
        for worse in lower
    ]


def count_agreement(scores: Sequence[float], ranks: Ranks) -> tuple[int, int, float]:
    """(decided pairs in the scores' order, decided pairs, the sum of better minus worse); equal scores agree not.

    >>> count_agreement([3.0, 1.0, 1.0], [1, 2, None])
    (2, 3, 4.0)
    """
    differences = [scores[better] - scores[worse] for better, worse in decided_pairs(ranks)]
    return sum(difference > 0 for difference in differences), len(differences), sum(differences)


def said_of(ranks: Ranks, one: int, other: int) -> float | None:
    """1 where the answer at place `one` is better than the `other`, 0 where worse, 1/2 a tie; None: nothing is said.

    >>> [said_of([1, 2, 2, None, None], one, other) for one, other in ((0, 1), (1, 2), (3, 0), (3, 4))]
    [1.0, 0.5, 0.0, None]
    """
    first, second = ranks[one], ranks[other]
    if first is None and second is None:
        return None
    if first == second:
        return 0.5
    return float(second is None or (first is not None and first < second))


def dense(ranks: Ranks) -> list[int | None]:
    """The same ranking with ranks 1, 2, 3, ... and no hole between them.

    >>> dense([4, 1, None, 4])
    [2, 1, None, 2]
    """
    order = {rank: place for place, rank in enumerate(sorted({rank for rank in ranks if rank is not None}), 1)}
    return [None if rank is None else order[rank] for rank in ranks]


def checked_ranks(ranks: Ranks, verdict: Verdict, answers: int) -> list[int | None]:
    """Dense ranks of so many answers; raises Refused when they do not say what the verdict says."""
    if not FEWEST_SHOWN <= answers <= MOST_SHOWN:
        message = f"a ranking is of {FEWEST_SHOWN} to {MOST_SHOWN} answers, not {answers}"
        raise Refused("bad_request", message, "`ponder rank` shows as many as `rlhf.answers` says")
    if verdict is not Verdict.RANKED:
        if any(rank is not None for rank in ranks):
            raise Refused("bad_request", f"answers that are `{verdict}` have no ranks", "leave `ranks` empty")
        return [None] * answers
    if len(ranks) != answers:
        raise Refused("bad_request", f"{answers} answers have {answers} ranks, not {len(ranks)}", "None is worse")
    if all(rank is None for rank in ranks):
        hint = "rank at least the best, or say `all_bad` or `skipped`"
        raise Refused("bad_request", "no answer has a rank", hint)
    if any(rank is not None and rank < 1 for rank in ranks):
        raise Refused("bad_request", "a rank below 1", "1 is best")
    return dense(ranks)


# ---- keys


@dataclass(frozen=True)
class TypedKeys(ABC):
    """The keys typed so far about `answers` answers; one that cannot be meant changes nothing, and is complained of."""

    answers: int
    typed: tuple[str, ...] = ()
    """Keys, as they were taken."""
    complaint: str = ""
    """Why the newest key was not taken; empty when it was."""

    def press(self, key: str) -> Self:
        """After one more key, `backspace` among them; one that is not for here changes nothing."""
        if key == BACK:
            return self._with(self.typed[:-1]) if self.typed else self._refuse("nothing to take back")
        return self._press(key)

    def type(self, keys: str) -> Self:
        """After several keys, each of one character."""
        state = self
        for key in keys:
            state = state.press(key)
        return state

    @abstractmethod
    def _press(self, key: str) -> Self:
        """After a key that takes nothing back."""

    def _with(self, typed: tuple[str, ...]) -> Self:
        return replace(self, typed=typed, complaint="")

    def _refuse(self, complaint: str) -> Self:
        return replace(self, complaint=complaint)


@dataclass(frozen=True)
class Keystrokes(TypedKeys):
    """What the keys typed so far say of `answers` answers: digits in the order of worth, `=` ties the next one.

    A key that cannot be meant changes nothing, and `complaint` says why. What is left when the order is committed is
    worse than all that was typed; a single one that is left is last.

    >>> keys = Keystrokes(4).type("2=31")
    >>> keys.ranks, keys.can_commit, keys.is_complete
    ([2, 1, 1, 3], True, False)
    >>> keys.press("2").complaint
    '2 has its place already'
    """

    def _press(self, key: str) -> Self:
        if key == TIE:
            if not self.typed:
                return self._refuse("`=` ties with an answer before it")
            return self._refuse("`=` waits for an answer") if self.is_tying else self._take(TIE)
        if not (len(key) == 1 and key in "123456789"):
            return self
        if int(key) > self.answers:
            return self._refuse(f"there are {self.answers} answers")
        return self._refuse(f"{key} has its place already") if key in self.typed else self._take(key)

    @property
    def is_tying(self) -> bool:
        """Whether the next answer ties with the one before it."""
        return self.typed[-1:] == (TIE,)

    @property
    def placed(self) -> list[int]:
        """The display places that have a rank, from 0, as they were typed."""
        return [int(key) - 1 for key in self.typed if key != TIE]

    @property
    def is_complete(self) -> bool:
        """Whether every answer was typed."""
        return len(self.placed) == self.answers

    @property
    def can_commit(self) -> bool:
        """Whether Enter has something to say: an answer, and no `=` that waits for one."""
        return bool(self.typed) and not self.is_tying

    @property
    def ranks(self) -> list[int | None]:
        """The rank of each answer in the order shown, as it would be committed now."""
        ranks: list[int | None] = [None] * self.answers
        rank = 0
        for before, key in zip(("", *self.typed), self.typed, strict=False):
            if key != TIE:
                rank += before != TIE
                ranks[int(key) - 1] = rank
        if ranks.count(None) == 1 and rank:
            ranks[ranks.index(None)] = rank + 1
        return ranks

    def _take(self, key: str) -> Self:
        return self._with((*self.typed, key))
