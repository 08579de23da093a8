"""Who can judge an answer, and the words by which charts say who judged what they show.

Deliberately left out: which of them judge a run (`ponder.judged`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Judge(StrEnum):
    """Where a number that answers are rewarded by comes from."""

    VERIFIER = "verifier"
    PERSON = "person"
    RULES = "rules"
    CODE = "own code"
    MODEL = "reward model"


class JudgedBy(StrEnum):
    """Who judges what a metric says, as the metric's declaration has it."""

    NOBODY = ""
    """It counts or measures, and says nothing of right or good."""
    VERIFIER = "verifier"
    MODEL = "reward model"
    REWARD = "as the reward"
    """Whoever gives the run's reward, or this part of it."""


MEANINGS = {
    Judge.VERIFIER: "Compares with what is right: a task's own check, the rules of a game, a function that verifies.",
    Judge.PERSON: "Said it himself, of each answer.",
    Judge.RULES: "What any text shows without a right answer: form, length, repetition, script.",
    Judge.CODE: "A recipe's own `[[rewards]]`; nobody knows what it compares with.",
    Judge.MODEL: "Has learnt from rankings what is liked: what it says is an opinion, and can be gamed.",
}
SHORT = {str(judge).rpartition(" ")[2]: judge for judge in Judge}
"""Each by one word, which a command line takes without quotes."""
OPINION = "a model's opinion"
UNKNOWN, UNKNOWN_SIGN = "unknown", "?"
WORDS = {judge: str(judge) for judge in Judge}
SIGNS = {Judge.VERIFIER: "V", Judge.MODEL: "O", Judge.PERSON: "P", Judge.CODE: "C", Judge.RULES: "R"}
"""Where there is no room for words."""
SIGN_WORDS = {
    **{sign: str(judge) for judge, sign in SIGNS.items()},
    SIGNS[Judge.MODEL]: "opinion of a model",
    UNKNOWN_SIGN: UNKNOWN,
}


MOST_TURNS = 2
"""Where judges change more often, all are said at once."""


@dataclass(frozen=True)
class Judges:
    """Who judged a curve: together, and one set of them after another where a run's stages differ.

    >>> both = Judges(((Judge.VERIFIER,), (Judge.VERIFIER, Judge.MODEL)))
    >>> for label in both.labels:
    ...     label
    "judged by: verifier, then verifier + reward model (a model's opinion)"
    "verifier, then verifier + model's opinion"
    'V, V+O'
    >>> Judges().labels, Judges(is_known=False).labels
    ((), ('judged by: unknown', 'judge unknown', '?'))
    """

    in_turn: tuple[tuple[Judge, ...], ...] = ()
    """None: nobody judged it."""
    is_known: bool = True

    @property
    def words(self) -> str:
        """All of it; empty where nobody judged."""
        return self._said({**WORDS, Judge.MODEL: f"{Judge.MODEL} ({OPINION})"})

    @property
    def labels(self) -> tuple[str, ...]:
        """The same as charts say it, the longest first."""
        if not self.is_known:
            return f"judged by: {UNKNOWN}", f"judge {UNKNOWN}", UNKNOWN_SIGN
        if not self.in_turn:
            return ()
        brief = self._said({**WORDS, Judge.MODEL: OPINION.removeprefix("a ")})
        return f"judged by: {self.words}", brief, self._said(SIGNS, "+", ", ", "")

    @property
    def signs(self) -> frozenset[str]:
        """Those of the shortest label, each of which `SIGN_WORDS` explains."""
        judges = frozenset(SIGNS[judge] for group in self.in_turn for judge in group)
        return judges if self.is_known else frozenset(UNKNOWN_SIGN)

    def fitting(self, room: int) -> str:
        """The longest label of so many characters at most, or the shortest there is."""
        return next((label for label in self.labels if len(label) <= room), self.labels[-1] if self.labels else "")

    def _said(
        self, words: dict[Judge, str], together: str = " + ", after: str = ", then ", differs: str = ", by stage"
    ) -> str:
        if not self.is_known:
            return UNKNOWN
        if len(self.in_turn) > MOST_TURNS:
            everybody = {judge for group in self.in_turn for judge in group}
            return together.join(words[judge] for judge in Judge if judge in everybody) + differs
        return after.join(together.join(words[judge] for judge in group) for group in self.in_turn)
